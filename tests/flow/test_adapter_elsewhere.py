"""A run's folder in an environment that has PEFT and transformers and no tunemill: the same logits, the same answer."""

import json
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import torch
from clients.environments import EnvironmentAbsent, pinned
from engines.absent import skip_or_fail
from fakes.tiny_model import save_tiny_model
from packaging.requirements import Requirement
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tunemill.trainer.artefact import Made, assemble
from tunemill.trainer.job import Order
from tunemill.trainer.model import load_model, load_tokenizer
from tunemill.trainer.publish import MERGED
from tunemill.trainer.recipe import resolve
from tunemill.trainer.train import Trained

pytestmark = pytest.mark.timeout(600)

SCRIPT = """
import json, sys
try:
    import tunemill
except ImportError:
    pass
else:
    sys.exit("tunemill is here")
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, folder, merged = sys.argv[1:]
def told(model, folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "where is my parcel"}]
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.eval().generate(**asked, max_new_tokens=12, do_sample=False)
    return {"logits": model(**asked).logits[0, -1].tolist(), "answer": tokenizer.decode(answer[0])}
adapter = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
print(json.dumps([told(adapter, folder), told(AutoModelForCausalLM.from_pretrained(merged), merged)]))
"""


def pins(name: str, found: dict[str, str]) -> dict[str, str]:
    """The versions here of a package and all that it needs."""
    try:
        here = distribution(name)
    except PackageNotFoundError:  # for another platform
        return found
    if here.metadata["Name"] not in found:
        found[here.metadata["Name"]] = here.version
        for line in here.requires or ():
            needed = Requirement(line)
            extras = needed.extras or {""}
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                pins(needed.name, found)
                for extra in extras - {""}:
                    _pin_extra(needed.name, extra, found)
    return found


def _pin_extra(name: str, extra: str, found: dict[str, str]) -> None:
    for line in distribution(name).requires or ():
        needed = Requirement(line)
        if needed.marker is not None and needed.marker.evaluate({"extra": extra}):
            pins(needed.name, found)
            for further in needed.extras:
                _pin_extra(needed.name, further, found)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    lock = tmp_path / "peft.txt"
    lock.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins("peft", {}).items())))
    try:
        return pinned(lock)
    except EnvironmentAbsent as error:
        skip_or_fail(f"no environment with PEFT can be made here: {error}")


def a_folder(tmp_path: Path) -> tuple[Path, Path]:
    """A base model, and a run's folder with an adapter that does something and with merged weights."""
    base, folder = save_tiny_model(tmp_path / "base", ["where is my parcel"]), tmp_path / "artefact"
    names = {"run_id": "run1", "attempt": 1, "project": "default", "name": "tickets", "version": 1, "digest": "d"}
    order = Order(**names, manifest_url="/m", recipe=resolve({"base": str(base), "precision": "fp32", "merge": True}))
    model: Any = load_model(order.recipe, base)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    kept = {"before": None, "after": None}
    result = {"metrics": {}, "retention": kept, "forgetting": {"says": []}, "gates": []}
    made = Made(Trained(steps=1, trained_tokens=1, seconds=1.0), torch.float32, base)
    said: dict[str, Any] = {"status": "succeeded", "result": result, "report": "", "samples": [], "rows": []}
    assemble(model, load_tokenizer(base), folder, order=order, made=made, **said)
    return base, folder


@torch.no_grad()
def told(model: Any, folder: Path) -> dict[str, Any]:
    """What the same script tells of a model here."""
    tokenizer = load_tokenizer(folder)
    messages = [{"role": "user", "content": "where is my parcel"}]
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.eval().generate(**asked, max_new_tokens=12, do_sample=False)
    return {"logits": model(**asked).logits[0, -1].tolist(), "answer": tokenizer.decode(answer[0])}


def test_plain_peft_and_transformers_load_it_and_say_the_same(tmp_path: Path, elsewhere: Path) -> None:
    base, folder = a_folder(tmp_path)
    arguments = [str(elsewhere), "-I", "-c", SCRIPT, str(base), str(folder), str(folder / MERGED)]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    there = json.loads(done.stdout.splitlines()[-1])
    untuned = AutoModelForCausalLM.from_pretrained(base)
    here = [
        told(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder), folder),
        told(AutoModelForCausalLM.from_pretrained(folder / MERGED), folder / MERGED),
    ]
    assert there == here
    assert here[0]["answer"] == here[1]["answer"] != told(untuned, folder)["answer"]

"""What a run leaves: its files, what they say, and weights that load without tunemill and compute the same."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import yaml
from fakes.tiny_model import save_tiny_model
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunemill.schemas.row_scores import RowScores
from tunemill.trainer.artefact import Made, assemble
from tunemill.trainer.identity import identify_base
from tunemill.trainer.job import Order
from tunemill.trainer.model import load_model, load_tokenizer
from tunemill.trainer.publish import MANIFEST, MERGED, manifest_sha256, upload, whole_weights, write_manifest
from tunemill.trainer.recipe import resolve
from tunemill.trainer.servable import obstacles, serving_notes
from tunemill.trainer.train import Trained

LOSS = {"unit": "nats per trained token", "rows": 12, "before": 2.0, "after": 1.0, "low": -1.5, "high": -0.5}
RESULT: dict[str, Any] = {
    "metrics": {"loss": LOSS},
    "retention": {"before": 3.0, "after": None},
    "forgetting": {"says": ["2 of 60 general questions are lost."]},
    "gates": [{"name": "task_gain", "outcome": "pass", "value": 0.5, "limit": 0.0, "says": "the loss fell"}],
}
ROWS = RowScores(name="f1", of="held_out", rows_of="d" * 64, rows=(0, 2), values=(0.5, 1.0))
PROMPT = torch.tensor([[40, 50, 60, 70, 80, 90]])


def an_order(base: Path, **recipe: Any) -> Order:
    return Order(
        run_id="run1",
        attempt=1,
        project="default",
        name="tickets",
        version=3,
        digest="d" * 64,
        manifest_url="/files/m.json",
        sources_url="/files/sources/s.json",
        revision=2,
        recipe=resolve({"base": str(base), "precision": "fp32", **recipe}),
    )


def tuned(order: Order) -> Any:
    """A model whose adapter does something."""
    model: Any = load_model(order.recipe, Path(order.recipe.base))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or order.recipe.method == "full":
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def made(tmp_path: Path, base: Path, **recipe: Any) -> tuple[Any, Path, list[str]]:
    """A tuned model, its folder and what is noted."""
    order, folder = an_order(base, **recipe), tmp_path / "artefact"
    folder.mkdir()
    (folder / "of_a_killed_attempt.safetensors").write_bytes(b"")
    model = tuned(order)
    said = {"row_id": "r1", "before": "a", "after": "b"}
    notes = assemble(
        model,
        load_tokenizer(base),
        folder,
        order=order,
        status="succeeded",
        result=RESULT,
        report="# Run run1",
        samples=[said],
        rows=[ROWS],
        made=Made(Trained(steps=3, trained_tokens=99, seconds=1.0), torch.float32, base),
    )
    return model, folder, notes


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=PROMPT).logits


def whole(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def test_a_lora_folder_says_what_it_was_made_of(tmp_path: Path, tiny_base: Path) -> None:
    model, folder, notes = made(tmp_path, tiny_base, r=32)
    manifest = json.loads((folder / MANIFEST).read_text())
    assert set(manifest["files"]) == {
        "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "tokenizer.json",
        "tokenizer_config.json", "README.md", "report.md", "row_scores.json", "samples.jsonl",
    }  # fmt: skip
    assert (manifest["run_id"], manifest["status"], manifest["scores"]) == ("run1", "succeeded", RESULT)
    assert manifest["dataset"] == {
        "project": "default", "name": "tickets", "version": 3, "revision": 2, "digest": "d" * 64,
        "manifest_url": "/files/m.json", "sources_url": "/files/sources/s.json",
    }  # fmt: skip
    assert manifest["environment"]["packages"]["torch"] == str(torch.__version__).partition("+")[0]
    assert (manifest["environment"]["device"], manifest["environment"]["dtype"]) == ("cpu", "float32")
    assert (manifest["recipe"]["learning_rate"], manifest["recipe"]["r"]) == ("auto", 32)
    assert manifest["base"]["run"] is None
    assert notes == manifest["serving"] == ["start vLLM with --max-lora-rank 32: its default is 16"]
    assert json.loads((folder / "samples.jsonl").read_text()) == {"row_id": "r1", "before": "a", "after": "b"}
    assert msgspec.json.decode((folder / "row_scores.json").read_bytes(), type=list[RowScores]) == [ROWS]
    front, page = (folder / "README.md").read_text().removeprefix("---\n").split("---\n", 1)
    assert yaml.safe_load(front)["base_model"] == tiny_base.name
    assert yaml.safe_load(front)["library_name"] == "peft"
    shown = (
        "tickets@v3",
        "d" * 64,
        "| 2.000 | 1.000 | -1.500 to -0.500 | 12 |",
        "the loss fell",
        "2 of 60",
        "not measured",
    )
    assert [said for said in shown if said not in page] == []
    assert AutoTokenizer.from_pretrained(folder).chat_template == load_tokenizer(tiny_base).chat_template
    loaded = PeftModel.from_pretrained(whole(tiny_base), folder)
    assert torch.equal(logits(loaded), logits(model))


@pytest.mark.parametrize("options", [{}, {"rslora": True}, {"dora": True}])
def test_merged_weights_compute_what_the_adapter_does(tmp_path: Path, tiny_base: Path, options: Any) -> None:
    model, folder, notes = made(tmp_path, tiny_base, merge=True, **options)
    difference = (logits(whole(folder / MERGED)) - logits(model)).abs().max()
    assert difference < 1e-5
    assert (logits(model) - logits(whole(tiny_base))).abs().max() > 1e-2, "the adapter does something"
    assert AutoTokenizer.from_pretrained(folder / MERGED).chat_template
    assert "merged/model.safetensors" in json.loads((folder / MANIFEST).read_text())["files"]
    assert whole_weights(folder) == identify_base(str(folder / MERGED), None).weights
    assert bool(notes) == bool(options.get("dora"))


def test_a_qlora_adapter_is_merged_into_the_full_weights(tmp_path: Path, tiny_base: Path) -> None:
    _, folder, notes = made(tmp_path, tiny_base, method="qlora", merge=True)
    expected = PeftModel.from_pretrained(whole(tiny_base), folder)
    assert (logits(whole(folder / MERGED)) - logits(expected)).abs().max() < 1e-5
    assert "4-bit" in notes[0]


@pytest.mark.parametrize(
    ("options", "why"),
    [({"dora": True}, "DoRA"), ({"target_modules": ("q_proj", "lm_head")}, "lm_head")],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # peft's, on adapting a tied output layer
def test_what_no_server_loads_is_merged_unasked(tmp_path: Path, options: Any, why: str) -> None:
    base = save_tiny_model(tmp_path / "base", ["a text"])
    _, folder, notes = made(tmp_path, base, **options)
    assert why in notes[0]
    assert (folder / MERGED / "config.json").exists()


def test_full_training_leaves_a_model_and_what_is_trained_on_it_names_it(tmp_path: Path, tiny_base: Path) -> None:
    model, folder, _ = made(tmp_path, tiny_base, method="full")
    assert torch.equal(logits(whole(folder)), logits(model))
    assert not (folder / MERGED).exists()
    assert whole_weights(folder) == identify_base(str(folder), None).weights
    (tmp_path / "next").mkdir()
    _, child, _ = made(tmp_path / "next", folder)
    parent = json.loads((child / MANIFEST).read_text())["base"]["run"]
    assert parent == {"run_id": "run1", "manifest_sha256": manifest_sha256(folder)}
    assert whole_weights(child) is None, "an adapter"


def test_a_link_to_merged_weights_is_named_as_the_run_that_made_them(tmp_path: Path, tiny_base: Path) -> None:
    _, folder, _ = made(tmp_path, tiny_base, merge=True)
    (tmp_path / "next").mkdir()
    link = tmp_path / "next" / "base"
    link.symlink_to(folder / MERGED)
    _, child, _ = made(tmp_path / "next", link)
    assert json.loads((child / MANIFEST).read_text())["base"]["run"]["run_id"] == "run1"


def test_a_file_beside_the_base_that_is_called_as_our_manifest_spoils_no_run(tmp_path: Path) -> None:
    base = save_tiny_model(tmp_path / "models" / "base", ["a text"])
    (tmp_path / "models" / MANIFEST).write_text("// not JSON")
    _, folder, _ = made(tmp_path, base)
    assert json.loads((folder / MANIFEST).read_text())["base"]["run"] is None


def test_what_vllm_takes_is_held_to_its_rules(tmp_path: Path, tiny_base: Path) -> None:
    _, folder, _ = made(tmp_path, tiny_base, r=8)
    assert (obstacles(folder), serving_notes(folder)) == ([], [])
    config = json.loads((folder / "adapter_config.json").read_text())
    for change, why in (
        ({"bias": "all"}, "biases"),
        ({"modules_to_save": ["lm_head"]}, "whole modules"),
        ({"base_model_name_or_path": ""}, "no base model"),
        ({"rank_pattern": {"q_proj": 4}}, "differ by layer"),
        ({"r": 1024}, "above 512"),
    ):
        (folder / "adapter_config.json").write_text(json.dumps(config | change))
        (found,) = obstacles(folder)
        assert why in found


def test_a_folder_is_uploaded_whole(tmp_path: Path) -> None:
    folder = tmp_path / "artefact"
    (folder / MERGED).mkdir(parents=True)
    for name in ("README.md", f"{MERGED}/model.safetensors"):
        (folder / name).write_text(name)
    write_manifest(folder, {"run_id": "r"})
    for _ in range(2):
        url = upload(folder, str(tmp_path / "files"), project="default", run_id="r")
    there = {str(path.relative_to(url)): path.read_bytes() for path in Path(url).rglob("*") if path.is_file()}
    assert there == {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files = json.loads(there[MANIFEST])["files"]
    assert files[f"{MERGED}/model.safetensors"]["sha256"] == sha256(b"merged/model.safetensors").hexdigest()


def test_only_what_has_changed_is_uploaded_again(tmp_path: Path) -> None:
    folder = tmp_path / "artefact"
    folder.mkdir()
    for text in ("first", "second"):
        for name in ("model.safetensors", "report.md"):
            (folder / name).write_text(text)
        write_manifest(folder, {"said": text})
        only = None if text == "first" else ("report.md", "samples.jsonl")
        url = Path(upload(folder, str(tmp_path / "files"), project="default", run_id="r", only=only))
    assert [(url / name).read_text() for name in ("model.safetensors", "report.md")] == ["first", "second"]
    assert json.loads((url / MANIFEST).read_text())["said"] == "second"

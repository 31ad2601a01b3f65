"""A run settles what its recipe leaves open before it loads anything, once for all its attempts."""

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fakes.tiny_model import publish_dataset, tickets
from msgspec.structs import replace

from tunemill.trainer.attempt import run
from tunemill.trainer.errors import DigestMismatch, DoesNotFit
from tunemill.trainer.identity import BaseIdentity, identify
from tunemill.trainer.job import Line, Listener, Order, Speaker, WorkFolder
from tunemill.trainer.recipe import AUTO, resolve


def order(tmp_path: Path, base: Path, **knobs: Any) -> Order:
    url, digest = publish_dataset(tmp_path / "files", "tickets", {"train": tickets(24), "test": tickets(4, start=500)})
    quick = {"max_steps": 2, "precision": "fp32", "eval_generate_rows": 0, "warmup_share": 0.0}
    return Order(
        run_id="run-1",
        attempt=1,
        project="default",
        name="tickets",
        version=1,
        digest=digest,
        manifest_url=url,
        recipe=resolve({"base": str(base), **quick, **knobs}),
    )


def lines(folder: WorkFolder, given: Order) -> list[Line]:
    folder.path.mkdir(parents=True, exist_ok=True)
    with closing(Speaker(folder.progress(given.attempt))) as speaker:
        run(given, folder, speaker, lambda: False)
    return Listener(folder.progress(given.attempt)).lines()


def first_rate(told: list[Line]) -> float:
    return next(float(line.data["learning_rate"]) for line in told if line.kind == "metrics")


def test_each_settled_knob_is_told_with_its_reason_and_stands_in_the_plan(tiny_base: Path, tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path / "work")
    told = lines(folder, order(tmp_path, tiny_base))

    plan = json.loads(folder.plan.read_bytes())
    assert {one["name"] for one in plan["derived"]} == set(AUTO)
    said = [line.message for line in told if line.kind == "message"]
    assert all(f"{one['name']} {one['value']}: {one['reason']}" in said for one in plan["derived"])
    assert first_rate(told) == plan["recipe"]["learning_rate"] == 2e-4
    assert told[-1].data["result"]["plan"]["steps"] == 2


def test_later_attempts_keep_what_the_first_settled_unless_memory_gave_out(tiny_base: Path, tmp_path: Path) -> None:
    first, second, third = (WorkFolder(tmp_path / name) for name in ("first", "second", "third"))
    given = order(tmp_path, tiny_base)
    lines(first, given)
    settled = json.loads(first.plan.read_bytes())
    settled["recipe"]["learning_rate"] = 0.123
    for folder in (second, third):
        folder.path.mkdir()
        folder.plan.write_text(json.dumps(settled))

    assert first_rate(lines(second, given)) == 0.123
    assert first_rate(lines(third, replace(given, squeeze=1))) == 2e-4
    squeezed = json.loads(third.plan.read_bytes())["recipe"]
    assert squeezed["gradient_checkpointing"]
    assert squeezed["tokens_per_forward"] < settled["recipe"]["tokens_per_forward"]


def test_another_base_in_its_place_is_refused_and_not_trained_on(tiny_base: Path, tmp_path: Path) -> None:
    given = order(tmp_path, tiny_base)
    ordered = identify(given.recipe, BaseIdentity("other weights", "other tokenizer"))

    with pytest.raises(DigestMismatch, match="weights or configuration, the base model's tokenizer"):
        lines(WorkFolder(tmp_path / "work"), replace(given, identity=ordered))
    assert not WorkFolder(tmp_path / "work").plan.exists()


def test_what_cannot_fit_is_refused_before_a_weight_is_loaded(tiny_base: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    shutil.copytree(tiny_base, large)
    config = json.loads((large / "config.json").read_text())
    config |= {"hidden_size": 8192, "intermediate_size": 28_672, "num_hidden_layers": 80}
    config |= {"num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128}
    (large / "config.json").write_text(json.dumps(config))
    (large / "model.safetensors").write_bytes(b"\0" * 64)  # who reads it fails otherwise
    folder = WorkFolder(tmp_path / "work")

    with pytest.raises(DoesNotFit, match="of memory and"):
        lines(folder, order(tmp_path, large, method="full"))
    assert not folder.plan.exists()

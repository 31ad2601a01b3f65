"""A partial recipe becomes a whole one, or an error that says what to write instead."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from tunemill.trainer.errors import BaseNotFound, DigestMismatch, InvalidRecipe
from tunemill.trainer.identity import Identity, identify, identify_base, refuse_changed, run_key
from tunemill.trainer.recipe import METHODS, resolve, spelled


@pytest.mark.parametrize("method", METHODS)
def test_packaged_recipes_fill_in_what_is_not_given(method: str) -> None:
    recipe = resolve({"method": method, "base": "/models/x", "epochs": 4, "gates": {"retention_reject": 0.5}})

    assert (recipe.method, recipe.epochs, recipe.replay_share) == (method, 4, 0.1)
    assert (recipe.gates.retention_reject, recipe.gates.retention_warn) == (0.5, 0.05)


@pytest.mark.parametrize(
    ("partial", "said"),
    [
        ({"method": "lora", "base": "b", "learning_rat": 1e-3}, "learning_rate"),
        ({"method": "lora", "base": "b", "gates": {"retention": 1}}, "gates.retention_"),
        ({"method": "dora", "base": "b"}, "full, lora, qlora"),
        ({"method": "lora"}, "set base"),
        ({"method": "full", "base": "b", "dora": True, "merge": True}, "set method to lora"),
    ],
)
def test_the_error_names_the_remedy(partial: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        resolve(partial)

    assert said in caught.value.remedy


@pytest.mark.parametrize(
    "knob",
    [
        {"epochs": 0},
        {"learning_rate": -1.0},
        {"overlong": "cut"},
        {"rows_per_step": "many"},
        {"gates": {"retention_reject": float("nan")}},
        {"gates": {"no_slice_worse_than": float("nan")}},
    ],
)
def test_impossible_values_are_refused(knob: dict[str, object]) -> None:
    with pytest.raises(InvalidRecipe, match=next(iter(knob))):
        resolve({"method": "lora", "base": "b", **knob})


def test_a_missing_base_model_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(BaseNotFound, match="does not exist"):
        identify_base(str(tmp_path / "nothing"), None)
    with pytest.raises(BaseNotFound, match=r"safetensors"):
        identify_base(str(tmp_path), None)
    with pytest.raises(BaseNotFound, match="not pinned"):
        identify_base("someone/model", "main")


def test_other_weights_are_another_base_though_their_size_and_time_are_the_same(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_bytes(b"{}")
    before, weights = identify_base(str(tmp_path), None), tmp_path / "model.safetensors"
    other = tmp_path / "other"
    other.write_bytes(b"[]")
    os.utime(other, ns=(weights.stat().st_atime_ns, weights.stat().st_mtime_ns))
    other.replace(weights)

    assert identify_base(str(tmp_path), None).weights != before.weights


def test_a_run_key_changes_with_all_that_determines_the_result(tiny_base: Path, tmp_path: Path) -> None:
    def key(digest: str = "d", project: str = "default", **knobs: object) -> str:
        recipe = resolve({"method": "lora", "base": str(tiny_base), **knobs})
        return run_key(project, digest, identify(recipe, identify_base(recipe.base, None)), recipe)

    moved = tmp_path / "moved"
    moved.symlink_to(tiny_base)
    replay = tmp_path / "replay.jsonl"
    replay.write_text('{"messages": []}\n')
    keys = [key(), key("e"), key(seed=1), key(epochs=9), key(replay=str(replay)), key(project="other")]

    assert len(set(keys)) == len(keys)
    assert key(base=str(moved)) == key(), "the same weights in another folder are the same base"


def test_a_run_is_on_what_it_was_ordered_with(tmp_path: Path) -> None:
    names = {"weights": "model.safetensors", "tokenizer": "tokenizer.json", "template": "t.jinja"}
    names |= {"retention": "general.jsonl", "replay": "more.jsonl", "configuration": "config.json"}
    files = {what: tmp_path / name for what, name in names.items()}
    for file in files.values():
        file.write_text("as it was")
    named = {what: str(files[what]) for what in ("template", "retention", "replay")}
    recipe = resolve({"base": str(tmp_path), **named})

    def found() -> Identity:
        return identify(recipe, identify_base(recipe.base, None))

    ordered = found()
    for what, file in files.items():
        refuse_changed(ordered, found(), recipe)
        file.write_text("another")
        with pytest.raises(DigestMismatch, match=what):
            refuse_changed(ordered, found(), recipe)
        file.write_text("as it was")
    packaged = resolve({"base": str(tmp_path)})
    refuse_changed(ordered, replace(ordered, retention="x", replay="y"), packaged)


def test_pairs_are_not_trained_on_with_knobs_that_would_do_nothing() -> None:
    knobs = {"early_stopping": {}, "kl_to_base": 0.1, "replay_share": 0.1, "replay": "a", "replay_answers": "base"}
    for knob, value in knobs.items():
        with pytest.raises(InvalidRecipe, match=f"takes no {knob}$"):
            resolve({"base": "/b", "objective": "dpo", knob: value})
    with pytest.raises(InvalidRecipe, match="cannot be split"):
        resolve({"base": "/b", "objective": "dpo", "overlong": "split"})
    plain = resolve({"base": "/b", "objective": "dpo"})
    assert (plain.dpo.beta, plain.replay_share) == (0.1, 0.0)
    assert resolve(spelled(plain)) == plain

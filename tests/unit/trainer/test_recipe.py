"""A partial recipe becomes a whole one, or an error that says what to write instead."""

from pathlib import Path

import pytest

from tunemill.trainer.errors import BaseNotFound, InvalidRecipe
from tunemill.trainer.identity import identify_base, run_key
from tunemill.trainer.recipe import METHODS, resolve


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


def test_a_run_key_changes_with_all_that_determines_the_result(tiny_base: Path, tmp_path: Path) -> None:
    def key(digest: str = "d", project: str = "default", **knobs: object) -> str:
        recipe = resolve({"method": "lora", "base": str(tiny_base), **knobs})
        return run_key(project, digest, identify_base(recipe.base, None), recipe)

    moved = tmp_path / "moved"
    moved.symlink_to(tiny_base)
    replay = tmp_path / "replay.jsonl"
    replay.write_text('{"messages": []}\n')
    keys = [key(), key("e"), key(seed=1), key(epochs=9), key(replay=str(replay)), key(project="other")]

    assert len(set(keys)) == len(keys)
    assert key(base=str(moved)) == key(), "the same weights in another folder are the same base"


def test_pairs_are_not_trained_on_with_knobs_that_would_do_nothing() -> None:
    for knobs in ({"early_stopping": {}}, {"kl_to_base": 0.1}):
        with pytest.raises(InvalidRecipe, match="neither early_stopping nor kl_to_base"):
            resolve({"base": "/b", "objective": "dpo", **knobs})
    assert resolve({"base": "/b", "objective": "dpo"}).dpo.beta == 0.1

"""The schema for editors, the file to copy and the page say what the struct says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tunemill.cli.recipe import partial_recipe
from tunemill.trainer.recipe import AUTO, Recipe, resolve, spelled
from tunemill.trainer.recipe_schema import EXAMPLE_BASE, recipe_schema, recipe_table, recipe_yaml

ROOT = Path(__file__).parents[3]
RECIPES = ROOT / "trainer" / "recipes"
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
SCHEMA = json.loads((RECIPES / "recipe.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


def test_what_is_packaged_and_written_is_what_the_struct_says() -> None:
    assert recipe_schema() == SCHEMA, "make recipes"
    assert recipe_yaml() == (RECIPES / "recipe.yaml").read_text(), "make recipes"
    assert PAGE.endswith(f"\n\n{recipe_table()}"), "make recipes"
    Draft202012Validator.check_schema(SCHEMA)


def test_every_knob_has_an_effect_and_every_size_a_unit() -> None:
    knobs = {**SCHEMA["properties"], **{k: v for d in SCHEMA["$defs"].values() for k, v in d["properties"].items()}}
    assert set(SCHEMA["properties"]) == set(Recipe.__struct_fields__) - {"auto"}
    assert [name for name, knob in knobs.items() if not (knob.get("description") or _struct_of(knob))] == []
    sized = re.compile(r"(_tokens|_rows|_steps|_nats|_share|rows_per_step|tokens_per_forward)$")
    assert [name for name, knob in knobs.items() if sized.search(name) and "x-unit" not in knob] == []


def _struct_of(knob: dict[str, Any]) -> str:
    return str(knob.get("$ref") or knob.get("anyOf", ""))


def test_the_packaged_file_is_the_recipe_of_all_defaults() -> None:
    said = partial_recipe(None, None, RECIPES / "recipe.yaml")
    assert said is not None
    assert VALIDATOR.is_valid(said)
    assert resolve(said) == resolve({"base": EXAMPLE_BASE})
    assert set(said) == set(Recipe.__struct_fields__) - {"auto"}


def test_what_is_null_until_asked_for_can_be_uncommented() -> None:
    text = (RECIPES / "recipe.yaml").read_text()
    asked = text.replace("early_stopping: null", "early_stopping:").replace("#   ", "  ")
    assert resolve(yaml.safe_load(asked)).early_stopping is not None


def test_every_example_of_the_page_is_a_recipe(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) >= 4
    for text in examples:
        file = tmp_path / "recipe.yaml"
        file.write_text(text)
        said = partial_recipe(None, None, file)
        assert said is not None
        assert [error.message for error in VALIDATOR.iter_errors(said)] == []
        assert resolve(said).base


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rat": 1e-3},
        {"epochs": 0},
        {"epochs": "many"},
        {"r": "auto"},
        {"overlong": "cut"},
        {"gates": {"retention": 1}},
        {"early_stopping": {"patience": 0}},
        {"auto": ["epochs"]},
    ],
)
def test_what_the_trainer_refuses_an_editor_marks(wrong: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({"base": "b", **wrong})


def test_auto_may_be_written_where_it_is_the_default() -> None:
    said = {"base": "b", **dict.fromkeys(AUTO, "auto")}
    assert VALIDATOR.is_valid(said)
    assert resolve(said) == resolve({"base": "b"})
    assert VALIDATOR.is_valid(spelled(resolve(said)))

"""The recipe's knobs as others read them, all made from `Recipe`: a JSON schema for editors, a commented file to copy, a table.

`make recipes` writes them anew; a test holds them equal to this.
"""

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tunemill.trainer.recipe import AUTO, AUTO_SPELLED, Recipe

EXAMPLE_BASE = "/models/smollm2-135m-instruct"
_TABLE_HEADING = "## Every knob\n\n"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> dict[str, Any]:
    """The JSON schema of a recipe file. No knob must be there: the command line may give `base`."""
    definitions: dict[str, Any] = msgspec.json.schema(Recipe)["$defs"]
    whole = definitions.pop("Recipe")
    del whole["properties"]["auto"], whole["required"]
    del definitions["VersionRows"]  # the registry's, not a person's
    for name in ("replay", "retention"):
        knob = whole["properties"][name]
        del knob["anyOf"]
        knob["type"] = "string"
    for name in AUTO:
        knob = whole["properties"][name]
        kept = {key: knob.pop(key) for key in ("description", "x-unit") if key in knob}
        del knob["default"]
        whole["properties"][name] = {**kept, "anyOf": [{"const": AUTO_SPELLED}, knob], "default": AUTO_SPELLED}
    return {"$schema": _DIALECT, **whole, "title": "A tunemill recipe", "$defs": definitions}


def recipe_yaml() -> str:
    """A recipe with every knob at its default, and above each what it does."""
    schema = recipe_schema()
    lines = [
        "# yaml-language-server: $schema=recipe.schema.json",
        "# Every knob with its default. A recipe may leave out all but base.",
    ]
    for name, knob in schema["properties"].items():
        nested = _nested(knob, schema)
        by_default = nested and knob["default"] is not None
        lines += ["", *_comment(_meaning(knob, schema), knob, indent="")]
        lines.append(f"{name}:" if by_default else f"{name}: {_value(knob.get('default', EXAMPLE_BASE))}")
        indent = "  " if by_default else "#   "  # what is null until it is asked for is shown as a comment
        for inner, inside in nested.items():
            lines += _comment(inside["description"], inside, indent=indent)
            lines.append(f"{indent}{inner}: {_value(inside['default'])}")
    return "\n".join(lines) + "\n"


def recipe_table() -> str:
    """A Markdown table of every knob."""
    schema = recipe_schema()
    lines = ["| knob | value | unit | default | effect |", "|---|---|---|---|---|"]
    for name, knob in schema["properties"].items():
        lines.append(_row(name, knob, schema))
        lines += [_row(f"{name}.{inner}", inside, schema) for inner, inside in _nested(knob, schema).items()]
    return "\n".join(lines) + "\n"


def _row(name: str, knob: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    default = _value(knob["default"]) if "default" in knob else "must be given"
    if isinstance(knob.get("default"), dict):
        default = "as below"
    effect = _meaning(knob, schema)
    return f"| `{name}` | {_allowed(knob)} | {knob.get('x-unit', '')} | {default} | {effect} |"


def _comment(meaning: str, knob: Mapping[str, Any], *, indent: str) -> list[str]:
    said = "; ".join(part for part in (knob.get("x-unit", ""), _allowed(knob)) if part)
    return textwrap.wrap(f"{meaning} [{said}]", 118, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _meaning(knob: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    return str(knob.get("description") or schema["$defs"][_named(knob)]["description"])


def _allowed(knob: Mapping[str, Any]) -> str:
    """The values a knob takes, for a person."""
    if "anyOf" in knob:
        return ", ".join(_allowed(choice) for choice in knob["anyOf"])
    if "const" in knob:
        return str(knob["const"])
    if "enum" in knob:
        return ", ".join(knob["enum"])
    if "minimum" in knob:
        return f"{_number(knob['minimum'])} to {_number(knob['maximum'])}"
    words = {"boolean": "true, false", "array": "a list of text", "string": "text", "null": "null", "number": "number"}
    return words[knob["type"]] if "type" in knob else "fields"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _nested(knob: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The knobs inside a knob, none for most."""
    name = _named(knob)
    found: Mapping[str, Any] = schema["$defs"][name]["properties"] if name else {}
    return found


def _named(knob: Mapping[str, Any]) -> str:
    return next((choice["$ref"].rpartition("/")[2] for choice in _choices(knob) if "$ref" in choice), "")


def _choices(knob: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield knob
    yield from knob.get("anyOf", ())


def _value(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, str) else value


def main(folder: Path, page: Path) -> None:
    """Write them anew: schema and file into the folder, the table to the end of the page."""
    (folder / "recipe.schema.json").write_text(json.dumps(recipe_schema(), indent=2) + "\n")
    (folder / "recipe.yaml").write_text(recipe_yaml())
    said, heading, _ = page.read_text(encoding="utf-8").partition(_TABLE_HEADING)
    page.write_text(said + heading + recipe_table(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

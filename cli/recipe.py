"""What to train, as the command line says it: options and a YAML file become one partial recipe, `name@vN` a version."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from tunemill.cli.output import complain

_VERSION = re.compile(r"(?P<name>[^@]+)@(?P<version>[^@]+)")


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: `5e-4` is one, which YAML 1.1 took for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+"),
    list("-+.0123456789"),
)

Method = Annotated[str | None, typer.Option(help="lora, qlora or full.")]
Base = Annotated[str | None, typer.Option(help="The model to start from: a folder, or a hub id with its revision.")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="A YAML file with any fields of a recipe.")]


def partial_recipe(method: str | None, base: str | None, file: Path | None) -> dict[str, Any] | None:
    """The file's fields with the options over them; None if nothing was said. The trainer fills in the rest."""
    said = {**_read(file), **{name: value for name, value in (("method", method), ("base", _place(base))) if value}}
    return said or None


def name_and_version(text: str) -> tuple[str, str]:
    """`name@v3` as its two parts: a number without its v, `latest`, or an alias."""
    found = _VERSION.fullmatch(text)
    if found is None:
        complain(f"{text!r} names no dataset version; it should look like support@v1")
        raise typer.Exit(2)
    version = found["version"]
    return found["name"], version[1:] if re.fullmatch(r"v\d+", version) else version


def _place(base: str | None) -> str | None:
    """A folder of this machine in full: the trainer has another working directory."""
    return str(Path(base).resolve()) if base is not None and Path(base).is_dir() else base


def _read(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        fields = _Loader(file.read_text()).get_single_data()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        complain(f"{file} cannot be read as YAML ({type(error).__name__})")
        raise typer.Exit(2) from error
    if not isinstance(fields, dict):
        complain(f"{file} should hold the fields of a recipe, such as `method: lora`")
        raise typer.Exit(2)
    return fields

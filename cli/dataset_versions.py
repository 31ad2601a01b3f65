"""`tunemill dataset publish` and `diff`: versions of a dataset."""

from typing import Annotated

import typer

from tunemill.cli.client import DEFAULT_URL, AsJson, DatasetName, Key, Url, at, connect
from tunemill.cli.output import cell, complain, tell
from tunemill.cli.recipe import Base, Method, RecipeFile, name_and_version, partial_recipe


def register(app: typer.Typer) -> None:
    """Add the commands to `tunemill dataset`."""
    app.command("publish")(publish)
    app.command("diff")(diff)


def publish(
    name: DatasetName,
    *,
    note: Annotated[str | None, typer.Option(help="What this version is for.")] = None,
    method: Method = None,
    base: Base = None,
    recipe: RecipeFile = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Freeze the draft as the next version. With --method, --base or --recipe a training run starts on it."""
    body = {"note": note, "recipe": partial_recipe(method, base, recipe)}
    with connect(url, key) as api:
        answer = api.post(at("datasets", name, "versions"), body)
    told = f"published {name}@v{answer['version']}: {answer['rows']} rows ({cell(answer['splits'])}), digest {answer['digest']}"
    tell(answer, told, as_json=as_json)
    for warning in answer["report"]["warnings"]:
        complain(warning)


def diff(
    name: DatasetName,
    old: Annotated[str, typer.Argument(help="A version, as in v1.")],
    new_version: Annotated[str, typer.Argument(metavar="NEW", help="A later one, as in v2.")],
    *,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Say what changed between two versions."""
    versions = {"from": _number(name, old), "to": _number(name, new_version)}
    with connect(url, key) as api:
        answer = api.get(at("datasets", name, "diff"), **versions)
    told = f"{answer['added']} added, {answer['removed']} removed, {answer['changed']} changed"
    tell(answer, told, as_json=as_json)


def _number(name: str, version: str) -> int:
    return name_and_version(f"{name}@{version}")[1]

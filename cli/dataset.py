"""`tunemill dataset`: gather, edit, publish and export datasets."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tunemill.cli import dataset_files, dataset_recipe, dataset_training, dataset_versions
from tunemill.cli.client import DEFAULT_URL, AsJson, DatasetName, Key, Url, at, connect
from tunemill.cli.dataset_files import content_of
from tunemill.cli.dataset_recipe import as_yaml, brief, recipe_in
from tunemill.cli.erase import erase
from tunemill.cli.output import cell, complain, fields, print_json, say, table, tell

RowKey = Annotated[str, typer.Argument(help="The row, as `dataset rows` lists it.")]

_SHOWN_CHARACTERS = 70

app = typer.Typer(help="Gather, edit, publish and export datasets.", no_args_is_help=True)


dataset_recipe.register(app)
app.command("erase")(erase)  # where one who gathers logs looks for it; it reaches as far as `tunemill erase`


@app.command("list")
def list_datasets(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List the datasets."""
    with connect(url, key) as api:
        answer = api.get("/datasets")
    if as_json:
        print_json(answer)
        return
    table(("dataset", "versions", "gathers"), (_summary(one) for one in answer["datasets"]))


@app.command("show")
def show(
    name: DatasetName,
    *,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print the draft as a file says it: for `new --file`.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show a dataset's draft and its versions."""
    with connect(url, key) as api:
        answer = api.get(at("datasets", name, "draft") if yaml else at("datasets", name))
    if yaml:
        typer.echo(as_yaml(answer), nl=False)
        return
    if as_json:
        print_json(answer)
        return
    fields(brief(answer["draft"]))
    table(
        ("version", "rows", "splits", "digest", "note"),
        ((f"v{one['version']}", one["rows"], one["splits"], one["digest"], one["note"]) for one in answer["versions"]),
    )


@app.command("rows")
def rows(
    name: DatasetName,
    *,
    limit: Annotated[int, typer.Option(help="How many rows to show.", min=1)] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on where the last page ended.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List the rows of the draft."""
    with connect(url, key) as api:
        answer = api.get(at("datasets", name, "rows"), limit=limit, cursor=cursor)
    if as_json:
        print_json(answer)
        return
    table(("row", "edited", "asked", "answered"), (_row(row) for row in answer["rows"]))
    if answer.get("cursor"):
        say(f"more: --cursor {answer['cursor']}")


@app.command("edit")
def edit(
    name: DatasetName,
    row_key: Annotated[str | None, typer.Argument(help="The row, as `dataset rows` lists it.")] = None,
    *,
    answer: Annotated[str | None, typer.Option(help="Put this in place of the row's last answer.")] = None,
    messages: Annotated[
        Path | None, typer.Option(help="A JSON file with all messages of the row, or - for standard input.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="A YAML file with the draft's recipe from now on.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Change the messages of a row of the draft, or its recipe. The log itself stays as it is."""
    if recipe is not None and (row_key, answer, messages) == (None, None, None):
        wanted = recipe_in(recipe, name)
        with connect(url, key) as api:
            changed = api.put(at("datasets", name, "draft"), wanted)
        tell(changed, f"the draft {name} has another recipe", as_json=as_json)
        return
    if row_key is None or recipe is not None or (answer is None) == (messages is None):
        complain("say what changes: a row with --answer TEXT or --messages FILE, or all with --recipe FILE")
        raise typer.Exit(2)
    row = at("datasets", name, "rows", row_key)
    with connect(url, key) as api:
        said = _answered(api.get(row)["messages"], answer) if answer is not None else _read(messages)
        changed = api.patch(row, {"messages": said})
    tell(changed, f"row {row_key} changed", as_json=as_json)


@app.command("delete-row")
def delete_row(
    name: DatasetName, row_key: RowKey, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False
) -> None:
    """Leave a row out of the draft. The log itself stays."""
    with connect(url, key) as api:
        answer = api.delete(at("datasets", name, "rows", row_key))
    tell(answer, f"row {row_key} is left out", as_json=as_json)


dataset_versions.register(app)
dataset_training.register(app)
dataset_files.register(app)


def _summary(one: Mapping[str, Any]) -> tuple[Any, ...]:
    return one["name"], one["versions"], "; ".join(cell(brief(part)) for part in one["draft"]["ingredients"])


def _row(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["row_key"], "yes" if row.get("edited") else "", _last(row, "user"), _last(row, "assistant")


def _last(row: Mapping[str, Any], role: str) -> str:
    """The beginning of what a role said last."""
    said = next((message for message in reversed(row["messages"]) if message["role"] == role), None)
    text = " ".join((said.get("content") or "").split()) if said else ""
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _answered(messages: list[dict[str, Any]], answer: str) -> list[dict[str, Any]]:
    """The messages with another last answer, and without the tool calls that it may have had."""
    kept = messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages
    return [*kept, {"role": "assistant", "content": answer}]


def _read(file: Path | None) -> Any:
    try:
        return json.loads(content_of(file or Path("-")))
    except ValueError as error:
        complain(f"{file} is not JSON")
        raise typer.Exit(2) from error

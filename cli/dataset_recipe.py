"""`tunemill dataset new`, `add`, `preview`, `bad-rows` and `licence`: what a draft is made of, and what it would be."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
import yaml

from tunemill.cli.client import DEFAULT_URL, AsJson, DatasetName, Key, Url, at, connect
from tunemill.cli.dataset_files import content_of
from tunemill.cli.output import cell, complain, fields, print_json, safe, say, table, tell
from tunemill.cli.query_command import QueryCommand
from tunemill.curator_api.recipe import Answer, Recipe, Take
from tunemill.streams.errors import RulesInvalid
from tunemill.streams.marked_yaml import read_marked

_MOST_CHARACTERS = 2**26  # of a file: it may hold thousands of edited rows

Limit = Annotated[int | None, typer.Option(help="At most so many rows of it.", min=1)]


def register(app: typer.Typer) -> None:
    """Add the commands to `tunemill dataset`."""
    app.command("new", cls=QueryCommand)(new)
    app.command("add")(add)
    app.command("preview")(preview)
    app.command("bad-rows")(bad_rows)
    app.command("licence")(licence)


def new(
    name: DatasetName,
    query: Annotated[str | None, typer.Argument(help="Which logs, as in `tunemill search`.")] = None,
    *,
    file: Annotated[Path | None, typer.Option(help="A YAML file with a recipe; - for standard input.")] = None,
    limit: Limit = None,
    seed: Annotated[int | None, typer.Option(help="Decides which conversations are held out.")] = None,
    test_share: Annotated[float | None, typer.Option(help="How much is held out, 0 to 1.", min=0, max=1)] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Begin a draft from a search, or from a file that says all of its recipe."""
    if (query is None) == (file is None):
        complain("say what it gathers: either a search, or --file RECIPE.yaml")
        raise typer.Exit(2)
    said = {"query": query, "limit": limit} if file is None else recipe_in(file, name)
    told = {key: value for key, value in (("seed", seed), ("test_share", test_share)) if value is not None}
    with connect(url, key) as api:
        answer = api.post("/datasets", {**said, **told, "name": name})
    tell(answer, f"draft {name} begun. Look at it with `tunemill dataset preview {name}`.", as_json=as_json)


def add(
    name: DatasetName,
    *,
    search: Annotated[str | None, typer.Option(help="The logs of a search.")] = None,
    pairs: Annotated[str | None, typer.Option(help="Better and worse answers among the logs of a search.")] = None,
    logs: Annotated[str | None, typer.Option(help="Logs by their ids, with commas between.")] = None,
    version: Annotated[str | None, typer.Option(help="The rows of a version, as in general@v1.")] = None,
    imported: Annotated[bool, typer.Option("--imported", help="The rows that are imported.")] = False,
    take: Annotated[Take | None, typer.Option(help="Which, where there are more than the limit.")] = None,
    by: Annotated[str | None, typer.Option(help="The slice that is balanced.")] = None,
    limit: Limit = None,
    answer: Annotated[Answer | None, typer.Option(help="Whether corrections take the place of answers.")] = None,
    prefer: Annotated[
        str | None, typer.Option(help="Pairs of models' answers, the higher score of this feedback better.")
    ] = None,
    share: Annotated[float | None, typer.Option(help="The share of all rows that a version's become.")] = None,
    source: Annotated[str | None, typer.Option(help="Imported rows of this file or set alone.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Add an ingredient to a draft."""
    kinds: dict[str, dict[str, Any] | None] = {
        "search": None if search is None else {"query": search},
        "pairs": None if pairs is None else {"query": pairs, "source": "models" if prefer else "corrections"},
        "logs": None if logs is None else {"log_ids": [one for one in logs.split(",") if one]},
        "version": None if version is None else {"of": version},
        "imported": {} if imported else None,
    }
    named = {kind: said for kind, said in kinds.items() if said is not None}
    if len(named) != 1:
        complain("say what is added: one of --search, --pairs, --logs, --version and --imported")
        raise typer.Exit(2)
    options = {
        "take": take,
        "by": by,
        "limit": limit,
        "answer": answer,
        "prefer": prefer,
        "share": share,
        "source": source,
    }
    ((kind, said),) = named.items()
    one = {"kind": kind, **{name: value for name, value in options.items() if value is not None}, **said}
    with connect(url, key) as api:
        draft = api.get(at("datasets", name, "draft"))
        recipe = {key: value for key, value in draft.items() if key not in ("name", "rows")}
        recipe["ingredients"] = [*recipe["ingredients"], one]
        changed = api.put(at("datasets", name, "draft"), recipe)
    tell(changed, f"the draft {name} has {len(recipe['ingredients'])} ingredients now", as_json=as_json)


def preview(name: DatasetName, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Show the report of the version that would be published now."""
    with connect(url, key) as api:
        answer = api.get(at("datasets", name, "preview"))
    if as_json:
        print_json(answer)
        return
    found = ((one["matched"], cell(brief(one["ingredient"]))) for one in answer["ingredients"])
    table(("matched", "ingredient"), ((str(matched), told) for matched, told in found))
    report = answer["report"]
    fields(
        {key: value for key, value in report.items() if key not in ("slices", "warnings") and value not in (None, {})}
    )
    for slice_name, values in report["slices"].items():
        table((slice_name, "share of logs", "share of rows", "rows", "left out"), map(_slice_row, values.items()))
    for warning in report["warnings"]:
        complain(warning)


def bad_rows(
    name: DatasetName,
    *,
    reason: Annotated[str | None, typer.Option(help="Only those that are left out for this.")] = None,
    limit: Annotated[int, typer.Option(help="How many to show.", min=1, max=500)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where the last page ended.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List what the draft finds that is no training row, and why."""
    with connect(url, key) as api:
        answer = api.get(at("datasets", name, "bad-rows"), reason=reason, limit=limit, cursor=cursor)
    if as_json:
        print_json(answer)
        return
    table(("row", "reason", "why"), ((one["row_key"], one["reason"], one["why"]) for one in answer["rows"]))
    say(cell(answer["counts"]) or "none")
    if answer["cursor"]:
        say(f"more: --cursor {answer['cursor']}")


def licence(
    model: Annotated[str | None, typer.Argument(help="A model; * at the end stands for all that begin so.")] = None,
    trainable: Annotated[
        Literal["yes", "no", "unknown"] | None, typer.Argument(help="Whether its output may be trained on.")
    ] = None,
    *,
    note: Annotated[str | None, typer.Option(help="Why, and where it says so.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show or say of which models the output may be trained on."""
    if (model is None) != (trainable is None):
        complain("say both: the model, and yes, no or unknown")
        raise typer.Exit(2)
    with connect(url, key) as api:
        if model is not None and trainable == "unknown":
            api.delete(at("licences", model))
        elif model is not None:
            api.put(at("licences", model), {"trainable": trainable, "note": note})
        answer = api.get("/licences")
    if as_json:
        print_json(answer)
        return
    table(
        ("model", "trainable", "note", "by"),
        ((one["model"], one["trainable"], one["note"] or "", one["by"]) for one in answer["licences"]),
    )


def recipe_in(file: Path, name: str) -> dict[str, Any]:
    """The recipe in a YAML file, as the API takes it. Dates are text there, and so are the names of members."""
    try:
        text = content_of(file).decode("utf-8-sig")
        tree = read_marked(text, str(file), most=_MOST_CHARACTERS).plain()
    except UnicodeDecodeError as error:
        complain(f"{file} is not UTF-8")
        raise typer.Exit(2) from error
    except RulesInvalid as error:
        complain(str(error))
        raise typer.Exit(2) from error
    if not isinstance(tree, dict):
        complain(f"{file} should hold a recipe: `ingredients:` with a list under it")
        raise typer.Exit(2)
    try:
        json.dumps(tree, allow_nan=False)
    except ValueError as error:
        complain(f"{file} holds what is no number: .nan or .inf")
        raise typer.Exit(2) from error
    if tree.get("name", name) != name:
        complain(f"{file} is of the dataset {safe(str(tree['name']))}, not of {name}")
        raise typer.Exit(2)
    return {key: value for key, value in tree.items() if key != "name"}


def as_yaml(draft: dict[str, Any]) -> str:
    """A draft as a YAML file says it: without what is so anyway."""
    tree: dict[str, Any] = {"name": draft["name"], **brief(draft)}
    changed = {key: value for key, value in draft["rows"].items() if value}
    if changed:
        tree["rows"] = changed
    readable = yaml.safe_dump(tree, allow_unicode=True, sort_keys=False, width=120)
    # Some line separators of Unicode are not read as they were written.
    return readable if yaml.safe_load(readable) == tree else yaml.safe_dump(tree, sort_keys=False)


def brief(part: dict[str, Any]) -> dict[str, Any]:
    """A recipe, or one of its ingredients, without the members that are as they are unless told."""
    if "ingredients" not in part:
        ingredient = brief({"ingredients": [part]})["ingredients"][0]
        return dict(ingredient)
    kept = {key: value for key, value in part.items() if key not in ("name", "rows")}
    tree = msgspec.to_builtins(msgspec.convert(kept, Recipe))
    filters = {"filters": tree["filters"]} if tree.get("filters") else {}
    return {**{key: value for key, value in tree.items() if key != "filters"}, **filters}


def _slice_row(item: tuple[str, Any]) -> tuple[str, ...]:
    value, its = item
    return value, _percent(its["share_logs"]), _percent(its["share_rows"]), str(its["rows"]), cell(its["out"])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"

"""`tunemill dataset publish`, `diff`, `log`, `verify`, `restore` and `alias`: versions of a dataset."""

from typing import Annotated, Any

import typer

from tunemill.cli.client import DEFAULT_URL, AsJson, DatasetName, Key, Url, at, connect
from tunemill.cli.output import cell, complain, fields, say, table, tell, when
from tunemill.cli.recipe import Base, Method, RecipeFile, name_and_version, partial_recipe

_Version = Annotated[
    str, typer.Argument(metavar="NAME@VERSION", help="As in support@v1, support@latest, or with an alias.")
]
_SHOWN = 20  # differences; --json gives the first hundred


def register(app: typer.Typer) -> None:
    """Add the commands to `tunemill dataset`."""
    for command in (publish, diff, log, verify, restore, alias):
        app.command(command.__name__)(command)


def publish(
    name: DatasetName,
    *,
    note: Annotated[str | None, typer.Option(help="What this version is for.")] = None,
    amend: Annotated[
        str | None, typer.Option(help="Take this version's rows, as v3, with what was changed since; asks no index.")
    ] = None,
    method: Method = None,
    base: Base = None,
    recipe: RecipeFile = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Freeze the draft as the next version. With --method, --base or --recipe a training run starts on it."""
    body = {"note": note, "recipe": partial_recipe(method, base, recipe)} | ({"amend": amend} if amend else {})
    with connect(url, key) as api:
        answer = api.post(at("datasets", name, "versions"), body)
    told = f"published {name}@v{answer['version']}: {answer['rows']} rows ({cell(answer['splits'])}), digest {answer['digest']}"
    tell(answer, told, as_json=as_json)
    for warning in answer["report"]["warnings"]:
        complain(warning)


def diff(
    name: DatasetName,
    old: Annotated[str, typer.Argument(help="A version, as in v1, or an alias.")],
    new_version: Annotated[str, typer.Argument(metavar="NEW", help="A later one, as in v2.")],
    *,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Say what changed between two versions, and in which fields."""
    with connect(url, key) as api:
        answer = api.get(at("datasets", name, "diff"), **{"from": old, "to": new_version})
    told = f"{answer['added']} added, {answer['removed']} removed, {answer['changed']} changed"
    tell(answer, told, as_json=as_json)
    if answer["rows"] and not as_json:
        rows = answer["rows"][:_SHOWN]
        table(("row", "what", "fields"), [(row["row_key"], row["change"], row["fields"]) for row in rows])
        if len(rows) < (total := answer["added"] + answer["removed"] + answer["changed"]):
            say(f"and {total - len(rows)} more")


def log(
    dataset: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="A dataset, or one version of it.")],
    *,
    of_log: Annotated[
        str | None, typer.Option("--log", help="Of a version: the rows that were made of this log.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List the versions of a dataset; of one version say what it was made from, who used it, and what was erased from it."""
    with connect(url, key) as api:
        if "@" not in dataset:
            _tell_versions(api.get(at("datasets", dataset))["versions"], as_json=as_json)
            return
        name, version = name_and_version(dataset)
        answer = api.get(at("datasets", name, "versions", version, "lineage"), log=of_log)
    tell(answer, f"{name}@v{answer['version']}", as_json=as_json)
    if not as_json:
        _tell_origins(answer)


def verify(version: _Version, *, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Read a version again and say whether it is, byte for byte, what was published. Exit code 1 if it is not."""
    name, number = name_and_version(version)
    with connect(url, key) as api:
        answer = api.get(at("datasets", name, "versions", number, "verify"))
    told = f"{version} is what was published" if answer["ok"] else f"{version} is not what was published"
    tell(answer, f"{told}: {answer['files']} files, {answer['bytes']} bytes, {answer['rows']} rows", as_json=as_json)
    for problem in answer["problems"]:
        complain(problem)
    if not answer["ok"]:
        raise typer.Exit(1)


def restore(
    version: _Version,
    *,
    other: Annotated[str | None, typer.Option("--as", help="Start another dataset with the rows.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Make a version's rows the draft. Row edits that were made in the draft are forgotten."""
    name, number = name_and_version(version)
    with connect(url, key) as api:
        answer = api.post(at("datasets", name, "restore"), {"version": number} | ({"as": other} if other else {}))
    tell(answer, f"the draft of {answer['name']} holds the rows of {version}", as_json=as_json)


def alias(
    name: DatasetName,
    alias_name: Annotated[
        str | None, typer.Argument(metavar="ALIAS", help="The name; alone with NAME, all are listed.")
    ] = None,
    version: Annotated[str | None, typer.Argument(help="The version that it is for, as in v3.")] = None,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Forget the name; the version stays.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give a version a name, as `alias support best v3`; move it, list all, or forget one."""
    if (alias_name is not None) != (remove or version is not None) or (remove and version is not None):
        complain("write NAME to list, NAME ALIAS VERSION to set, NAME ALIAS --remove to forget")
        raise typer.Exit(2)
    with connect(url, key) as api:
        if alias_name is None:
            _tell_aliases(api.get(at("datasets", name, "aliases")), as_json=as_json)
        elif remove:
            api.delete(at("datasets", name, "aliases", alias_name))
            tell(None, f"{name}@{alias_name} names no version any more", as_json=as_json)
        else:
            answer = api.put(at("datasets", name, "aliases", alias_name), {"version": version})
            tell(answer, f"{name}@{alias_name} is {name}@v{answer['version']}", as_json=as_json)


def _tell_versions(versions: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        tell(versions, "", as_json=True)
        return
    rows = [
        (
            f"v{one['version']}",
            one["revision"],
            one["rows"],
            one["digest"],
            when(one["created_ms"]),
            one["by"],
            one["note"],
        )
        for one in versions
    ]
    table(("version", "revision", "rows", "digest", "published", "by", "note"), rows)


def _tell_origins(answer: dict[str, Any]) -> None:
    fields({"lineage": answer["lineage"], "rows of the log": answer["rows"]})
    if answer["runs"]:
        table(("run", "status", "digest"), [(one["run_id"], one["status"], one["digest"]) for one in answer["runs"]])
    for one in answer["redactions"]:
        said = f"{one['rows_removed']} rows were erased: {one['replaces_digest']} became {one['digest']}"
        say(f"revision {one['revision']}, {when(one['ts_ms'])}: {said}")


def _tell_aliases(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        tell(answer, "", as_json=True)
        return
    latest = [("latest", f"v{answer['latest']}", "computed")] if answer["latest"] else []
    table(
        ("alias", "version", "by"),
        latest + [(one["alias"], f"v{one['version']}", one["by"]) for one in answer["aliases"]],
    )

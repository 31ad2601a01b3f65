"""`tunemill models`: what was made from a dataset, and what is in use."""

from typing import Annotated

import typer

from tunemill.cli.client import DEFAULT_URL, AsJson, DatasetName, Key, Url, at, connect
from tunemill.cli.output import print_json, say, table, tell, when

app = typer.Typer(help="See the models of a dataset, and say which is used.", no_args_is_help=True)


@app.command("list")
def list_models(name: DatasetName, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List the models made from a dataset, the newest first, and the names in use."""
    with connect(url, key) as api:
        answer = api.get(at("datasets", name, "models"))
    if as_json:
        print_json(answer)
        return
    table(
        ("run", "in use as", "status", "version", "method", "base", "finished (UTC)"),
        (
            (
                one["run_id"],
                one["aliases"],
                one["status"],
                f"v{one['version']}",
                one["method"],
                one["base"],
                when(one["finished_ms"]),
            )
            for one in answer["models"]
        ),
    )
    for alias in answer["aliases"]:
        if alias["reason"]:
            say(f"{alias['alias']} was set against a gate by {alias['by']}: {alias['reason']}")


@app.command("promote")
def promote(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID")],
    *,
    alias: Annotated[str, typer.Option("--as", help="The name that it gets.")] = "champion",
    override: Annotated[
        str | None, typer.Option(help="Why a result that a gate rejected is used all the same; the audit keeps it.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give a run's result a name, which it takes from the run that has it."""
    with connect(url, key) as api:
        answer = api.post(at("runs", run_id, "promote"), {"alias": alias, "override": override})
    tell(answer, f"{answer['name']}: {alias} is {run_id}", as_json=as_json)

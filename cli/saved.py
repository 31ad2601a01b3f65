"""`tunemill saved`: searches kept under a name."""

from typing import Annotated

import typer

from tunemill.cli.client import DEFAULT_URL, AsJson, Key, Url, at, connect
from tunemill.cli.output import print_json, say, table, tell, when
from tunemill.cli.query_command import QueryCommand

Name = Annotated[str, typer.Argument(help="Lower case letters, digits, - and _, as in wrong-math.")]

app = typer.Typer(help="Keep searches under a name, for any query as saved:NAME.", no_args_is_help=True)


@app.command("list")
def list_searches(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List the saved searches."""
    with connect(url, key) as api:
        answer = api.get("/searches")
    if as_json:
        print_json(answer)
        return
    table(
        ("name", "query", "changed (UTC)", "by"),
        ((one["name"], one["query"], when(one["updated_ms"]), one["by"]) for one in answer["searches"]),
    )


@app.command("put", cls=QueryCommand)
def put(
    name: Name,
    query: Annotated[str, typer.Argument(help="The search, as for `tunemill search`.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Keep a search under a name, in place of what was there."""
    with connect(url, key) as api:
        answer = api.put(at("searches", name), {"query": query})
    tell(answer, f"saved:{name} is {query}", as_json=as_json)


@app.command("show")
def show(name: Name, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Print a saved search's text."""
    with connect(url, key) as api:
        answer = api.get(at("searches", name))
    tell(answer, answer["query"], as_json=as_json)


@app.command("delete")
def delete(name: Name, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Forget a saved search, unless a draft or another saved search names it."""
    with connect(url, key) as api:
        api.delete(at("searches", name))
    say(f"{name} is forgotten")

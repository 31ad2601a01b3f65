"""`tunemill webhooks`: addresses that hear of every dataset version, and of every run that ends."""

from typing import Annotated

import typer

from tunemill.cli.client import DEFAULT_URL, AsJson, Key, Url, at, connect
from tunemill.cli.output import print_json, say, table, tell, when

app = typer.Typer(
    help="Have every version, and the end of every run, told to an address, signed.", no_args_is_help=True
)


@app.command("list")
def list_webhooks(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List the webhooks, and how their deliveries go."""
    with connect(url, key) as api:
        answer = api.get("/webhooks")
    if as_json:
        print_json(answer)
        return
    table(
        ("webhook", "address", "sent", "waiting", "given up", "last error", "since (UTC)"),
        (
            (
                one["webhook_id"],
                one["url"],
                str(one["sent"]),
                str(one["waiting"]),
                str(one["given_up"]),
                one["last_error"] or "",
                when(one["created_ms"]),
            )
            for one in answer["webhooks"]
        ),
    )


@app.command("add")
def add(
    address: Annotated[str, typer.Argument(help="http(s)://host[:port]/path; its host must be allowed by the server.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Send every event from now on to an address. The secret that signs them is shown this once."""
    with connect(url, key) as api:
        answer = api.post("/webhooks", {"url": address})
    hears = f"webhook {answer['webhook_id']} hears of every version and of the end of every run"
    tell(answer, f"{hears}; its secret, shown this once: {answer['secret']}", as_json=as_json)


@app.command("remove")
def remove(
    webhook_id: Annotated[str, typer.Argument(help="As `tunemill webhooks list` shows it.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Send no more to an address, also nothing that waits."""
    with connect(url, key) as api:
        api.delete(at("webhooks", webhook_id))
    say(f"webhook {webhook_id} hears of nothing any more")

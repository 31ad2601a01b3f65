"""`tunemill up`: every service in one process, on the embedded engines, in one folder. No Docker, no Java, no account."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
import uvicorn
from starlette.applications import Starlette

from tunemill.cli.engines import Opened, open_engines, prepare, run
from tunemill.cli.output import complain
from tunemill.cli.settings import api_settings, embedded
from tunemill.curator_api.app import create_app
from tunemill.curator_api.keys import LEAST_CHARACTERS, MalformedKey, accept_key, ensure_key
from tunemill.curator_api.settings import Settings
from tunemill.streams.decode import examine
from tunemill.streams.errors import RegistryUnavailable
from tunemill.streams.local import run_local
from tunemill.streams.mask_message import mask_message
from tunemill.streams.rulebook import open_rulebook
from tunemill.streams.schema_registry import checked_url
from tunemill.streams.tagging import StreamTagging
from tunemill.streams.told import told_in
from tunemill.streams.unpack import records_in
from tunemill.telemetry import logs
from tunemill.trainer.service import run_trainer

HOST = "127.0.0.1"


def up(
    data: Annotated[Path, typer.Option(help="The folder that holds everything.")] = Path("data"),
    port: Annotated[int, typer.Option(help="The port to listen on, on this machine only.")] = 8000,
    key: Annotated[
        str | None,
        typer.Option(envvar="TUNEMILL_KEY", help="The API key to accept; left out, one is made and shown once."),
    ] = None,
    default_consent: Annotated[
        Literal["train", "none"],
        typer.Option(
            envvar="TUNEMILL_DEFAULT_CONSENT",
            help="train or none: what holds for a log that says nothing. With none, only logs that say train enter a dataset.",
        ),
    ] = "none",
) -> None:
    """Start everything in one process, on the embedded engines."""
    logs.configure(service="up", as_json=not os.isatty(2))
    settings = api_settings(os.environ, default_consent=default_consent)
    run(_up(data, port, key, settings, schema_registry_url(os.environ)))


async def _up(data: Path, port: int, key: str | None, settings: Settings, registry_url: str | None) -> None:
    stop = stop_on_signals()
    with listen(HOST, port) as listening:
        async with opened_embedded(data) as opened:
            let_in(opened, settings, key)
            typer.echo(f"tunemill is at http://{HOST}:{port} - data in {data.resolve()}")
            await run_services(opened, data, settings, listening, stop=stop, schema_registry_url=registry_url)


def let_in(opened: Opened, settings: Settings, key: str | None) -> None:
    """Accept the operator's key; without one, make the project's first key and show it once.

    Raises:
        typer.BadParameter: no header could carry the key.
    """
    if key is None:
        if (made := ensure_key(opened.registry, settings.project)) is not None:
            typer.echo(f"Your API key, shown this once: {made}")
        return
    if len(key) < LEAST_CHARACTERS:
        complain(f"the key is taken, but one of fewer than {LEAST_CHARACTERS} random characters can be guessed")
    try:
        accept_key(opened.registry, settings.project, key)
    except MalformedKey as error:
        raise typer.BadParameter(str(error), param_hint="--key") from error


@asynccontextmanager
async def opened_embedded(data: Path) -> AsyncIterator[Opened]:
    """The embedded engines in this folder, made when it is new."""
    data.mkdir(parents=True, exist_ok=True)
    async with open_engines(embedded(data)) as opened:
        await prepare(opened)
        yield opened


async def run_services(
    opened: Opened,
    data: Path,
    settings: Settings,
    listening: socket.socket,
    *,
    stop: asyncio.Event,
    schema_registry_url: str | None = None,
) -> None:
    """Stream, API and trainer side by side until `stop` is set; if one of them fails, all end and its error is raised."""
    app = api_over(opened, settings)
    rulebook = await asyncio.to_thread(open_rulebook, opened.registry)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            run_local(opened.bus, opened.index, rulebook, stop=stop, schema_registry_url=schema_registry_url)
        )
        group.create_task(run_trainer(opened.bus, opened.registry, opened.files_url, data / "work", stop=stop))
        group.create_task(serve_http(app, listening, stop=stop))


def api_over(opened: Opened, settings: Settings) -> Starlette:
    """The HTTP API over these engines."""
    return create_app(
        bus=opened.bus,
        index=opened.index,
        registry=opened.registry,
        files_url=opened.files_url,
        settings=settings,
        examine=examine,
        mask=mask_message,
        tagging=StreamTagging(),
        records_in=records_in,
        told_in=told_in,
    )


def schema_registry_url(environment: Mapping[str, str]) -> str | None:
    """The address of the schema registry; None when there is none.

    Raises:
        typer.BadParameter: it is no URL of http or https.
    """
    name = "TUNEMILL_SCHEMA_REGISTRY_URL"
    url = environment.get(name)
    if not url:
        return None
    try:
        checked_url(url)
    except RegistryUnavailable as error:
        raise typer.BadParameter(str(error), param_hint=name) from error
    return url


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, before anything else is opened: a port in use is the commonest mistake.

    Raises:
        typer.BadParameter: the address cannot be had; the message says why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise typer.BadParameter(
            f"{host}:{port}: {error.strerror}; choose another port", param_hint="--port"
        ) from error
    # Its connections inherit this. Without it an answer's body waits until its head is acknowledged, some 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


async def serve_http(app: Starlette, listening: socket.socket, *, stop: asyncio.Event) -> None:
    """Answer requests until `stop` is set, then finish those under way."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.should_exit = True
        await serving
        stop.set()  # the server may have ended by itself, by a signal that it caught


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set. uvicorn hands a signal it caught back when it has ended, so it arrives here too."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop

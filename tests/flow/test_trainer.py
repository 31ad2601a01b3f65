"""From a dataset-ready event to a published adapter, in one process and its workers, on the embedded engines."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.trainer_place import Place, at_step, ended, opened_place, workers
from sqlalchemy import update

from tunemill.registry.tables import runs
from tunemill.trainer.servable import obstacles, serving_notes

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with opened_place(tmp_path) as place:
        yield place


async def test_an_event_becomes_an_adapter_though_its_worker_is_killed(place: Place) -> None:
    await place.order(max_steps=120, learning_rate=5e-3)
    await place.order(event_id="e2", max_steps=120, learning_rate=5e-3)
    async with place.trainer():
        await place.until(at_step(10))
        os.kill(workers(place)[0], signal.SIGKILL)
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
        "tokenizer_config.json", "README.md", "report.md", "samples.jsonl", "row_scores.json",
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

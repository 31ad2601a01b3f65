"""A run whose rows are erased while it is published."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fakes.scripted_launcher import ScriptedLauncher
from sqlalchemy import Engine, insert, select, update

from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import redactions, runs
from tunemill.schemas.run_report import SAMPLES, SAMPLES_FILE
from tunemill.trainer import supervise
from tunemill.trainer.claim import Claim
from tunemill.trainer.job import Line, WorkFolder
from tunemill.trainer.publish import upload, write_manifest
from tunemill.trainer.recipe import resolve
from tunemill.trainer.supervise import Workshop
from tunemill.trainer.sweep import sweep_shown_rows

OLD = "d" * 64
OTHERS = {"digest": "a" * 64, "retention": {"of": "other@v1", "manifest_url": "/o", "digest": OLD}}


def a_claim(engine: Engine, *, digest: str = OLD, **recipe: Any) -> Claim:
    """A run that is ours, in the registry."""
    names = {"run_id": "r", "project": "default", "name": "all", "version": 1, "digest": digest, "manifest_url": "/m"}
    more = {"run_key": "k", "recipe": {}, "status": "running", "attempt": 1, "lease_owner": "us", "event_seq": 0}
    with engine.begin() as connection:
        connection.execute(insert(runs).values(**names, **more, created_ms=1, lease_until_ms=9 * 10**12))
    return Claim(**names, attempt=1, owner="us", recipe=resolve({"base": "b", **recipe}), failures=0)


def erase(engine: Engine) -> None:
    said = {"redaction_id": "x", "project": "default", "name": "all", "version": 1, "revision": 2, "digest": "e" * 64}
    with engine.begin() as connection:
        more = {"replaces_digest": OLD, "request_id": "q", "rows_removed": 1, "ts_ms": 1}
        connection.execute(insert(redactions).values(**said, **more))


def died(engine: Engine, files: Path, *, erased_ms: int, **of: Any) -> bytes:
    """What the upload of a run shows, whose trainer died between saying that it ended and looking for erasures once more."""
    a_claim(engine, **{"digest": OLD, **of})
    shown = files / "runs/default/r"
    shown.mkdir(parents=True)
    (shown / "report.md").write_text(f"# Run r\n\n{SAMPLES}\n\nprivate\n")
    (shown / SAMPLES_FILE).write_text('{"expected": "private"}\n')
    (shown / "adapter.safetensors").write_bytes(b"weights")
    write_manifest(shown, {"run_id": "r"})
    erase(engine)
    with engine.begin() as connection:
        connection.execute(update(runs).values(status="succeeded", started_ms=1_000, finished_ms=2_000))
        connection.execute(update(redactions).values(ts_ms=erased_ms))
    return (shown / "report.md").read_bytes()


@pytest.mark.parametrize("trained_on", [{}, OTHERS])
def test_rows_that_a_dead_trainer_left_shown_are_taken_out_at_the_next_start(
    tmp_path: Path, trained_on: dict[str, Any]
) -> None:
    engine = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(engine)
    died(engine, tmp_path / "files", erased_ms=1_500, **trained_on)
    with engine.begin() as connection:
        connection.execute(update(runs).values(recipe=trained_on))

    assert [sweep_shown_rows(engine, str(tmp_path / "files"), now_ms=3_000) for _ in range(2)] == [1, 0]
    shown = tmp_path / "files/runs/default/r"
    assert b"private" not in (shown / "report.md").read_bytes() + (shown / SAMPLES_FILE).read_bytes()
    listed = json.loads((shown / "manifest.json").read_bytes())["files"]
    assert {name: entry["bytes"] for name, entry in listed.items()} == {
        name: (shown / name).stat().st_size for name in ("report.md", SAMPLES_FILE, "adapter.safetensors")
    }
    engine.dispose()


def test_a_manifest_that_a_killed_trainer_left_behind_the_files_is_brought_in_line(tmp_path: Path) -> None:
    engine = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(engine)
    died(engine, tmp_path / "files", erased_ms=1_500)
    manifest = tmp_path / "files/runs/default/r/manifest.json"
    behind = manifest.read_bytes()
    sweep_shown_rows(engine, str(tmp_path / "files"), now_ms=3_000)
    in_line = manifest.read_bytes()
    manifest.write_bytes(behind)

    assert [sweep_shown_rows(engine, str(tmp_path / "files"), now_ms=3_000) for _ in range(2)] == [1, 0]
    assert manifest.read_bytes() == in_line != behind
    engine.dispose()


def test_a_damaged_folder_of_one_run_keeps_no_rows_of_another_shown(tmp_path: Path) -> None:
    engine = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(engine)
    died(engine, tmp_path / "files", erased_ms=1_500)
    shown = tmp_path / "files/runs/default"
    shutil.copytree(shown / "r", shown / "a")
    (shown / "a" / "manifest.json").write_text("{")
    with engine.begin() as connection:
        run = connection.execute(select(runs)).mappings().one()
        connection.execute(insert(runs).values({**run, "run_id": "a", "run_key": "another"}))

    assert sweep_shown_rows(engine, str(tmp_path / "files"), now_ms=3_000) == 1
    assert b"private" not in (shown / "r" / "report.md").read_bytes()
    engine.dispose()


def test_rows_of_which_none_was_erased_meanwhile_stay_shown(tmp_path: Path) -> None:
    engine = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(engine)
    report = died(engine, tmp_path / "files", erased_ms=1_500, digest="a" * 64)

    assert sweep_shown_rows(engine, str(tmp_path / "files"), now_ms=3_000) == 0
    assert (tmp_path / "files/runs/default/r/report.md").read_bytes() == report
    engine.dispose()


@pytest.mark.parametrize("trained_on", [{}, OTHERS])
@pytest.mark.parametrize("when", ["before", "meanwhile", "never"])
async def test_it_shows_no_rows_if_some_were_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, trained_on: dict[str, Any]
) -> None:
    engine = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(engine)
    claim, folder = a_claim(engine, **trained_on), WorkFolder(tmp_path / "work")
    folder.artefact.mkdir(parents=True)
    (folder.artefact / "report.md").write_text(f"# Run r\n\n{SAMPLES}\n\nprivate\n")
    (folder.artefact / SAMPLES_FILE).write_text('{"expected": "private"}\n')
    write_manifest(folder.artefact, {"run_id": "r"})

    def slow(*args: Any, **more: Any) -> str:
        url = upload(*args, **more)
        if when == "meanwhile" and not said:
            said.append(url)
            erase(engine)
        return url

    said: list[str] = []
    if when == "before":
        erase(engine)
    monkeypatch.setattr(supervise, "upload", slow)
    done = Line(ts_ms=1, kind="done", message="succeeded", data={"result": {}, "trained_tokens": 1, "seconds": 1.0})
    files = str(tmp_path / "files")
    shop = Workshop(engine=engine, launcher=ScriptedLauncher(), work=tmp_path, files_url=files, lease_s=60.0)
    lease, stop = supervise._Lease(), asyncio.Event()
    assert await supervise._publish(shop, claim, folder, done, lease=lease, stop=stop) == "succeeded"
    published = tmp_path / "files/runs/default/r"
    manifest = json.loads((published / "manifest.json").read_bytes())
    for name in ("report.md", "samples.jsonl"):
        shown = (published / name).read_bytes()
        assert (b"private" in shown) == (when == "never")
        assert manifest["files"][name]["bytes"] == len(shown)
    engine.dispose()

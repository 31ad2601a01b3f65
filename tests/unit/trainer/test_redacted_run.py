"""A run whose rows are erased while it is published."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fakes.scripted_launcher import ScriptedLauncher
from sqlalchemy import Engine, insert

from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import redactions, runs
from tunemill.schemas.run_report import SAMPLES, SAMPLES_FILE
from tunemill.trainer import supervise
from tunemill.trainer.claim import Claim
from tunemill.trainer.job import Line, WorkFolder
from tunemill.trainer.publish import upload, write_manifest
from tunemill.trainer.recipe import resolve
from tunemill.trainer.supervise import Workshop

OLD = "d" * 64


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


OTHERS = {"digest": "a" * 64, "retention": {"of": "other@v1", "manifest_url": "/o", "digest": OLD}}


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

"""What is removed of runs that are over, and when."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert

from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import now_ms, runs
from tunemill.trainer.job import WorkFolder
from tunemill.trainer.sweep import sweep, sweep_uploads

HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(engine)
    yield engine
    engine.dispose()


def add(engine: Engine, run_id: str, status: str, finished_ms: int | None) -> None:
    values = {"run_id": run_id, "run_key": run_id, "project": "default", "name": "d", "version": 1, "digest": "a"}
    values |= {"manifest_url": "m", "recipe": {}, "status": status, "attempt": 1, "event_seq": 0, "created_ms": 1}
    with engine.begin() as connection:
        connection.execute(insert(runs).values(**values, finished_ms=finished_ms))


def work_folder(work: Path, run_id: str) -> WorkFolder:
    folder = WorkFolder(work / run_id)
    for path in (folder.checkpoints, folder.tmp, folder.artefact):
        path.mkdir(parents=True)
        (path / "file").write_text("x")
    for path in (folder.order, folder.before, folder.answers("before"), folder.answers("after"), folder.replay):
        path.write_text("x")
    folder.log(1).write_text("x")
    return folder


def left(folder: WorkFolder) -> set[str]:
    return {path.name for path in folder.path.iterdir()} if folder.path.exists() else set()


@pytest.mark.parametrize("status", ["succeeded", "rejected"])
def test_a_run_with_a_result_keeps_only_its_logs_and_those_for_a_month(
    engine: Engine, tmp_path: Path, status: str
) -> None:
    folder = work_folder(tmp_path / "work", "r1")
    add(engine, "r1", status, finished_ms=0)

    assert sweep(engine, tmp_path / "work", now_ms=2 * HOUR_MS) == []
    assert left(folder) == {"order.json", "worker-1.log"}
    assert sweep(engine, tmp_path / "work", now_ms=30 * DAY_MS) == []
    assert sweep(engine, tmp_path / "work", now_ms=30 * DAY_MS + 1) == ["r1"]
    assert left(folder) == set()


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_run_without_a_result_can_be_resumed_for_a_week(engine: Engine, tmp_path: Path, status: str) -> None:
    folder = work_folder(tmp_path / "work", "r1")
    add(engine, "r1", status, finished_ms=0)

    assert sweep(engine, tmp_path / "work", now_ms=7 * DAY_MS) == []
    assert left(folder) == {"order.json", "worker-1.log", "checkpoints"}
    assert sweep(engine, tmp_path / "work", now_ms=7 * DAY_MS + 1) == ["r1"]


@pytest.mark.parametrize("status", ["queued", "preparing", "running", "evaluating"])
def test_a_run_that_is_not_over_keeps_everything(engine: Engine, tmp_path: Path, status: str) -> None:
    folder = work_folder(tmp_path / "work", "r1")
    add(engine, "r1", status, finished_ms=None)
    before = left(folder)

    assert sweep(engine, tmp_path / "work", now_ms=now_ms() + 900 * DAY_MS) == []
    assert left(folder) == before


def test_a_run_that_has_just_ended_is_left_to_who_ended_it(engine: Engine, tmp_path: Path) -> None:
    folder = work_folder(tmp_path / "work", "r1")
    add(engine, "r1", "succeeded", finished_ms=0)
    sweep(engine, tmp_path / "work", now_ms=HOUR_MS)
    assert "artefact" in left(folder)


def test_a_folder_that_no_run_is_known_for_goes_after_a_week_and_what_is_none_of_ours_stays(
    engine: Engine, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work_folder(work, "unknown")
    (work / "photos").mkdir()
    (work / "notes.txt").write_text("mine")

    assert sweep(engine, work, now_ms=now_ms() + 6 * DAY_MS) == []
    assert sweep(engine, work, now_ms=now_ms() + 8 * DAY_MS) == ["unknown"]
    assert {path.name for path in work.iterdir()} == {"photos", "notes.txt"}
    assert sweep(engine, tmp_path / "not-there", now_ms=0) == []


def test_what_was_uploaded_of_a_run_without_a_result_goes_and_results_stay(engine: Engine, tmp_path: Path) -> None:
    files = tmp_path / "files"
    ends = {"cancelled": HOUR_MS, "failed": HOUR_MS, "succeeded": 0, "young": 3 * HOUR_MS, "running": None}
    for run_id, finished_ms in ends.items():
        status = "failed" if run_id == "young" else run_id
        add(engine, run_id, status, finished_ms)
        (files / "runs" / "default" / run_id).mkdir(parents=True)
        (files / "runs" / "default" / run_id / "samples.jsonl").write_text("a row")

    assert [sweep_uploads(engine, str(files), now_ms=3 * HOUR_MS) for _ in range(2)] == [2, 0]
    assert {path.name for path in (files / "runs" / "default").iterdir()} == {"succeeded", "young", "running"}

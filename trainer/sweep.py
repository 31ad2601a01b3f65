"""What the work folder and the files URL keep of runs that are over, and for how long.

What has text of rows goes with the run's end, however it ended. Checkpoints go with a result; without one they wait for
somebody who resumes the run.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine, select

from tunemill.registry.tables import redactions, runs
from tunemill.trainer.job import WorkFolder
from tunemill.trainer.publish import hide_stored_rows, withdraw

EVERY_S = 3600.0
_DAY_MS = 24 * 3600 * 1000
_LOGS_MS = 30 * _DAY_MS  # of runs with a result
_RESUMABLE_MS = 7 * _DAY_MS  # of runs without one, and of folders that no run is known for
_CLOCKS_MS = 10 * 60 * 1000  # by which the clocks of who erases and who trains may differ
_WITH_RESULT = ("succeeded", "rejected")
_WITHOUT_RESULT = ("failed", "cancelled")

log = structlog.get_logger()


def clear(folder: WorkFolder, status: str) -> None:
    """Remove what a run that has ended so needs no more; its logs stay, and its checkpoints unless it has a result."""
    for gone in (folder.before, folder.answers("before"), folder.answers("after"), folder.replay, folder.stop):
        gone.unlink(missing_ok=True)
    shutil.rmtree(folder.tmp, ignore_errors=True)
    shutil.rmtree(folder.artefact, ignore_errors=True)
    if status in _WITH_RESULT:
        shutil.rmtree(folder.checkpoints, ignore_errors=True)


def sweep(engine: Engine, work: Path, *, now_ms: int) -> list[str]:
    """Clear the folders of runs that are over, remove those that are over for long; gives the names of the removed."""
    if not work.is_dir():
        return []
    removed = []
    for path in sorted(work.iterdir()):
        folder = WorkFolder(path)
        if not folder.order.is_file():
            continue  # no folder of ours
        status, since_ms = _state(engine, folder)
        if status is not None and since_ms is not None and now_ms - since_ms > EVERY_S * 1000:
            clear(folder, status)  # who ended the run did so, too, unless it died over it
        keep_ms = _LOGS_MS if status in _WITH_RESULT else _RESUMABLE_MS
        if since_ms is not None and now_ms - since_ms > keep_ms:
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path.name)
    return removed


def sweep_uploads(engine: Engine, files_url: str, *, now_ms: int) -> int:
    """Remove what was uploaded of runs that ended without a result: a trainer died over it. How many runs had something.

    Nobody is told of those files, and an erasure that came while they were written would not come again.
    """
    over = runs.c.finished_ms.between(now_ms - _RESUMABLE_MS, now_ms - EVERY_S * 1000)
    ended = select(runs.c.project, runs.c.run_id).where(runs.c.status.in_(_WITHOUT_RESULT), over)
    with engine.connect() as connection:
        found = connection.execute(ended).all()
    return sum(withdraw(files_url, project=run.project, run_id=run.run_id) for run in found)


def sweep_shown_rows(engine: Engine, files_url: str, *, now_ms: int) -> int:
    """Take the rows out of what was uploaded of runs that ended while some were erased; of how many runs.

    Who erases may not have seen what was being uploaded. The trainer that uploads looks once more, unless it dies before.
    """
    ended = runs.c.finished_ms.between(now_ms - _RESUMABLE_MS, now_ms) & runs.c.status.in_(_WITH_RESULT)
    meanwhile = redactions.c.ts_ms.between(runs.c.started_ms, runs.c.finished_ms + _CLOCKS_MS)
    columns = (runs.c.project, runs.c.run_id, runs.c.digest, runs.c.recipe, redactions.c.replaces_digest)
    of_the_project = (redactions.c.project == runs.c.project) & meanwhile
    with engine.connect() as connection:
        found = connection.execute(select(*columns).join(redactions, of_the_project).where(ended)).all()
    erased = {(row.project, row.run_id) for row in found if row.replaces_digest in _digests(row.digest, row.recipe)}
    return sum(_hide(files_url, project, run_id) for project, run_id in sorted(erased))


def _hide(files_url: str, project: str, run_id: str) -> bool:
    try:
        return hide_stored_rows(files_url, project=project, run_id=run_id)
    except Exception as error:  # what lies there may be damaged in any way: the other runs' rows go all the same
        log.error("shown_rows_not_removed", run_id=run_id, error=type(error).__name__)
        return False


def _digests(trained_on: str, recipe: Mapping[str, Any]) -> list[str]:
    """Of the versions that a run has read."""
    named = [recipe.get(knob) for knob in ("replay", "retention")]
    return [trained_on, *(one["digest"] for one in named if isinstance(one, Mapping))]


def _state(engine: Engine, folder: WorkFolder) -> tuple[str | None, int | None]:
    """The run's state and since when it is over; of a folder that no run is known for, since when nobody has written to it."""
    with engine.connect() as connection:
        wanted = select(runs.c.status, runs.c.finished_ms).where(runs.c.run_id == folder.path.name)
        row = connection.execute(wanted).one_or_none()
    if row is None:
        return None, max(path.stat().st_mtime_ns for path in folder.path.iterdir()) // 1_000_000
    over = row.status in (*_WITH_RESULT, *_WITHOUT_RESULT)
    return row.status, row.finished_ms if over else None

"""Which training runs saw an erased log. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from tunemill.curator_api.receipt import ExposedRun, Exposure

Run = Mapping[str, Any]  # by column of the table
Held = Mapping[tuple[str, int], AbstractSet[str]]  # by name and version: digests that held a log


def exposures(runs: Iterable[Run], held: Held) -> list[ExposedRun]:
    """What each run on one of these versions saw, and each run that was trained on top of one that saw something."""
    by_id = {run["run_id"]: run for run in runs}
    said = {run_id: exposure(run, held) for run_id, run in by_id.items() if (run["name"], run["version"]) in held}
    seen = [by_id[run_id] for run_id, word in said.items() if word == "exposed"]
    while seen:
        parents = {str(run["artefact_url"]).rstrip("/") for run in seen if run["artefact_url"]}
        seen = [
            run
            for run_id, run in by_id.items()
            if said.get(run_id) != "exposed" and began(run) and _base(run) in parents
        ]
        said |= {run["run_id"]: "exposed" for run in seen}
    return [_told(by_id[run_id], said[run_id]) for run_id in sorted(said)]


def exposure(run: Run, held: Held) -> Exposure:
    """What a run saw of a version: nothing, if it is on files without the log, or never began."""
    if run["digest"] not in held.get((run["name"], run["version"]), frozenset()):
        return "not exposed"
    return "exposed" if began(run) else "redacted before training"


def began(run: Run) -> bool:
    """Whether a trainer took it on; one that waits, or was cancelled while it waited, saw nothing."""
    return run["started_ms"] is not None


def _base(run: Run) -> str:
    return str((run["recipe"] or {}).get("base", "")).rstrip("/")


def _told(run: Run, word: Exposure) -> ExposedRun:
    names: Sequence[str] = ("run_id", "name", "version", "status", "artefact_url")
    return ExposedRun(**{name: run[name] for name in names}, exposure=word)

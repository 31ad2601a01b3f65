"""Which training runs saw an erased log. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from tunemill.curator_api.receipt import ExposedRun, Exposure

Run = Mapping[str, Any]  # by column of the table
Held = Mapping[tuple[str, int], AbstractSet[str]]  # by name and version: digests that held a log


def exposures(runs: Iterable[Run], held: Held, names: Mapping[str, Sequence[str]]) -> list[ExposedRun]:
    """What each run on one of these versions saw, and each run that was trained on top of one that saw something.

    Args:
        names: by run, what its model is used as.
    """
    by_id = {run["run_id"]: run for run in runs}
    said = {run_id: exposure(run, held) for run_id, run in by_id.items() if _is_on(run, held)}
    seen = [by_id[run_id] for run_id, word in said.items() if word == "exposed"]
    while seen:
        parents = {str(run["artefact_url"]).rstrip("/") for run in seen if run["artefact_url"]}
        weights = {(run["result"] or {}).get("weights") for run in seen} - {None}
        seen = [
            run
            for run_id, run in by_id.items()
            if said.get(run_id) != "exposed" and began(run) and (_base(run) in parents or _base_weights(run) in weights)
        ]
        said |= {run["run_id"]: "exposed" for run in seen}
    return [_told(by_id[run_id], said[run_id], names.get(run_id, ())) for run_id in sorted(said)]


def exposure(run: Run, held: Held) -> Exposure:
    """What a run saw of these versions: nothing, if it is on files without the log, or never began."""
    if not saw_files(run, held):
        return "not exposed"
    return "exposed" if began(run) else "redacted before training"


def saw_files(run: Run, held: Held) -> bool:
    """Whether it is on files that held a log: to train on, or, as its recipe may say, to replay or to measure forgetting with."""
    mine = run["digest"] in held.get((run["name"], run["version"]), frozenset())
    return mine or not _beside(run).isdisjoint(frozenset().union(*held.values()))


def began(run: Run) -> bool:
    """Whether a trainer took it on; one that waits, or was cancelled while it waited, saw nothing."""
    return run["started_ms"] is not None


def _is_on(run: Run, held: Held) -> bool:
    return (run["name"], run["version"]) in held or saw_files(run, held)


def _beside(run: Run) -> frozenset[str]:
    """The digests of the other versions that the recipe names."""
    recipe = run["recipe"] or {}
    named = [recipe.get(knob) for knob in ("replay", "retention")]
    return frozenset(str(one.get("digest")) for one in named if isinstance(one, Mapping))


def _base(run: Run) -> str:
    """The folder of the run that it was trained on top of, if it was of one: its own, or the merged weights in it."""
    return str((run["recipe"] or {}).get("base", "")).rstrip("/").removesuffix("/merged")


def _base_weights(run: Run) -> str | None:
    """What was in that folder, wherever it lies and however it is called; unknown of runs of an earlier release."""
    return (run["identity"] or {}).get("weights")


def _told(run: Run, word: Exposure, aliases: Sequence[str]) -> ExposedRun:
    columns: Sequence[str] = ("run_id", "name", "version", "status", "artefact_url")
    return ExposedRun(**{name: run[name] for name in columns}, exposure=word, aliases=tuple(aliases))

"""Training runs over HTTP: see them, start one, stop one."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query

from tunemill.curator_api import model_store, run_compare, run_store, version_store
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Here
from tunemill.curator_api.cursors import from_cursor, to_cursor
from tunemill.curator_api.errors import DamagedFile, Unprocessable
from tunemill.curator_api.payloads import Storable
from tunemill.curator_api.problems import responses
from tunemill.curator_api.run_payloads import (
    ComparedOut,
    CompareOut,
    KnobOut,
    PromoteIn,
    RunAccepted,
    RunEventOut,
    RunEventsOut,
    RunIn,
    RunOut,
    RunsOut,
    SamplesOut,
    Status,
)
from tunemill.registry.model_aliases import CANDIDATE
from tunemill.schemas.row_scores import ROW_SCORES_FILE, RowScores
from tunemill.schemas.run_report import SAMPLES_FILE

router = APIRouter(prefix="/v1/runs", tags=["runs"])

_Integer = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # what a column holds


RunId = Annotated[str, Path(min_length=1, max_length=32), Storable]
Limit = Annotated[int, Query(ge=1, le=1_000)]
Cursor = Annotated[str | None, Query(max_length=200)]
OfDataset = Annotated[str | None, Query(max_length=63, description="of this dataset"), Storable]


class _Newest(msgspec.Struct, frozen=True):
    created_ms: _Integer
    run_id: str


class _Seq(msgspec.Struct, frozen=True):
    seq: _Integer


@router.get("", responses=responses(400, 422))
def list_runs(
    here: Here,
    _person: Person,
    limit: Limit = 100,
    cursor: Cursor = None,
    name: OfDataset = None,
    status: Status | None = None,
) -> RunsOut:
    """Runs, the newest first."""
    after = from_cursor(cursor, _Newest)
    found = run_store.find_runs(
        here.registry,
        here.settings.project,
        limit=limit,
        after=(after.created_ms, after.run_id) if after else None,
        name=name,
        status=status,
    )
    more = to_cursor(_Newest(found[-1]["created_ms"], found[-1]["run_id"])) if len(found) == limit else None
    return RunsOut(runs=[RunOut.model_validate(run) for run in found], cursor=more)


@router.post("", status_code=202, responses=responses(400, 404, 422))
def start_run(run: RunIn, here: Here, _person: Person) -> RunAccepted:
    """Have a version trained on. A version that was trained with the same recipe before is not trained again."""
    version = version_store.find_version(here.registry, here.settings.project, run.name, run.version)
    event_id = version_store.request_run(
        here.registry, here.settings.project, version, run.recipe, priority=run.priority
    )
    return RunAccepted(event_id=event_id, name=run.name, version=run.version)


@router.get("/{run_id}", responses=responses(404, 422))
def get_run(run_id: RunId, here: Here, _person: Person) -> RunOut:
    """One run."""
    return RunOut.model_validate(run_store.find_run(here.registry, here.settings.project, run_id))


@router.get("/{run_id}/events", responses=responses(400, 404, 422))
def list_events(run_id: RunId, here: Here, _person: Person, limit: Limit = 100, cursor: Cursor = None) -> RunEventsOut:
    """What happened in a run, in order: messages and metrics."""
    run_store.find_run(here.registry, here.settings.project, run_id)
    after = from_cursor(cursor, _Seq)
    found = run_store.find_events(here.registry, run_id, limit=limit, after_seq=after.seq if after else 0)
    more = to_cursor(_Seq(found[-1]["seq"])) if len(found) == limit else None
    return RunEventsOut(events=[RunEventOut.model_validate(event) for event in found], cursor=more)


@router.post("/{run_id}/cancel", status_code=202, responses=responses(404, 409, 422))
def cancel_run(run_id: RunId, here: Here, person: Person) -> RunOut:
    """Ask for a run to be stopped; the trainer stops it at its next step."""
    return RunOut.model_validate(run_store.request_cancel(here.registry, here.settings.project, run_id, by=person))


@router.post("/{run_id}/resume", status_code=202, responses=responses(404, 409, 422))
def resume_run(run_id: RunId, here: Here, person: Person) -> RunOut:
    """Put a run that failed or was cancelled back into the queue; it goes on from its last checkpoint while that is kept."""
    return RunOut.model_validate(run_store.resume(here.registry, here.settings.project, run_id, by=person))


@router.post("/{run_id}/promote", responses=responses(404, 409, 422))
def promote_run(run_id: RunId, wanted: PromoteIn, here: Here, person: Person) -> RunOut:
    """Give a run's result a name, such as `champion`; the run that had it has it no more.

    409 `gate-not-passed` where a gate rejected it: `override` says why it is used all the same, and the audit keeps that. 409
    `no-model` where the run left none.
    """
    if wanted.alias == CANDIDATE:
        raise Unprocessable(f"{CANDIDATE} is the run that succeeded last: choose another name")
    model_store.promote(here.registry, here.project, run_id, wanted.alias, override=wanted.override, by=person)
    return get_run(run_id, here, person)


@router.get("/{a}/compare/{b}", responses=responses(404, 422))
def compare_runs(a: RunId, b: RunId, here: Here, person: Person) -> CompareOut:
    """Two runs side by side: the knobs that differ, and what each came to."""
    left, right = (run_store.find_run(here.registry, here.settings.project, run_id) for run_id in (a, b))
    rows = (_row_scores(here, a), _row_scores(here, b))
    return CompareOut(
        a=RunOut.model_validate(left),
        b=RunOut.model_validate(right),
        same_rows=run_compare.same_rows(left, right),
        recipe=[KnobOut(**one._asdict()) for one in run_compare.knobs(left["recipe"] or {}, right["recipe"] or {})],
        scores=[ComparedOut(**one._asdict()) for one in run_compare.compared(left["result"], right["result"], *rows)],
    )


def _row_scores(here: Here, run_id: str) -> list[RowScores]:
    """What a run left of each row; nothing of one of former days, or that has not ended."""
    try:
        content = here.files.read(f"runs/{here.project}/{run_id}/{ROW_SCORES_FILE}")
        return msgspec.json.decode(content, type=list[RowScores])
    except (DamagedFile, msgspec.DecodeError):
        return []


@router.get("/{run_id}/samples", responses=responses(404, 422))
def list_samples(run_id: RunId, here: Here, _person: Person) -> SamplesOut:
    """Rows with the answers of the base and of the tuned model; none before the run ends, or after one of its rows was erased."""
    run_store.find_run(here.registry, here.project, run_id)
    try:
        content = here.files.read(f"runs/{here.project}/{run_id}/{SAMPLES_FILE}")
        return SamplesOut(samples=[msgspec.json.decode(line) for line in content.splitlines()])
    except (DamagedFile, msgspec.DecodeError):  # there is none yet, or it is being written
        return SamplesOut(samples=[])

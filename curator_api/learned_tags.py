"""Learned tags over HTTP: label logs, learn a tag from the labels, look at how good it is, put it in force."""

import asyncio
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Path, Query

from tunemill.curator_api import learned_store
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.dry_run import TagEffect, dry_run
from tunemill.curator_api.edit_store import Act
from tunemill.curator_api.edits import change_many
from tunemill.curator_api.errors import NotFound, Unprocessable
from tunemill.curator_api.learned_store import Learned
from tunemill.curator_api.payloads import (
    InForceIn,
    InForceOut,
    LabelsIn,
    LabelsOut,
    LearnedDryRunIn,
    LearnedDryRunOut,
    LearnedReportOut,
    LearnedTagOut,
    LearnedTagsOut,
    LearnIn,
    LearnOut,
    TagEffectOut,
    TagText,
)
from tunemill.curator_api.problems import responses
from tunemill.curator_api.queries import read_query
from tunemill.curator_api.tagging import Tagger
from tunemill.indexer.errors import IndexUnavailable
from tunemill.registry import rule_sets
from tunemill.schemas.learned import LearnedTag, NotLearned
from tunemill.schemas.records import LogRecord

router = APIRouter(prefix="/v1", tags=["learned tags"])

MAX_LABELS = 2_000  # to learn from; more make a model hardly better, and 2,000 long logs take some 15 s and 400 MiB
_LOGS_AT_ONCE = 100
_DEADLINE_S = 60.0  # the index waits for an engine that is away; a person does not

ThisTag = Annotated[TagText, Path(examples=["topic:refund"])]


@router.post("/labels", responses=responses(422))
async def label_logs(labels: LabelsIn, here: Here, person: Person) -> LabelsOut:
    """Say of logs whether they should have a tag. It is put on or taken off, for good, and `POST /v1/learned-tags` learns from it."""
    wanted: dict[str, dict[str, bool]] = {}
    for label in labels.labels:
        wanted.setdefault(label.log_id, {})[label.tag] = label.label  # the last one counts
    acts = {log_id: _acts(tags) for log_id, tags in wanted.items()}
    changed = await change_many(here, acts, by=person)
    await here.index.refresh()
    return LabelsOut(labelled=len(changed), missing=[log_id for log_id in acts if log_id not in changed])


@router.post("/learned-tags", status_code=201, responses=responses(422))
async def learn_tag(wanted: LearnIn, here: Here, person: Person) -> LearnOut:
    """Learn a tag from the logs that people put it on or took it off. What is learned is measured, and not in force yet."""
    project = here.settings.project
    labels = await asyncio.to_thread(learned_store.labels_of, here.registry, project, wanted.tag)
    newest = dict(list(labels.items())[-MAX_LABELS:])
    labelled = await _labelled(here, newest)
    lesson = await asyncio.to_thread(here.tagging.learn, labelled, precision=wanted.precision)
    if isinstance(lesson, NotLearned):
        raise Unprocessable(f"nothing can be learned: {lesson.reason}; label more logs")
    made = await asyncio.to_thread(learned_store.keep, here.registry, project, wanted.tag, lesson, by=person)
    out = _out(made, await _in_force(here))
    return LearnOut(**out.model_dump(), missing=len(newest) - len(labelled), left_out=len(labels) - len(newest))


@router.get("/learned-tags")
async def list_learned_tags(here: Here, _person: Person) -> LearnedTagsOut:
    """The newest version of each learned tag, and which version is in force."""
    found = await asyncio.to_thread(learned_store.newest, here.registry, here.settings.project)
    in_force = await _in_force(here)
    return LearnedTagsOut(learned_tags=[_out(one, in_force) for one in found])


@router.get("/learned-tags/{tag:path}", responses=responses(404, 422))
async def get_learned_tag(
    tag: ThisTag, here: Here, _person: Person, version: Annotated[int | None, Query(ge=1)] = None
) -> LearnedTagOut:
    """How good a learned tag is on labels that were held out, and the words that it looks at; the newest version unless told."""
    return _out(await _find(here, tag, version), await _in_force(here))


@router.post("/learned-tags/{tag:path}/enable", responses=responses(404, 422))
async def enable_learned_tag(tag: ThisTag, wanted: InForceIn, here: Here, person: Person) -> InForceOut:
    """Let a version set the tag on logs that come from now on, in place of another one. A backfill sets it on older logs."""
    learned = await _find(here, tag, wanted.version)
    return await _put_in_force(here, tag, learned.version, by=person)


@router.post("/learned-tags/{tag:path}/disable", responses=responses(404, 422))
async def disable_learned_tag(tag: ThisTag, here: Here, person: Person) -> InForceOut:
    """Set the tag no longer by itself. A backfill takes it off the logs that have it so."""
    await _find(here, tag, None)
    return await _put_in_force(here, tag, None, by=person)


@router.post("/learned-tags/{tag:path}/dry-run", responses=responses(400, 404, 422))
async def try_learned_tag(tag: ThisTag, wanted: LearnedDryRunIn, here: Here, _person: Person) -> LearnedDryRunOut:
    """Which stored logs would get the tag, or lose it, if this version were in force; nothing is changed."""
    query = await asyncio.to_thread(read_query, here.registry, here.project, wanted.query)
    learned = await _find(here, tag, wanted.version)
    tagger = await asyncio.to_thread(_tagger_with, here, learned)
    found = await dry_run(here.index, tagger, query, limit=wanted.limit)
    effect = found.by_tag.get(tag) or TagEffect(tag)
    return LearnedDryRunOut(
        version=learned.version, looked_at=found.looked_at, effect=TagEffectOut.model_validate(effect)
    )


def _acts(labels: Mapping[str, bool]) -> list[Act]:
    return [Act("tag" if label else "untag", tag) for tag, label in labels.items()]


async def _labelled(curator: Curator, labels: dict[str, bool]) -> list[tuple[LogRecord, bool]]:
    """The labelled logs that are in the index."""
    ids, logs = list(labels), []
    try:
        async with asyncio.timeout(_DEADLINE_S):
            for start in range(0, len(ids), _LOGS_AT_ONCE):
                found = await curator.index.stored(log_ids=ids[start : start + _LOGS_AT_ONCE], trace_ids=[])
                logs += [(one.tagged.shown, labels[log_id]) for log_id, one in found.logs.items()]
    except TimeoutError as error:
        raise IndexUnavailable(f"the labelled logs could not be read in {_DEADLINE_S:.0f} s") from error
    return logs


async def _find(curator: Curator, tag: str, version: int | None) -> Learned:
    found = await asyncio.to_thread(learned_store.find, curator.registry, curator.settings.project, tag, version)
    if found is None:
        raise NotFound("nothing was learned for this tag" if version is None else "the learned tag has no such version")
    return found


def _tagger_with(curator: Curator, learned: Learned) -> Tagger:
    """What is in force, with this version of a learned tag in place of another."""
    project = curator.settings.project
    now = rule_sets.in_force(curator.registry, project)
    others = [one for one in rule_sets.learned_in(curator.registry, project, now) if one.tag != learned.tag]
    mine = LearnedTag(learned.tag, learned.version, learned.model)
    return curator.tagging.compiled(now.document, [*others, mine], whole=False)


async def _put_in_force(curator: Curator, tag: str, version: int | None, *, by: str) -> InForceOut:
    project = curator.settings.project
    made = await asyncio.to_thread(learned_store.put_in_force, curator.registry, project, tag, version, by=by)
    return InForceOut(tag=tag, in_force=version, revision=made.revision)


async def _in_force(curator: Curator) -> dict[str, int]:
    return await asyncio.to_thread(learned_store.versions_in_force, curator.registry, curator.settings.project)


def _out(learned: Learned, in_force: Mapping[str, int]) -> LearnedTagOut:
    return LearnedTagOut(
        tag=learned.tag,
        version=learned.version,
        in_force=in_force.get(learned.tag),
        threshold=learned.model.threshold,
        report=LearnedReportOut.model_validate(learned.report),
        by=learned.by,
        created_ms=learned.created_ms,
    )

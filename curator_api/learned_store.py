"""Learned tags in the registry: the labels that people gave, what was learned from them, and what of it is in force.

Every function blocks on SQL.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Engine, Row, and_, func, insert, select
from sqlalchemy.exc import IntegrityError

from tunemill.curator_api import ledger
from tunemill.registry import audit_trail, rule_sets
from tunemill.registry.rule_sets import LearnedRef, RevisionChanged, RuleSet
from tunemill.registry.tables import edits, learned_tags, now_ms
from tunemill.schemas.learned import Lesson, Model, Report


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a learned tag."""

    tag: str
    version: int
    model: Model
    report: Report
    by: str
    created_ms: int


def labels_of(engine: Engine, project: str, tag: str) -> dict[str, bool]:
    """Whether people want this tag on a log, by log_id, as they said last; the newest labels last. Erased logs are left out."""
    acts = select(edits.c.log_id, edits.c.kind).where(edits.c.project == project, edits.c.tag == tag)
    labels: dict[str, bool] = {}
    with engine.connect() as connection:
        for log_id, kind in connection.execute(acts.order_by(edits.c.seq)):
            labels.pop(log_id, None)
            if kind != "reset":
                labels[log_id] = kind == "tag"
    erased = ledger.erased_among(engine, project, list(labels))
    return {log_id: label for log_id, label in labels.items() if log_id not in erased}


def keep(engine: Engine, project: str, tag: str, lesson: Lesson, *, by: str) -> Learned:
    """Store what was learned as the tag's next version, with an audit line. It is not in force yet."""
    while True:
        try:
            with engine.begin() as connection:
                here = (learned_tags.c.project == project, learned_tags.c.tag == tag)
                newest = connection.execute(select(func.max(learned_tags.c.version)).where(*here)).scalar_one() or 0
                made = Learned(
                    tag=tag, version=newest + 1, model=lesson.model, report=lesson.report, by=by, created_ms=now_ms()
                )
                connection.execute(insert(learned_tags).values(project=project, **msgspec.to_builtins(made)))
                audit_trail.append(connection, project, "tag.learn", f"{tag}@{made.version}", by=by)
            return made
        except IntegrityError:  # somebody else took the number between our look and our insert
            continue


def find(engine: Engine, project: str, tag: str, version: int | None = None) -> Learned | None:
    """A version of a learned tag; the newest unless told."""
    wanted = select(learned_tags).where(learned_tags.c.project == project, learned_tags.c.tag == tag)
    if version is not None:
        wanted = wanted.where(learned_tags.c.version == version)
    with engine.connect() as connection:
        row = connection.execute(wanted.order_by(learned_tags.c.version.desc()).limit(1)).one_or_none()
    return None if row is None else _learned(row)


def newest(engine: Engine, project: str) -> list[Learned]:
    """The newest version of each learned tag, by tag."""
    last = select(learned_tags.c.tag, func.max(learned_tags.c.version).label("version"))
    last_here = last.where(learned_tags.c.project == project).group_by(learned_tags.c.tag).subquery()
    same = and_(learned_tags.c.tag == last_here.c.tag, learned_tags.c.version == last_here.c.version)
    mine = select(learned_tags).join(last_here, same).where(learned_tags.c.project == project)
    with engine.connect() as connection:
        return [_learned(row) for row in connection.execute(mine.order_by(learned_tags.c.tag))]


def versions_in_force(engine: Engine, project: str) -> dict[str, int]:
    """The version that is in force, by tag."""
    return {ref.tag: ref.version for ref in rule_sets.in_force(engine, project).learned}


def put_in_force(engine: Engine, project: str, tag: str, version: int | None, *, by: str) -> RuleSet:
    """Let a version of a learned tag set it from now on, in place of another; None: no version does."""
    while True:
        now = rule_sets.in_force(engine, project)
        wanted = _with(now.learned, tag, version)
        try:
            return rule_sets.put(engine, project, by=by, learned=wanted, expected_revision=now.revision)
        except RevisionChanged:  # something else was put in force meanwhile: it stays so
            continue


def _with(learned: Sequence[LearnedRef], tag: str, version: int | None) -> tuple[LearnedRef, ...]:
    versions = {ref.tag: ref.version for ref in learned}
    if version is None:
        versions.pop(tag, None)
    else:
        versions[tag] = version
    return tuple(LearnedRef(*one) for one in sorted(versions.items()))


def _learned(row: Row[Any]) -> Learned:
    return msgspec.convert({name: row._mapping[name] for name in Learned.__struct_fields__}, Learned)

"""What people did to logs, as rows of the registry: numbered per log, never changed, marked once the index has them.

Every function blocks on SQL.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    insert,
    null,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from tunemill.curator_api import ledger
from tunemill.curator_api.errors import EditedMeanwhile
from tunemill.registry.tables import edits, now_ms

_IDS_AT_ONCE = 500  # in one statement: SQLite takes no more than some thousand values

_WITHOUT_TEXTS = [
    case((edits.c.kind == "messages", null()), else_=column).label("value") if column is edits.c.value else column
    for column in edits.c
]


class Act(NamedTuple):
    """One thing to do to a log."""

    kind: str  # tag | untag | reset (nobody's word on a tag) | messages | consent
    tag: str | None = None  # of tag, untag and reset
    value: Any = (
        None  # messages: {messages, output}; consent: the word; None: as the log came; reset: who had set the tag
    )


class EditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that somebody did to a log."""

    seq: int
    log_id: str
    revision: int
    kind: str
    tag: str | None
    value: Any
    why: str | None
    by: str
    ts_ms: int
    job_id: str | None


class History(NamedTuple):
    """What people did to a log, in order and without its messages, and which of that gave back the messages or consent that came."""

    rows: Sequence[EditRow]
    as_it_came: frozenset[int]  # by revision


class Waiting(NamedTuple):
    """Logs with edits that the index is not known to have, and the last row that was looked at to find them."""

    log_ids: Sequence[str]
    seq: int


def record(
    engine: Engine,
    project: str,
    acts: Mapping[str, Sequence[Act]],
    *,
    by: str,
    why: str | None = None,
    job_id: str | None = None,
    expected: Mapping[str, int] | None = None,
    indexed: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Remember what a person does to these logs, all of it or nothing, and give the last revision of each by log_id.

    Erased logs are left out.

    Args:
        expected: the last revision that the person has seen, 0 for none, by log_id; of logs without one it does not matter.
        indexed: the revision that the index has; it counts where the registry knows of none or of older ones only.

    Raises:
        EditedMeanwhile: a log's last revision is not the one that is expected.
    """
    said = {"project": project, "by": by, "why": why, "job_id": job_id, "ts_ms": now_ms()}
    while True:
        try:
            with engine.begin() as connection:
                last = _last_revisions(connection, project, acts, indexed or {})
                _refuse_others(last, expected or {})
                rows = [
                    {**said, "log_id": log_id, "revision": last[log_id] + place, **act._asdict()}
                    for log_id in sorted(last)
                    for place, act in enumerate(acts[log_id], start=1)
                ]
                if rows:
                    connection.execute(insert(edits), rows)
                return {log_id: last[log_id] + len(acts[log_id]) for log_id in last}
        except IntegrityError:  # somebody else took a number between our look and our insert
            continue


def edits_of(
    engine: Engine,
    project: str,
    log_ids: Sequence[str],
    *,
    after: Mapping[str, int] | None = None,
    texts: bool = True,
) -> dict[str, list[EditRow]]:
    """What people did to these logs, by log_id and in order; of each only what comes after a revision, if one is named.

    Args:
        texts: False: not which messages they put in a log's place, which may be megabytes; `value` is None of these.
    """
    columns = [edits] if texts else _WITHOUT_TEXTS
    after = after or {}
    found: dict[str, list[EditRow]] = defaultdict(list)
    with engine.connect() as connection:
        for some in _in_parts(log_ids):
            newer = edits.c.revision > min(after.get(log_id, 0) for log_id in some)
            wanted = select(*columns).where(edits.c.project == project, edits.c.log_id.in_(some), newer)
            for row in connection.execute(wanted.order_by(edits.c.log_id, edits.c.revision)):
                if row.revision > after.get(row.log_id, 0):
                    found[row.log_id].append(_row(row))
    return dict(found)


def consents_since(engine: Engine, project: str, ms: int) -> dict[str, str | None]:
    """The last word on the consent of each log about which people said one at this time or later; None: it is as it came."""
    since = and_(edits.c.project == project, edits.c.kind == "consent", edits.c.ts_ms >= ms)
    with engine.connect() as connection:
        said = connection.execute(select(edits.c.log_id, edits.c.value).where(since).order_by(edits.c.revision))
        return {row.log_id: row.value for row in said}


def history(engine: Engine, project: str, log_id: str, *, upto: int, limit: int) -> History:
    """The last things that people did to a log, up to a revision."""
    gave_back = and_(
        edits.c.kind.in_(("messages", "consent")), func.coalesce(cast(edits.c.value, Text), "null") == "null"
    )
    wanted = select(*_WITHOUT_TEXTS, gave_back.label("gave_back")).where(
        *_of(project, log_id), edits.c.revision <= upto
    )
    with engine.connect() as connection:
        found = connection.execute(wanted.order_by(edits.c.revision.desc()).limit(limit)).all()
    as_it_came = frozenset(row.revision for row in found if row.gave_back)
    return History([_row(row) for row in reversed(found)], as_it_came)


def messages_at(engine: Engine, project: str, log_id: str, revision: int) -> Any:
    """The messages that people had put in a log's place by a revision; None: those that came."""
    written = (*_of(project, log_id), edits.c.kind == "messages", edits.c.revision <= revision)
    wanted = select(edits.c.value).where(*written).order_by(edits.c.revision.desc()).limit(1)
    with engine.connect() as connection:
        return connection.execute(wanted).scalar_one_or_none()


def of_job(engine: Engine, job_id: str, *, after_seq: int, limit: int) -> list[EditRow]:
    """What a piece of work on many logs did, in the order in which it did it."""
    wanted = select(edits).where(edits.c.job_id == job_id, edits.c.seq > after_seq)
    with engine.connect() as connection:
        return [_row(row) for row in connection.execute(wanted.order_by(edits.c.seq).limit(limit))]


def pending(engine: Engine, project: str, *, before_ms: int, after_seq: int = 0, limit: int) -> Waiting | None:
    """The logs of the first edits after a row that were made before a moment and that the index is not known to have."""
    not_known = (edits.c.project == project, edits.c.applied_ms.is_(None))
    wanted = select(edits.c.seq, edits.c.log_id).where(*not_known, edits.c.ts_ms < before_ms, edits.c.seq > after_seq)
    with engine.connect() as connection:
        rows = connection.execute(wanted.order_by(edits.c.seq).limit(limit)).all()
    return Waiting(list(dict.fromkeys(row.log_id for row in rows)), rows[-1].seq) if rows else None


def last_applied(engine: Engine, project: str, *, after: str, limit: int) -> dict[str, int]:
    """Of the next logs after an id that the index had edits of, the last revision that it had, by log_id and in its order."""
    had = (edits.c.applied_ms.is_not(None), edits.c.kind != "erase")
    last = func.max(edits.c.revision).label("last")
    wanted = select(edits.c.log_id, last).where(edits.c.project == project, *had)
    page = wanted.where(edits.c.log_id > after).group_by(edits.c.log_id).order_by(edits.c.log_id).limit(limit)
    with engine.connect() as connection:
        return {row.log_id: row.last for row in connection.execute(page)}


def applied(engine: Engine, project: str, upto: Mapping[str, int]) -> None:
    """Note that the index has what was done to these logs, up to a revision of each."""
    if not upto:
        return
    of_log = (edits.c.project == project, edits.c.log_id == bindparam("of"), edits.c.revision <= bindparam("upto"))
    done = update(edits).where(*of_log, edits.c.applied_ms.is_(None)).values(applied_ms=now_ms())
    with engine.begin() as connection:
        connection.execute(done, [{"of": log_id, "upto": revision} for log_id, revision in sorted(upto.items())])


def _last_revisions(
    connection: Connection, project: str, acts: Mapping[str, Sequence[Act]], indexed: Mapping[str, int]
) -> dict[str, int]:
    """The last revision of each log that is not erased; 0 of one that nobody did anything to.

    First the numbers, then the erasures: an erasure takes a number, too (see `ledger`), so that one which we do not see has
    taken ours.
    """
    last: dict[str, int] = {}
    for some in _in_parts(list(acts)):
        theirs = (edits.c.project == project, edits.c.log_id.in_(some))
        newest = select(edits.c.log_id, func.max(edits.c.revision)).where(*theirs).group_by(edits.c.log_id)
        last.update((log_id, number) for log_id, number in connection.execute(newest))
    erased = ledger.erased_in(connection, project, list(acts))
    return {log_id: max(last.get(log_id, 0), indexed.get(log_id, 0)) for log_id in acts if log_id not in erased}


def _refuse_others(last: Mapping[str, int], expected: Mapping[str, int]) -> None:
    for log_id, revision in last.items():
        if expected.get(log_id, revision) != revision:
            raise EditedMeanwhile(
                f"somebody else edited the log meanwhile, and it is at revision {revision}: look at it, then edit it again",
                revision=revision,
            )


def _of(project: str, log_id: str) -> tuple[ColumnElement[bool], ...]:
    return (edits.c.project == project, edits.c.log_id == log_id)


def _in_parts(log_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (log_ids[start : start + _IDS_AT_ONCE] for start in range(0, len(log_ids), _IDS_AT_ONCE))


def _row(row: Any) -> EditRow:
    return EditRow(**{name: row._mapping[name] for name in EditRow.__struct_fields__})

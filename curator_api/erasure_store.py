"""Requests to erase, in the registry: what each is about, how far it is, and its receipt.

    running -> done | failed -> running

One request of a project is worked on at a time, the oldest first, by whoever holds its lease. What a request is about are items:
logs, the answers and traces that name them elsewhere, and imported rows that say the same. A subject or a query stands in the
request until it is done, and is then only known by its digest. One that failed is tried again: what it is about stays known, for
nobody else could say it any more. Every function blocks on SQL.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from tunemill.curator_api import ledger
from tunemill.curator_api.errors import NotFound
from tunemill.curator_api.receipt import INDEX, Kind, Receipt, about_to_remove, scope_digest
from tunemill.registry import audit_trail
from tunemill.registry.tables import erasure_items, erasure_requests, imported_rows, now_ms, row_edits
from tunemill.schemas.ids import new_id

LEASE_MS = 30_000  # how long a request lies idle after its process was killed
AGAIN_MS = 3_600_000  # after so long a request that failed is tried again
JOIN_MS = 10_000  # for so long a request waits for more logs to join it
LONGEST_NAME = 512  # characters; the id of a longer answer or trace could be no key of a table, and is not looked for
_IDS_AT_ONCE = 500  # in one statement: SQLite takes no more than some thousand values

ItemKind = Literal["log", "answer", "trace", "note", "value", "row", "media"]  # note: of a trace; value: of a slice
Status = Literal["running", "done", "failed"]


class LeaseLost(Exception):
    """The request is no longer ours: somebody took it over after our lease ended."""


class Item(NamedTuple):
    """Something that a request is about."""

    kind: ItemKind
    name: str


class Joining(NamedTuple):
    """What logs were erased for that join a request."""

    kind: Kind
    value: str  # the first log's id, or the query
    found: int  # how many of them the index had


class Scope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a person asked to have erased."""

    kind: Kind
    digest: str
    value: str | None = None  # None: it is done, or its items were known from the start


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request to erase."""

    request_id: str
    scope: Scope
    status: Status
    receipt: Receipt
    lease_owner: str | None
    by: str
    created_ms: int
    finished_ms: int | None


def start(engine: Engine, project: str, kind: Kind, value: str, *, by: str) -> Request:
    """Have something erased, by this process or another; of a request for the same that is not done, that one: if it failed, it
    goes on."""
    scope = Scope(kind=kind, digest=scope_digest(value), value=value)
    with engine.begin() as connection:
        if known := _not_done(connection, project, scope):
            return known if known.status == "running" else _going_on(connection, known)
        made = _made(connection, project, new_id(), scope, by)
        audit_trail.append(connection, project, "erasure.start", made.request_id, by=by)
        return made


def find_not_done(engine: Engine, project: str, kind: Kind, value: str) -> Request | None:
    """The request for the same that is under way, or that failed."""
    with engine.connect() as connection:
        return _not_done(connection, project, Scope(kind=kind, digest=scope_digest(value)))


def join(connection: Connection, project: str, joining: Joining, items: Iterable[Item], *, by: str) -> None:
    """Have logs that the ledger has by now erased from everywhere: with others that nobody took up yet, or by a request of their own.

    It is done within the caller's transaction.
    """
    fresh = and_(
        erasure_requests.c.project == project,
        erasure_requests.c.status == "running",
        erasure_requests.c.lease_owner.is_(None),
        erasure_requests.c.by == by,
    )
    # Locked: whoever takes it up does so before, and it is passed over here, or after, and sees these logs.
    rows = connection.execute(select(erasure_requests).where(fresh).with_for_update()).all()
    unbegun = [
        one for one in map(_request, rows) if not one.receipt.steps
    ]  # a step that is done is not done for more logs
    waiting = [one for one in unbegun if one.scope.value is None and one.scope.kind == joining.kind]
    scope = Scope(kind=joining.kind, digest=scope_digest(joining.value))
    request = waiting[0] if waiting else _made(connection, project, new_id(), scope, by)
    put_items(connection, request.request_id, items)
    receipt = about_to_remove(request.receipt, [(INDEX, request.receipt.counted.get(INDEX, 0) + joining.found)])
    connection.execute(_update(request.request_id).values(receipt=msgspec.to_builtins(receipt)))


def forget_one(engine: Engine, project: str, log_id: str, items: Iterable[Item], *, found: bool, by: str) -> str:
    """Have one log forgotten now, and erased from everywhere by a request; gives the erasure's id, asked for again the same."""
    while True:
        try:
            with engine.begin() as connection:
                if ledger.erase_many(connection, project, [log_id], by=by):
                    join(connection, project, Joining("log", log_id, int(found)), items, by=by)
            return ledger.erase(engine, project, log_id, by=by)
        except IntegrityError:  # somebody else erased or edited it between our look and our insert
            continue


def find(engine: Engine, project: str, request_id: str) -> Request:
    """The request with this id.

    Raises:
        NotFound: there is none.
    """
    with engine.connect() as connection:
        found = _newest_first(connection, project, erasure_requests.c.request_id == request_id)
    if not found:
        raise NotFound("there is no such erasure")
    return found[0]


def find_all(engine: Engine, project: str, *, limit: int) -> list[Request]:
    """The newest requests, newest first."""
    with engine.connect() as connection:
        return _newest_first(connection, project, erasure_requests.c.request_id.is_not(None), limit=limit)


def find_done(engine: Engine, project: str, kind: Kind, value: str) -> Request | None:
    """The last request for the same that is done and verified."""
    digest = scope_digest(value)
    with engine.connect() as connection:
        done = _newest_first(connection, project, erasure_requests.c.status == "done")
    found = [one for one in done if (one.scope.kind, one.scope.digest) == (kind, digest) and one.receipt.verified]
    return found[0] if found else None


def claim(engine: Engine, project: str, owner: str) -> Request | None:
    """Take the oldest request that is not done; None when there is none, somebody else is at work, or each waits for its time."""
    now = now_ms()
    failed = and_(erasure_requests.c.status == "failed", erasure_requests.c.lease_until_ms <= now)
    here = and_(erasure_requests.c.project == project, or_(erasure_requests.c.status == "running", failed))
    with engine.begin() as connection:
        oldest = select(erasure_requests).where(here).order_by(erasure_requests.c.created_ms).with_for_update()
        rows = connection.execute(oldest).all()
        held = [row for row in rows if row.lease_owner not in (None, owner) and row.lease_until_ms >= now]
        ready = [row for row in rows if row.lease_until_ms is None or row.lease_until_ms <= now or row.lease_owner]
        if held or not ready:
            return None
        return _going_on(connection, _request(ready[0]), lease_owner=owner, lease_until_ms=now + LEASE_MS)


def under_way(engine: Engine, project: str) -> str | None:
    """The request that somebody has taken up, that all others which are not done wait for."""
    held = and_(
        erasure_requests.c.project == project,
        erasure_requests.c.status == "running",
        erasure_requests.c.lease_owner.is_not(None),
    )
    with engine.connect() as connection:
        found: str | None = connection.scalar(select(erasure_requests.c.request_id).where(held))
    return found


def renew(engine: Engine, claimed: Request) -> None:
    """Keep the lease for a while.

    Raises:
        LeaseLost: it is not ours any more.
    """
    with engine.begin() as connection:
        _fence(connection, claimed, {})


def note(engine: Engine, claimed: Request, receipt: Receipt) -> None:
    """Write down what was done so far.

    Raises:
        LeaseLost: it is not ours any more.
    """
    with engine.begin() as connection:
        _fence(connection, claimed, {"receipt": msgspec.to_builtins(receipt)})


def forget_what(engine: Engine, claimed: Request) -> Request:
    """Forget what a request is about: of the subject or query its digest stays. It is still ours, and as it is then.

    Raises:
        LeaseLost: it is not ours any more.
    """
    scope = msgspec.structs.replace(claimed.scope, value=None)
    with engine.begin() as connection:
        _fence(connection, claimed, {"scope": msgspec.to_builtins(scope)})
        connection.execute(delete(erasure_items).where(erasure_items.c.request_id == claimed.request_id))
    return msgspec.structs.replace(claimed, scope=scope)


def finish(engine: Engine, claimed: Request, receipt: Receipt) -> None:
    """It is done: hand the receipt over.

    Raises:
        LeaseLost: it is not ours any more.
    """
    claimed = forget_what(engine, claimed)
    _end(engine, claimed, "done", receipt, lease_until_ms=None)


def fail(engine: Engine, claimed: Request, receipt: Receipt) -> None:
    """It met an error; it goes on after a while, or when somebody asks for the same again.

    Raises:
        LeaseLost: it is not ours any more.
    """
    _end(engine, claimed, "failed", receipt, lease_until_ms=now_ms() + AGAIN_MS)


def let_go(engine: Engine, claimed: Request) -> None:
    """Give the lease back, if we have it, so that whoever comes next need not wait."""
    ours = and_(_is(claimed.request_id), erasure_requests.c.lease_owner == claimed.lease_owner)
    with engine.begin() as connection:
        connection.execute(update(erasure_requests).where(ours).values(lease_owner=None, lease_until_ms=None))


def add_items(engine: Engine, claimed: Request, items: Iterable[Item]) -> None:
    """Have a request that is ours be about these, too.

    Raises:
        LeaseLost: it is not ours any more.
    """
    with engine.begin() as connection:
        _fence(connection, claimed, {})
        put_items(connection, claimed.request_id, items)


def put_items(connection: Connection, request_id: str, items: Iterable[Item]) -> None:
    """Likewise within the caller's transaction."""
    wanted = sorted({item for item in items if len(item.name) <= LONGEST_NAME})
    for start_at in range(0, len(wanted), _IDS_AT_ONCE):
        some = wanted[start_at : start_at + _IDS_AT_ONCE]
        here = and_(erasure_items.c.request_id == request_id, erasure_items.c.name.in_({item.name for item in some}))
        known = {Item(kind, name) for _, kind, name in connection.execute(select(erasure_items).where(here))}
        rows = [{"request_id": request_id, **item._asdict()} for item in some if item not in known]
        if rows:
            connection.execute(insert(erasure_items), rows)


def names(engine: Engine, request_id: str, kind: ItemKind) -> list[str]:
    """The names of all items of a kind, in order."""
    here = and_(erasure_items.c.request_id == request_id, erasure_items.c.kind == kind)
    with engine.connect() as connection:
        return list(connection.execute(select(erasure_items.c.name).where(here).order_by("name")).scalars())


def count_logs(engine: Engine, request_id: str) -> int:
    """How many logs a request is about by now."""
    here = and_(erasure_items.c.request_id == request_id, erasure_items.c.kind == "log")
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(erasure_items).where(here)).scalar_one()


def forget_rows(engine: Engine, project: str, row_keys: Sequence[str], *, by: str) -> int:
    """Take imported rows out of every draft, with what people made of them, and keep them out. Says how many there were."""
    return sum(_forget_rows(engine, project, some, by) for some in in_parts(row_keys))


def in_parts(found: Sequence[str]) -> Iterator[Sequence[str]]:
    """Some names at a time, as one statement takes them."""
    return (found[start_at : start_at + _IDS_AT_ONCE] for start_at in range(0, len(found), _IDS_AT_ONCE))


def _not_done(connection: Connection, project: str, scope: Scope) -> Request | None:
    waiting = _newest_first(connection, project, erasure_requests.c.status.in_(("running", "failed")))
    return next((one for one in waiting if (one.scope.kind, one.scope.digest) == (scope.kind, scope.digest)), None)


def _going_on(connection: Connection, request: Request, **lease: Any) -> Request:
    """The request under way again, from where it was."""
    receipt = msgspec.to_builtins(msgspec.structs.replace(request.receipt, error=None))
    values = {"status": "running", "finished_ms": None, "lease_owner": None, "lease_until_ms": None, **lease}
    connection.execute(_update(request.request_id).values(**values, receipt=receipt))
    return _request(connection.execute(select(erasure_requests).where(_is(request.request_id))).one())


def _end(engine: Engine, claimed: Request, status: Status, receipt: Receipt, *, lease_until_ms: int | None) -> None:
    ended = {"status": status, "finished_ms": now_ms(), "lease_owner": None, "lease_until_ms": lease_until_ms}
    with engine.begin() as connection:
        _fence(connection, claimed, {**ended, "receipt": msgspec.to_builtins(receipt)})


def _forget_rows(engine: Engine, project: str, row_keys: Sequence[str], by: str) -> int:
    here = and_(imported_rows.c.project == project, imported_rows.c.row_key.in_(row_keys))
    changed = and_(row_edits.c.project == project, row_edits.c.row_key.in_(row_keys))
    while True:
        try:
            with engine.begin() as connection:
                there = connection.execute(select(imported_rows.c.row_key).where(here)).scalars().all()
                ledger.keep_many_out(connection, project, there, by=by)
                connection.execute(delete(row_edits).where(changed))
                return connection.execute(delete(imported_rows).where(here)).rowcount
        except IntegrityError:  # somebody else keeps one of them out just now
            continue


def _made(connection: Connection, project: str, request_id: str, scope: Scope, by: str) -> Request:
    now = now_ms()
    values: dict[str, Any] = {
        "request_id": request_id,
        "project": project,
        "scope": msgspec.to_builtins(scope),
        "status": "running",
        "receipt": msgspec.to_builtins(Receipt()),
        "by": by,
        "created_ms": now,
        # Nobody's lease: until then logs may join it.
        "lease_until_ms": now + JOIN_MS if scope.value is None else None,
    }
    connection.execute(insert(erasure_requests).values(values))
    return _request(connection.execute(select(erasure_requests).where(_is(request_id))).one())


def _newest_first(
    connection: Connection, project: str, here: ColumnElement[bool], *, limit: int | None = None
) -> list[Request]:
    wanted = select(erasure_requests).where(erasure_requests.c.project == project, here)
    newest = wanted.order_by(erasure_requests.c.created_ms.desc(), erasure_requests.c.request_id.desc())
    return [_request(row) for row in connection.execute(newest.limit(limit))]


def _fence(connection: Connection, claimed: Request, values: dict[str, Any]) -> None:
    """Change the request and renew its lease, if it is ours."""
    ours = and_(
        _is(claimed.request_id),
        erasure_requests.c.lease_owner == claimed.lease_owner,
        erasure_requests.c.status == "running",
    )
    changed = update(erasure_requests).where(ours).values(**{"lease_until_ms": now_ms() + LEASE_MS, **values})
    if connection.execute(changed).rowcount != 1:
        raise LeaseLost


def _is(request_id: str) -> ColumnElement[bool]:
    return erasure_requests.c.request_id == request_id


def _update(request_id: str):  # type: ignore[no-untyped-def]  # SQLAlchemy's Update is generic in what it returns
    return update(erasure_requests).where(_is(request_id))


def _request(row: Row[Any]) -> Request:
    return msgspec.convert({name: row._mapping[name] for name in Request.__struct_fields__}, Request)

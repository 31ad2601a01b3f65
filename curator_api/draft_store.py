"""Drafts in the registry: their recipes, the rows people changed, the rows they imported."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, Table, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tunemill.curator_api.errors import Exists, NotFound
from tunemill.curator_api.recipe import Recipe
from tunemill.curator_api.rows import Changes, Messages, Row, RowEdit, imported_row, in_session
from tunemill.registry import audit_trail
from tunemill.registry.tables import datasets, erasures, imported_rows, now_ms, row_edits

_PAGE = 500  # rows that are read at once
_KEYS_AT_ONCE = 500  # in one statement: engines limit how many values it may have

Edits = Mapping[str, RowEdit | None]  # by row_key; None takes the row out of the draft


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that somebody is making."""

    name: str
    draft: Recipe
    created_ms: int
    updated_ms: int


def create(engine: Engine, project: str, name: str, draft: Recipe) -> Dataset:
    """Start a dataset.

    Raises:
        Exists: one of this name is there.
    """
    now = now_ms()
    values = {
        "project": project,
        "name": name,
        "draft": msgspec.to_builtins(draft),
        "created_ms": now,
        "updated_ms": now,
    }
    try:
        with engine.begin() as connection:
            connection.execute(insert(datasets).values(values))
    except IntegrityError as error:
        raise Exists(f"there is a dataset {name!r} already: change its draft, or choose another name") from error
    return Dataset(name=name, draft=draft, created_ms=now, updated_ms=now)


def find_all(engine: Engine, project: str) -> list[Dataset]:
    """Every dataset of the project, by name."""
    with engine.connect() as connection:
        rows = connection.execute(select(datasets).where(datasets.c.project == project).order_by(datasets.c.name))
        return [_dataset(row._mapping) for row in rows]


def find(engine: Engine, project: str, name: str) -> Dataset:
    """The dataset of this name.

    Raises:
        NotFound: there is none.
    """
    with engine.connect() as connection:
        row = connection.execute(select(datasets).where(_of(datasets, project, name))).one_or_none()
    if row is None:
        raise NotFound(f"there is no dataset {name!r}")
    return _dataset(row._mapping)


def change(engine: Engine, project: str, name: str, draft: Recipe, edits: Edits, *, by: str) -> None:
    """Give a dataset's draft another recipe, and change rows; those that were changed before, or imported, stay.

    Raises:
        NotFound: there is no such dataset, or the log of an edited row was erased.
    """
    with engine.begin() as connection:
        values = {"draft": msgspec.to_builtins(draft), "updated_ms": now_ms()}
        changed = connection.execute(update(datasets).where(_of(datasets, project, name)).values(values))
        if not changed.rowcount:
            raise NotFound(f"there is no dataset {name!r}")
        _edit_rows(connection, project, name, edits, by)


def edit_rows(engine: Engine, project: str, name: str, edits: Edits, *, by: str) -> None:
    """Put edits in place of rows' own messages, all or none; the last edit of a row holds.

    Raises:
        NotFound: the log of one was erased; nothing that was in it may be written down again.
    """
    with engine.begin() as connection:
        _edit_rows(connection, project, name, edits, by)


def changes(engine: Engine, project: str, name: str) -> Changes:
    """What people did to the draft, and what must be forgotten."""
    with engine.connect() as connection:
        rows = connection.execute(select(row_edits).where(_of(row_edits, project, name))).all()
        erased = connection.execute(select(erasures.c.log_id).where(erasures.c.project == project)).scalars().all()
    edits = {row.row_key: _edit(row.messages, row.rejected) for row in rows if row.action == "edit"}
    return Changes(
        edits=edits,
        deleted=frozenset(row.row_key for row in rows if row.action == "delete"),
        erased=frozenset(erased),
    )


def changed_since(engine: Engine, project: str, name: str, ms: int) -> frozenset[str]:
    """The row_keys of the rows that people changed at this time or later."""
    here = and_(_of(row_edits, project, name), row_edits.c.ts_ms >= ms)
    with engine.connect() as connection:
        return frozenset(connection.execute(select(row_edits.c.row_key).where(here)).scalars())


def restore(engine: Engine, project: str, name: str, draft: Recipe, version: str, *, by: str) -> None:
    """Give a draft another recipe, and forget what people did to its rows.

    Args:
        version: whose rows it has now, for the audit trail.
    """
    now = now_ms()
    with engine.begin() as connection:
        values = {"draft": msgspec.to_builtins(draft), "updated_ms": now}
        connection.execute(update(datasets).where(_of(datasets, project, name)).values(values))
        connection.execute(delete(row_edits).where(_of(row_edits, project, name)))
        audit_trail.append(connection, project, "draft.restore", version, by=by)


def add_imported(
    engine: Engine,
    project: str,
    name: str,
    rows: Sequence[tuple[int, Row]],
    *,
    source: str = "",
    licence: str | None = None,
    held_out: bool = False,
) -> int:
    """Add rows, each with its line in the file, to the draft and say how many were new.

    Args:
        source: the file or set that they come from.
        licence: that of the set.
        held_out: the set has them for testing or validation.
    """
    unique = {row.row_key: (line, row) for line, row in rows}
    with engine.begin() as connection:
        _touch(connection, project, name)
        known = _imported_keys(connection, project, name, list(unique))
        origin = {"project": project, "name": name, "source": source, "licence": licence, "held_out": held_out}
        fresh = [origin | _imported_values(*pair) for key, pair in unique.items() if key not in known]
        if fresh:
            connection.execute(insert(imported_rows), fresh)
    return len(fresh)


def imported_pages(engine: Engine, project: str, name: str, *, source: str | None) -> Iterator[list[Row]]:
    """The rows that were imported into the draft, some at once, by row_key; of one source or of all."""
    here = _of(imported_rows, project, name)
    here = here if source is None else and_(here, imported_rows.c.source == source)
    after = ""
    while True:
        page = select(imported_rows).where(here, imported_rows.c.row_key > after).order_by(imported_rows.c.row_key)
        with engine.connect() as connection:
            found = connection.execute(page.limit(_PAGE)).all()
        if not found:
            return
        yield [_imported_row(row) for row in found]
        after = found[-1].row_key


def has_imported(engine: Engine, project: str, name: str, row_key: str) -> bool:
    """Whether this row was imported into the draft."""
    here = and_(_of(imported_rows, project, name), imported_rows.c.row_key == row_key)
    with engine.connect() as connection:
        return connection.execute(select(imported_rows.c.row_key).where(here)).one_or_none() is not None


def _edit_rows(connection: Connection, project: str, name: str, edits: Edits, by: str) -> None:
    if not edits:
        return
    _touch(connection, project, name)
    now, keys = now_ms(), list(edits)
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        some = keys[start : start + _KEYS_AT_ONCE]
        erased = select(erasures.c.log_id).where(erasures.c.project == project, erasures.c.log_id.in_(some))
        if connection.execute(erased).first() is not None:
            raise NotFound("there is no such log")
        connection.execute(delete(row_edits).where(_of(row_edits, project, name), row_edits.c.row_key.in_(some)))
        line = {"project": project, "name": name, "by": by, "ts_ms": now}
        connection.execute(insert(row_edits), [line | _edit_values(key, edits[key]) for key in some])


def _edit_values(row_key: str, edit: RowEdit | None) -> dict[str, object]:
    return {
        "row_key": row_key,
        "action": "delete" if edit is None else "edit",
        "messages": None if edit is None else msgspec.to_builtins(edit.messages),
        "rejected": msgspec.to_builtins(edit.rejected) if edit is not None and edit.rejected else None,
    }


def _edit(messages: object, rejected: object) -> RowEdit:
    return RowEdit(msgspec.convert(messages, Messages), msgspec.convert(rejected or (), Messages))


def _imported_row(stored: Any) -> Row:
    row = imported_row(msgspec.convert(stored.messages, Messages), stored.tools)
    return msgspec.structs.replace(
        row,
        row_key=stored.row_key,
        rejected=msgspec.convert(stored.rejected or (), Messages),
        conversation=in_session(stored.conversation) if stored.conversation else row.conversation,
        source=stored.source,
        terms=stored.licence,
        held_out=stored.held_out,
    )


def _touch(connection: Connection, project: str, name: str) -> None:
    """The draft changes now; until the transaction ends, nobody else changes it."""
    connection.execute(update(datasets).where(_of(datasets, project, name)).values(updated_ms=now_ms()))


def _imported_keys(connection: Connection, project: str, name: str, keys: Sequence[str]) -> set[str]:
    """Those of the keys that are there."""
    found: set[str] = set()
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        some = imported_rows.c.row_key.in_(keys[start : start + _KEYS_AT_ONCE])
        there = select(imported_rows.c.row_key).where(_of(imported_rows, project, name), some)
        found.update(connection.execute(there).scalars())
    return found


def _imported_values(line: int, row: Row) -> dict[str, object]:
    return {
        "row_key": row.row_key,
        "seq": line,
        "messages": msgspec.to_builtins(row.messages),
        "tools": row.tools,
        "rejected": msgspec.to_builtins(row.rejected) if row.rejected else None,
    }


def _of(table: Table, project: str, name: str) -> ColumnElement[bool]:
    return and_(table.c.project == project, table.c.name == name)


def _dataset(row: object) -> Dataset:
    return msgspec.convert(row, Dataset, from_attributes=False)

"""An INSERT that can say what becomes of a row that is there already: each engine of the registry spells it in its dialect."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_into(connection: Connection, table: Table) -> Any:
    """An INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`, which are the same in both dialects."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def put(
    connection: Connection,
    table: Table,
    key: Mapping[str, Any],
    values: Mapping[str, Any],
    *,
    at_first: Mapping[str, Any] | None = None,
) -> None:
    """Have the row with this key hold these values, whether it is there or not: in one statement, for two may do so at once.

    Args:
        key: the primary key, whole.
        at_first: what a row holds besides when it is made.
    """
    row = insert_into(connection, table).values({**key, **values, **(at_first or {})})
    connection.execute(row.on_conflict_do_update(index_elements=list(key), set_=dict(values)))

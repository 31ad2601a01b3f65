"""An INSERT that can say what becomes of a row that is there already: each engine of the registry spells it in its dialect."""

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_into(connection: Connection, table: Table) -> Any:
    """An INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`, which are the same in both dialects."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)

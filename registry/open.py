"""The registry behind a URL, and its tables brought up to date."""

import threading
from importlib.resources import as_file, files
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError

BUSY_TIMEOUT_MS = 30_000  # longer than any transaction of ours; a writer that waits is better than one that fails
_MIGRATION_LOCK = 7_305_809_202  # any number that is ours: PostgreSQL's advisory locks are named by numbers

_one_migration_at_a_time = threading.Lock()  # Alembic keeps its context in module globals


def open_registry(url: str) -> Engine:
    """The engine for an SQLAlchemy URL: `sqlite:///file` or `postgresql+psycopg://user@host/name`.

    On SQLite: write-ahead log, synced commits, foreign keys on, and every transaction takes the write lock when it begins,
    so that one that reads and then writes never fails half-way with "database is locked".
    """
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_immediate)
    return engine


def migrate(engine: Engine) -> None:
    """Bring the tables up to date. Several processes may call it at once: one does the work, the others wait for it."""
    with (
        _one_migration_at_a_time,
        as_file(files("tunemill.registry") / "migrations") as folder,
        engine.begin() as connection,
    ):
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        _upgrade(connection, str(folder))


def expunge(engine: Engine) -> bool:
    """Overwrite on the disk what was deleted. False: PostgreSQL does so by itself, some time.

    SQLite would leave copies in pages that rows were moved from before: only a file that is written anew has none.

    Raises:
        OperationalError: somebody is reading, and old pages are still in use; it can be tried again.
    """
    if engine.dialect.name != "sqlite":
        return False
    raw = engine.raw_connection()
    try:
        connection = raw.driver_connection
        assert connection is not None  # noqa: S101  it was just opened
        connection.execute("VACUUM")
        is_busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        raw.close()
    if is_busy:
        raise OperationalError("wal_checkpoint", None, TimeoutError("the registry is being read"))
    return True


def _upgrade(connection: Connection, folder: str) -> None:
    config = Config()
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver starts no transactions of its own: `_begin_immediate` does
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # a committed version survives a power cut
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")

"""Where a version came from and where it went: its lineage, the runs on it, the erasures that took rows out of it."""

from typing import Any

import msgspec
from sqlalchemy import Engine, select

from tunemill.curator_api.curator import Curator
from tunemill.curator_api.lineage import Lineage
from tunemill.curator_api.publish_files import folder
from tunemill.curator_api.published import entries_of, read_buckets, read_manifest, read_sources
from tunemill.curator_api.version_keys import find as find_keys
from tunemill.curator_api.version_keys import from_bytes
from tunemill.curator_api.version_store import Version
from tunemill.registry.tables import redactions, runs


class Origins(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a version beside its rows."""

    name: str
    version: int
    lineage: Lineage | None
    runs: list[dict[str, Any]]
    redactions: list[dict[str, Any]]
    rows: list[str] | None  # row_ids that were made of the log that was asked for


def find(curator: Curator, version: Version, log_id: str | None = None) -> Origins:
    """Everything about a version; with a log_id, the rows that were made of that log, too."""
    return Origins(
        name=version.name,
        version=version.version,
        lineage=version.lineage,
        runs=_runs(curator.registry, curator.project, version),
        redactions=_redactions(curator.registry, curator.project, version),
        rows=None if log_id is None else _rows_of(curator, version, log_id),
    )


def _runs(engine: Engine, project: str, version: Version) -> list[dict[str, Any]]:
    """The runs on any revision of it, the newest first."""
    wanted = select(runs.c.run_id, runs.c.status, runs.c.digest, runs.c.created_ms).where(
        runs.c.project == project, runs.c.name == version.name, runs.c.version == version.version
    )
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(wanted.order_by(runs.c.created_ms.desc())).mappings()]


def _redactions(engine: Engine, project: str, version: Version) -> list[dict[str, Any]]:
    wanted = select(redactions).where(
        redactions.c.project == project, redactions.c.name == version.name, redactions.c.version == version.version
    )
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(wanted.order_by(redactions.c.revision)).mappings()]


def _rows_of(curator: Curator, version: Version, log_id: str) -> list[str]:
    place = folder(curator.project, version.name)
    manifest = read_manifest(curator.files, place, version.digest)
    sources = read_sources(curator.files, place, version)
    wheres = find_keys(from_bytes(curator.files.read(f"{place}/{sources.keys_path}")), [log_id]).get(log_id, [])
    entries = [one for one in entries_of(manifest, sources) if (one.part.split, one.part.bucket) in wheres]
    found = (row for rows in read_buckets(curator.files, place, entries) for row in rows)
    return [row.row_id for row in found if log_id in row.row.log_ids or log_id in row.row_keys]

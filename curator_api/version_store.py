"""Published versions in the registry. Inserting one, together with its event, is the only commit point of publishing."""

from collections.abc import Set as AbstractSet
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, func, insert, select
from sqlalchemy.exc import IntegrityError

from tunemill.curator_api.errors import NotFound, Unchanged
from tunemill.curator_api.recipe import Recipe
from tunemill.curator_api.report import Report
from tunemill.registry import outbox
from tunemill.registry.tables import audit, datasets, erasures, now_ms, versions
from tunemill.schemas.ids import new_id
from tunemill.schemas.records import DatasetReady
from tunemill.schemas.topics import DATASETS_READY


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A published version; never changed."""

    name: str
    version: int
    digest: str  # SHA-256 of the manifest
    manifest_url: str
    provenance_path: str  # relative to the dataset's folder
    rows: int
    splits: dict[str, int]
    draft: Recipe
    report: Report
    note: str | None
    by: str
    created_ms: int


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A version whose files are all written, and which nobody can see yet."""

    project: str
    name: str
    digest: str
    manifest_url: str
    provenance_path: str
    draft: Recipe
    report: Report
    log_ids: frozenset[str]  # of the logs that its rows were made from
    erased_seen: int  # how many erasures there were when those logs were gathered
    note: str | None
    recipe: Any  # what to train on it; None: nothing
    by: str
    idempotency_key: str | None


class ErasedMeanwhile(Exception):
    """One of the logs was erased while the files were written: gather again, without it."""


def insert_version(engine: Engine, proposal: Proposal) -> Version:
    """Make a version visible, and its event due, in one transaction.

    Raises:
        Unchanged: the latest version has this content.
        ErasedMeanwhile: a log that is in it may not be any more.
    """
    for _ in range(3):
        try:
            with engine.begin() as connection:
                return _insert(connection, proposal)
        except IntegrityError:  # somebody took this number; there is a next one
            continue
    raise RuntimeError("a version's number was taken three times in a row")


def find_versions(engine: Engine, project: str, name: str) -> list[Version]:
    """All versions of a dataset, the newest first."""
    with engine.connect() as connection:
        newest_first = _of(project, name).order_by(versions.c.version.desc())
        return [_version(row._mapping) for row in connection.execute(newest_first)]


def count_versions(engine: Engine, project: str) -> dict[str, tuple[int, int]]:
    """How many versions each dataset has, and the number of its latest; datasets without one are left out."""
    counts = select(versions.c.name, func.count(), func.max(versions.c.version))
    with engine.connect() as connection:
        rows = connection.execute(counts.where(versions.c.project == project).group_by(versions.c.name))
        return {name: (count, latest) for name, count, latest in rows}


def find_version(engine: Engine, project: str, name: str, version: int) -> Version:
    """One version.

    Raises:
        NotFound: there is no such version.
    """
    with engine.connect() as connection:
        row = connection.execute(_of(project, name).where(versions.c.version == version)).one_or_none()
    if row is None:
        raise NotFound(f"there is no version {version} of a dataset {name!r}")
    return _version(row._mapping)


def find_by_idempotency_key(engine: Engine, project: str, name: str, key: str) -> Version | None:
    """The version that an earlier request with this key made."""
    with engine.connect() as connection:
        return _by_key(connection, project, name, key)


def request_run(engine: Engine, project: str, version: Version, recipe: Any) -> str:
    """Have a version trained on; gives the event's id. The event is sent by the relay."""
    event = _event(project, version, recipe)
    with engine.begin() as connection:
        outbox.append(connection, DATASETS_READY, event, event_id=event.event_id)
    return event.event_id


def unchanged(version: int, name: str) -> Unchanged:
    """The answer to publishing what is published already."""
    return Unchanged(f"the draft holds exactly what version {version} of {name!r} holds", name=name, version=version)


def erasure_count(engine: Engine, project: str) -> int:
    """How many logs were erased so far."""
    with engine.connect() as connection:
        return _erasure_count(connection, project)


def _insert(connection: Connection, proposal: Proposal) -> Version:
    here = (datasets.c.project == proposal.project, datasets.c.name == proposal.name)
    connection.execute(select(datasets.c.name).where(*here).with_for_update())
    if proposal.idempotency_key and (
        made := _by_key(connection, proposal.project, proposal.name, proposal.idempotency_key)
    ):
        return made
    newest_first = _of(proposal.project, proposal.name).order_by(versions.c.version.desc()).limit(1)
    latest = connection.execute(newest_first).one_or_none()
    if latest is not None and latest.digest == proposal.digest:
        raise unchanged(latest.version, proposal.name)
    _refuse_erased(connection, proposal)
    version = _numbered(proposal, 1 if latest is None else latest.version + 1)
    values = {"project": proposal.project, "idempotency_key": proposal.idempotency_key, **msgspec.to_builtins(version)}
    connection.execute(insert(versions).values(values))
    event = _event(proposal.project, version, proposal.recipe)
    outbox.append(connection, DATASETS_READY, event, event_id=event.event_id)
    connection.execute(_audit_line(proposal, version))
    return version


def _by_key(connection: Connection, project: str, name: str, key: str) -> Version | None:
    row = connection.execute(_of(project, name).where(versions.c.idempotency_key == key)).one_or_none()
    return None if row is None else _version(row._mapping)


def _refuse_erased(connection: Connection, proposal: Proposal) -> None:
    if _erasure_count(connection, proposal.project) == proposal.erased_seen:
        return
    erased: AbstractSet[str] = set(
        connection.execute(select(erasures.c.log_id).where(erasures.c.project == proposal.project)).scalars()
    )
    if erased & proposal.log_ids:
        raise ErasedMeanwhile


def _erasure_count(connection: Connection, project: str) -> int:
    return connection.execute(select(func.count()).where(erasures.c.project == project)).scalar_one()


def _numbered(proposal: Proposal, number: int) -> Version:
    return Version(
        name=proposal.name,
        version=number,
        digest=proposal.digest,
        manifest_url=proposal.manifest_url,
        provenance_path=proposal.provenance_path,
        rows=proposal.report.rows,
        splits=proposal.report.splits,
        draft=proposal.draft,
        report=proposal.report,
        note=proposal.note,
        by=proposal.by,
        created_ms=now_ms(),
    )


def _event(project: str, version: Version, recipe: Any) -> DatasetReady:
    return DatasetReady(
        event_id=new_id(),
        ts_ms=now_ms(),
        name=version.name,
        version=version.version,
        digest=version.digest,
        manifest_url=version.manifest_url,
        rows=version.rows,
        project=project,
        recipe=recipe,
    )


def _audit_line(proposal: Proposal, version: Version):  # type: ignore[no-untyped-def]  # SQLAlchemy's Insert is generic in what it returns
    target = f"{version.name}@v{version.version}"
    return insert(audit).values(
        ts_ms=version.created_ms, project=proposal.project, by=proposal.by, action="version.publish", target=target
    )


def _of(project: str, name: str):  # type: ignore[no-untyped-def]  # SQLAlchemy's Select is generic in its columns
    return select(versions).where(versions.c.project == project, versions.c.name == name)


def _version(row: object) -> Version:
    return msgspec.convert(row, Version)

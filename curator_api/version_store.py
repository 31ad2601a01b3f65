"""Published versions in the registry. Inserting one, together with its event, is the only commit point of publishing."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, func, insert, or_, select
from sqlalchemy.exc import IntegrityError

from tunemill.curator_api import training_policies
from tunemill.curator_api.errors import NotFound, PublishedMeanwhile, Unchanged
from tunemill.curator_api.lineage import Lineage
from tunemill.curator_api.recipe import Recipe
from tunemill.curator_api.report import Report
from tunemill.curator_api.tally import Tally, bounded
from tunemill.curator_api.version_keys import Keys, find
from tunemill.registry import audit_trail
from tunemill.registry.announce import announce
from tunemill.registry.tables import datasets, erasure_requests, erasures, now_ms, versions
from tunemill.schemas.ids import digest, new_id
from tunemill.schemas.records import DatasetReady
from tunemill.schemas.topics import DATASETS_READY, Topic

CLOCKS_MS = 60_000  # that clocks of servers may differ by
TALLY = "tally"  # beside the report, in its column


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A published version. Only an erasure changes it: it takes rows out, and the revision counts up."""

    name: str
    version: int
    revision: int = 1
    digest: str  # SHA-256 of the manifest
    manifest_url: str
    sources_url: str  # of what names where its rows came from
    shape: str  # chat | preference
    parent: int | None = None  # the version that it follows
    point_ms: int = 0  # the point in time that it is of
    rows: int
    splits: dict[str, int]
    draft: Recipe
    report: Report
    lineage: Lineage | None = None
    note: str | None
    by: str
    created_ms: int


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A version whose files are all written, and which nobody can see yet."""

    project: str
    name: str
    digest: str
    manifest_url: str
    sources_url: str
    shape: str
    latest: int | None  # version when the draft was read: publishing after another one is refused
    parent: int | None
    point_ms: int
    draft: Recipe
    report: Report
    tally: Tally
    lineage: Lineage
    keys: Keys  # of the logs that its rows were made from
    erased_seen: int  # how many erasures there were when those logs were gathered
    note: str | None
    recipe: Any  # what to train on it; None: nothing
    by: str
    idempotency_key: str | None


class ErasedMeanwhile(Exception):
    """One of the logs was erased while the files were written, or a file went with others' logs: gather again."""


def insert_version(engine: Engine, proposal: Proposal, is_whole: Callable[[], bool]) -> Version:
    """Make a version visible, and its event due, in one transaction.

    Args:
        is_whole: whether all its files are there; asked where an erasure may have taken some.

    Raises:
        Unchanged: the latest version has this content.
        PublishedMeanwhile: somebody else published another version since the draft was read.
        ErasedMeanwhile: a log that is in it may not be any more.
    """
    for _ in range(3):
        try:
            with engine.begin() as connection:
                return _insert(connection, proposal, is_whole)
        except IntegrityError:  # somebody took this number; there is a next one
            continue
    raise RuntimeError("a version's number was taken three times in a row")


def find_versions(engine: Engine, project: str, name: str) -> list[Version]:
    """All versions of a dataset, the newest first."""
    with engine.connect() as connection:
        return versions_in(connection, project, name)


def versions_in(connection: Connection, project: str, name: str) -> list[Version]:
    """Likewise within the caller's transaction."""
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


def find_tally(engine: Engine, project: str, version: Version) -> Tally:
    """What was counted when this version was published."""
    here = _of(project, version.name).where(versions.c.version == version.version)
    with engine.connect() as connection:
        report = connection.execute(here.with_only_columns(versions.c.report)).scalar_one()
    return msgspec.convert(report.get(TALLY, {}), Tally)


def latest(engine: Engine, project: str, name: str) -> int | None:
    """The number of the latest version; None where there is none."""
    with engine.connect() as connection:
        found: int | None = connection.scalar(_of(project, name).with_only_columns(func.max(versions.c.version)))
    return found


def find_by_idempotency_key(engine: Engine, project: str, name: str, key: str) -> Version | None:
    """The version that an earlier request with this key made."""
    with engine.connect() as connection:
        return _by_key(connection, project, name, key)


def request_run(engine: Engine, project: str, version: Version, recipe: Any, *, priority: int) -> str:
    """Have a version trained on; gives the event's id. The event is sent by the relay."""
    event = ready(project, version, recipe, event_id=new_id(), priority=priority)
    with engine.begin() as connection:
        announce(connection, project, DATASETS_READY, event, event_id=event.event_id)
    return event.event_id


def unchanged(version: int, name: str) -> Unchanged:
    """The answer to publishing what is published already."""
    return Unchanged(f"the draft holds exactly what version {version} of {name!r} holds", name=name, version=version)


def erasure_count(engine: Engine, project: str) -> int:
    """How many logs were erased so far."""
    with engine.connect() as connection:
        return _erasure_count(connection, project)


def _insert(connection: Connection, proposal: Proposal, is_whole: Callable[[], bool]) -> Version:
    here = (datasets.c.project == proposal.project, datasets.c.name == proposal.name)
    connection.execute(select(datasets.c.name).where(*here).with_for_update())
    if proposal.idempotency_key and (
        made := _by_key(connection, proposal.project, proposal.name, proposal.idempotency_key)
    ):
        return made
    _refuse_erased(connection, proposal, is_whole)
    newest_first = _of(proposal.project, proposal.name).order_by(versions.c.version.desc()).limit(1)
    newest = connection.execute(newest_first).one_or_none()
    if newest is not None and newest.digest == proposal.digest:
        raise unchanged(newest.version, proposal.name)
    if newest is not None and newest.version != proposal.latest:
        raise PublishedMeanwhile(
            f"somebody published version {newest.version} of {proposal.name!r} meanwhile: look at it, and publish again",
            name=proposal.name,
            version=newest.version,
        )
    version = _numbered(proposal, 1 if newest is None else newest.version + 1)
    connection.execute(insert(versions).values(_values(proposal, version)))
    event = ready(
        proposal.project, version, proposal.recipe, event_id=event_id_of(DATASETS_READY, proposal.project, version)
    )
    announce(connection, proposal.project, DATASETS_READY, event, event_id=event.event_id)
    if proposal.recipe is None:
        training_policies.arm(connection, proposal.project, version.name, version.version)
    target = f"{version.name}@v{version.version}"
    audit_trail.append(connection, proposal.project, "version.publish", target, by=proposal.by)
    return version


def _by_key(connection: Connection, project: str, name: str, key: str) -> Version | None:
    row = connection.execute(_of(project, name).where(versions.c.idempotency_key == key)).one_or_none()
    return None if row is None else _version(row._mapping)


def _refuse_erased(connection: Connection, proposal: Proposal, is_whole: Callable[[], bool]) -> None:
    if _are_erased_since(connection, proposal) and not is_whole():
        raise ErasedMeanwhile
    if _erasure_count(connection, proposal.project) == proposal.erased_seen:
        return
    erased: AbstractSet[str] = set(
        connection.execute(select(erasures.c.log_id).where(erasures.c.project == proposal.project)).scalars()
    )
    if find(proposal.keys, erased):
        raise ErasedMeanwhile


def _are_erased_since(connection: Connection, proposal: Proposal) -> bool:
    """Whether a request to erase is at work, or was since the rows were gathered."""
    since = or_(
        erasure_requests.c.finished_ms.is_(None), erasure_requests.c.finished_ms > proposal.point_ms - CLOCKS_MS
    )
    found = select(erasure_requests.c.request_id).where(erasure_requests.c.project == proposal.project, since)
    return connection.execute(found.limit(1)).first() is not None


def _erasure_count(connection: Connection, project: str) -> int:
    return connection.execute(select(func.count()).where(erasures.c.project == project)).scalar_one()


def _numbered(proposal: Proposal, number: int) -> Version:
    return Version(
        name=proposal.name,
        version=number,
        digest=proposal.digest,
        manifest_url=proposal.manifest_url,
        sources_url=proposal.sources_url,
        shape=proposal.shape,
        parent=proposal.parent,
        point_ms=proposal.point_ms,
        lineage=proposal.lineage,
        rows=proposal.report.rows,
        splits=proposal.report.splits,
        draft=proposal.draft,
        report=proposal.report,
        note=proposal.note,
        by=proposal.by,
        created_ms=now_ms(),
    )


def _values(proposal: Proposal, version: Version) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(version)
    values["report"] |= {TALLY: msgspec.to_builtins(bounded(proposal.tally))}
    return values | {"project": proposal.project, "idempotency_key": proposal.idempotency_key}


def event_id_of(topic: Topic, project: str, version: Version) -> str:
    """The id of what is told of a version: the same whenever it is told again."""
    return digest([topic.name, project, version.name, version.version, version.revision])[:32]


def ready(project: str, version: Version, recipe: Any, *, event_id: str, priority: int = 0) -> DatasetReady:
    """The event that a version is there, with what is to be trained on it."""
    return DatasetReady(
        event_id=event_id,
        ts_ms=now_ms(),
        name=version.name,
        version=version.version,
        digest=version.digest,
        manifest_url=version.manifest_url,
        rows=version.rows,
        project=project,
        recipe=recipe,
        sources_url=version.sources_url,
        priority=priority,
    )


def _of(project: str, name: str):  # type: ignore[no-untyped-def]  # SQLAlchemy's Select is generic in its columns
    return select(versions).where(versions.c.project == project, versions.c.name == name)


def _version(row: object) -> Version:
    return msgspec.convert(row, Version)

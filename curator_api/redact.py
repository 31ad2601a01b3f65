"""Published versions lose the rows of erased logs. A version keeps its number and gets a new revision, and with it a new digest.

Of each version that holds such a row: 1. its buckets without the row are written, and what names them; 2. one transaction: the
version is the new one, and the event about it is due. What it was before is `leftovers`'. Functions here block.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, and_, insert, select, update

from tunemill.curator_api import version_store
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.errors import DamagedFile, Unavailable
from tunemill.curator_api.leftovers import readable_versions
from tunemill.curator_api.parts import StoredRow
from tunemill.curator_api.publish import card_of
from tunemill.curator_api.publish_files import Named, card_path, folder, name
from tunemill.curator_api.published import read_manifest, read_sources
from tunemill.curator_api.receipt import RedactedVersion
from tunemill.curator_api.recipe import slice_names
from tunemill.curator_api.report import Report, report_on
from tunemill.curator_api.rewrite import rewrite
from tunemill.curator_api.rows import Left, Reason
from tunemill.curator_api.tally import Tally, bounded, left_out_alone, without_erased_values, without_values
from tunemill.curator_api.version_keys import Where, find, from_bytes
from tunemill.curator_api.version_store import TALLY, Version, event_id_of
from tunemill.registry import audit_trail
from tunemill.registry.announce import announce
from tunemill.registry.tables import datasets, now_ms, redactions, versions
from tunemill.schemas.ids import new_id
from tunemill.schemas.records import DatasetRedacted
from tunemill.schemas.topics import DATASETS_REDACTED

TRIES = 5  # somebody else may redact the same version meanwhile


class Asked(NamedTuple):
    """Who asks for what."""

    request_id: str
    by: str
    keys: Sequence[str]  # log_ids, and keys of imported rows
    values: frozenset[tuple[str, str]] = frozenset()  # of slices: that no log has any more


def redact(curator: Curator, asked: Asked) -> None:
    """Take the rows of these keys out of every version of the project, and what tells of such logs out of its report.

    Raises:
        DamagedFile: a version's files are not what they were; all others are done.
    """
    damaged: DamagedFile | None = None
    for version in readable_versions(curator):
        try:
            _redact_until_done(curator, asked, version)
        except DamagedFile as error:
            damaged = error
    if damaged is not None:
        raise damaged


def held_in_versions(curator: Curator, keys: Sequence[str]) -> set[str]:
    """Those of these keys that rows of versions have; of a version whose files are damaged `redact` tells."""
    found: set[str] = set()
    for version in readable_versions(curator):
        with suppress(DamagedFile):
            found |= _held(curator, version, keys).keys()
    return found


def told_of_left_out(curator: Curator, values: Collection[str]) -> set[tuple[str, str]]:
    """Those of these values, each with its slice, that reports of versions count what is left out by, and no row."""
    registry, project = curator.registry, curator.project
    found: set[tuple[str, str]] = set()
    for version in readable_versions(curator) if values else ():
        found |= left_out_alone(version_store.find_tally(registry, project, version), values)
    return found


def redacted_by(curator: Curator, request_id: str) -> tuple[RedactedVersion, ...]:
    """What a request took out of versions."""
    here = select(redactions).where(redactions.c.request_id == request_id).order_by("name", "version", "revision")
    with curator.registry.connect() as connection:
        return tuple(
            msgspec.convert({field: row[field] for field in RedactedVersion.__struct_fields__}, RedactedVersion)
            for row in connection.execute(here).mappings()
        )


def _redact_until_done(curator: Curator, asked: Asked, version: Version) -> None:
    now = version
    for _ in range(TRIES):
        if _redact_one(curator, asked, now):
            return
        now = version_store.find_version(curator.registry, curator.project, version.name, version.version)
    raise Unavailable(f"{version.name}@v{version.version} is being changed by others")


def _redact_one(curator: Curator, asked: Asked, version: Version) -> bool:
    """Whether the version holds none of the rows now; False: somebody else changed it meanwhile."""
    files, place = curator.files, folder(curator.project, version.name)
    try:
        sources = read_sources(files, place, version)
        held = _held(curator, version, asked.keys)
        before = version_store.find_tally(curator.registry, curator.project, version)
        told = asked.values & left_out_alone(before, {value for _, value in asked.values})
        if not held and not told:
            return True
        counted = _Counted(slice_names(version.draft), without_values(before, told))
        manifest = read_manifest(files, place, version.digest)
        rewritten = rewrite(files, place, manifest, sources, dict.fromkeys(held), see=counted.see)
    except DamagedFile:
        if version_store.find_version(curator.registry, curator.project, version.name, version.version) != version:
            return False  # the files of its last revision are gone
        raise
    tally = without_erased_values(counted.tally)
    report = _report(version, tally)
    card = card_of(version.name, report, version.draft)
    named = name(files, place, rewritten.rows, card)
    if (named.digest, named.sources_url) == (version.digest, version.sources_url) and not told:
        return True  # the keys are those of other texts
    if named.digest == version.digest:  # the card that is there is of the report as it was
        path = f"{place}/{card_path(named.digest)}"
        files.delete([path])
        files.put(path, card(rewritten.rows.manifest, named.digest).encode())
    with curator.registry.begin() as connection:
        return _commit(connection, curator.project, asked, _Revised(version, named, report, tally))


def _held(curator: Curator, version: Version, keys: Sequence[str]) -> Mapping[str, Sequence[Where]]:
    place = folder(curator.project, version.name)
    sources = read_sources(curator.files, place, version)
    return find(from_bytes(curator.files.read(f"{place}/{sources.keys_path}")), keys)


class _Revised(NamedTuple):
    """A version, and what it is to become."""

    version: Version
    named: Named
    report: Report
    tally: Tally


class _Counted:
    """A version's tally while erased rows leave it."""

    def __init__(self, names: Sequence[str], tally: Tally) -> None:
        self._names = names
        self.tally = tally

    def see(self, left: Sequence[StoredRow], came: Sequence[StoredRow]) -> None:
        """Take rows out, and in their place those that others say, too."""
        gone = [Left(row.row_keys[0], Reason.ERASED, row.row.slices) for row in left[len(came) :]]
        self.tally = self.tally - self._of(left) + self._of(came) + Tally.of(self._names, (), gone)

    def _of(self, rows: Sequence[StoredRow]) -> Tally:
        return Tally.of(self._names, [(row.row, row.split) for row in rows])


def _report(version: Version, tally: Tally) -> Report:
    """On the rows that are left; everything else stands as it was when the version was published."""
    told = version.report
    report = report_on(
        tally,
        version.draft,
        private_data=told.private_data or "never",
        point_ms=version.point_ms,
        default_consent=told.default_consent,
        near=told.near_duplicates,
    )
    return msgspec.structs.replace(report, private_data=told.private_data)


def _commit(connection: Connection, project: str, asked: Asked, revised: _Revised) -> bool:
    """The version is what was named, and its event is due. False: it is not the one any more that was read."""
    version, named, report, tally = revised
    here = and_(versions.c.project == project, versions.c.name == version.name, versions.c.version == version.version)
    dataset = and_(datasets.c.project == project, datasets.c.name == version.name)
    connection.execute(select(datasets.c.name).where(dataset).with_for_update())
    now = connection.execute(select(versions.c.digest, versions.c.sources_url).where(here)).one()
    if (now.digest, now.sources_url) != (version.digest, version.sources_url):
        return False
    is_same = named.digest == version.digest  # each row stays, for other logs say it, too
    changed: dict[str, Any] = {
        "digest": named.digest,
        "manifest_url": named.manifest_url,
        "sources_url": named.sources_url,
        "rows": report.rows,
        "splits": report.splits,
        "revision": version.revision + (not is_same),
    }
    counted = msgspec.to_builtins(report) | {TALLY: msgspec.to_builtins(bounded(tally))}
    connection.execute(update(versions).where(here).values(**changed, report=counted))
    after = msgspec.structs.replace(version, **changed, report=report)
    if not is_same:
        _tell(connection, project, asked, version, after)
    return True


def _tell(connection: Connection, project: str, asked: Asked, before: Version, after: Version) -> None:
    now = now_ms()
    row = {
        "redaction_id": new_id(),
        "project": project,
        "name": after.name,
        "version": after.version,
        "revision": after.revision,
        "digest": after.digest,
        "replaces_digest": before.digest,
        "request_id": asked.request_id,
        "rows_removed": before.rows - after.rows,
        "ts_ms": now,
    }
    connection.execute(insert(redactions).values(row))
    event = DatasetRedacted(
        event_id=event_id_of(DATASETS_REDACTED, project, after),
        ts_ms=now,
        name=after.name,
        version=after.version,
        digest=after.digest,
        replaces_digest=before.digest,
        project=project,
    )
    announce(connection, project, DATASETS_REDACTED, event, event_id=event.event_id)
    audit_trail.append(connection, project, "version.redact", f"{after.name}@v{after.version}", by=asked.by)

"""Published versions lose the rows of erased logs. A version keeps its number and gets a new revision, and with it a new digest.

Of each version that holds such a row: 1. its buckets without the row are written, and what names them; 2. one transaction: the
version is the new one, and the event about it is due. Then: 3. files that no version names any more and that hold a row or an id of
an erased log are deleted, also those that a killed publisher left behind. Functions here block.
"""

import io
import re
import time
from collections.abc import Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, and_, insert, select, update
from ulid import ULID

from tunemill.curator_api import version_store
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.errors import DamagedFile, Unavailable
from tunemill.curator_api.events import announce
from tunemill.curator_api.parts import StoredRow, read_origins
from tunemill.curator_api.publish import card_of
from tunemill.curator_api.publish_files import SOURCES_END, Named, card_path, folder, name, sources_file
from tunemill.curator_api.published import entries_of, read_manifest, read_sources
from tunemill.curator_api.receipt import RedactedVersion
from tunemill.curator_api.recipe import slice_names
from tunemill.curator_api.report import Report, report_on
from tunemill.curator_api.rewrite import rewrite
from tunemill.curator_api.rows import Left, Reason
from tunemill.curator_api.store import Files
from tunemill.curator_api.tally import Tally, without_erased_values
from tunemill.curator_api.version_keys import find, from_bytes
from tunemill.curator_api.version_store import TALLY, Version, event_id_of
from tunemill.registry.tables import audit, datasets, now_ms, redactions, versions
from tunemill.schemas.ids import new_id
from tunemill.schemas.manifest import DatasetManifest, SourcesManifest
from tunemill.schemas.records import DatasetRedacted
from tunemill.schemas.topics import DATASETS_REDACTED

TRIES = 5  # somebody else may redact the same version meanwhile
_ID_CHARACTERS = 32  # of a row's id that the keys of imported rows have
LEFT_BEHIND_MS = 3_600_000  # no writer takes so long over one file
_HALF_WRITTEN = re.compile(r"\.[^/]+\.([0-9A-Z]{26})\.tmp$")  # as `store` names a file before it has its name


class Asked(NamedTuple):
    """Who asks for what."""

    request_id: str
    by: str
    keys: Sequence[str]  # log_ids, and keys of imported rows


def redact(curator: Curator, asked: Asked) -> None:
    """Take the rows of these keys out of every version of the project.

    Raises:
        DamagedFile: a version's files are not what they were; all others are done.
    """
    damaged: DamagedFile | None = None
    for version in _all_versions(curator):
        try:
            _redact_until_done(curator, asked, version)
        except DamagedFile as error:
            damaged = error
    if damaged is not None:
        raise damaged


def redacted_by(curator: Curator, request_id: str) -> tuple[RedactedVersion, ...]:
    """What a request took out of versions."""
    here = select(redactions).where(redactions.c.request_id == request_id).order_by("name", "version", "revision")
    with curator.registry.connect() as connection:
        return tuple(
            msgspec.convert({field: row[field] for field in RedactedVersion.__struct_fields__}, RedactedVersion)
            for row in connection.execute(here).mappings()
        )


def clean(curator: Curator, keys: AbstractSet[str], row_ids: AbstractSet[str]) -> int:
    """Delete what no version names and what holds a row or an id of an erased log; how many files that were.

    Args:
        keys: log_ids, and keys of imported rows.
        row_ids: the first 32 characters of the ids of rows that say what these logs said.
    """
    by_name: dict[str, list[Version]] = {}
    for version in _all_versions(curator):
        by_name.setdefault(version.name, []).append(version)
    with curator.registry.connect() as connection:
        names = connection.execute(select(datasets.c.name).where(datasets.c.project == curator.project)).scalars().all()
    return sum(
        _clean(curator.files, folder(curator.project, one), by_name.get(one, []), keys, row_ids) for one in names
    )


def _all_versions(curator: Curator) -> list[Version]:
    named = select(versions.c.name).distinct().where(versions.c.project == curator.project)
    with curator.registry.connect() as connection:
        names = connection.execute(named.order_by(versions.c.name)).scalars().all()
    return [
        version
        for one in names
        for version in version_store.find_versions(curator.registry, curator.project, one)
        if version.sources_url  # one of an older format cannot be read by anybody
    ]


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
        held = find(from_bytes(files.read(f"{place}/{sources.keys_path}")), asked.keys)
        if not held:
            return True
        counted = _Counted(
            slice_names(version.draft), version_store.find_tally(curator.registry, curator.project, version)
        )
        manifest = read_manifest(files, place, version.digest)
        rewritten = rewrite(files, place, manifest, sources, dict.fromkeys(held), see=counted.see)
    except DamagedFile:
        if version_store.find_version(curator.registry, curator.project, version.name, version.version) != version:
            return False  # the files of its last revision are gone
        raise
    tally = without_erased_values(counted.tally)
    report = _report(version, tally)
    named = name(files, place, rewritten.rows, card_of(version.name, report, version.draft))
    if (named.digest, named.sources_url) == (version.digest, version.sources_url):
        return True  # the keys are those of other texts
    with curator.registry.begin() as connection:
        return _commit(connection, curator.project, asked, _Revised(version, named, report, tally))


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
    counted = msgspec.to_builtins(report) | {TALLY: msgspec.to_builtins(tally)}
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
    target = f"{after.name}@v{after.version}"
    line = {"ts_ms": now, "project": project, "by": asked.by, "action": "version.redact", "target": target}
    connection.execute(insert(audit).values(line))


def _clean(files: Files, place: str, live: Sequence[Version], keys: AbstractSet[str], row_ids: AbstractSet[str]) -> int:
    """In an order in which it can be begun again: parts, then the sources that say which rows they hold, then what names both."""
    named = _named_by(files, place, live)
    unnamed = [path for path in files.list(place) if path.removeprefix(f"{place}/") not in named]
    sources = [path for path in unnamed if path.startswith(f"{place}/sources/") and path.endswith(SOURCES_END)]
    parts = [path for path in unnamed if path.startswith(f"{place}/parts/") and path.endswith(".parquet")]
    held = {path: ids for path in sources if (ids := _erased_rows(files.read(path), keys))}
    gone_ids = row_ids | {row_id[:_ID_CHARACTERS] for ids in held.values() for row_id in ids}
    gone = [path for path in parts if _holds(files.read(path), gone_ids)]
    half_written = [path for path in unnamed if _is_left_behind(path)]
    files.delete([*gone, *half_written])
    files.delete(held)
    left = set(files.list(place))
    broken = [
        path for path in unnamed if path in left and path.endswith(".json") and _is_broken(files, place, path, left)
    ]
    files.delete(_with_cards(place, broken))
    return len(gone) + len(held) + len(half_written)


def _named_by(files: Files, place: str, live: Sequence[Version]) -> set[str]:
    """The files of these versions, relative to the dataset's folder."""
    named: set[str] = set()
    for version in live:
        manifest, sources = read_manifest(files, place, version.digest), read_sources(files, place, version)
        for entry in entries_of(manifest, sources):
            named |= {entry.part.path, entry.sources_path}
        named |= {sources.keys_path, f"sources/{version.sources_url.rsplit('/', 1)[-1]}"}
        named |= {f"manifests/{version.digest}.json", card_path(version.digest)}
    return named


def _erased_rows(content: bytes, keys: AbstractSet[str]) -> list[str]:
    """The ids of the rows in a sources file that come from these logs or imported rows; none of a file that nobody can read."""
    try:
        origins = read_origins(content)
    except ValueError:
        return []
    return [one.row_id for one in origins if not keys.isdisjoint((*one.row_keys, *one.log_ids))]


def _holds(content: bytes, row_ids: AbstractSet[str]) -> bool:
    try:
        found = pq.read_table(io.BytesIO(content), columns=["row_id"]).column("row_id").to_pylist()
    except pa.ArrowException:
        return False
    return any(str(row_id)[:_ID_CHARACTERS] in row_ids for row_id in found)


def _is_left_behind(path: str) -> bool:
    """Whether a killed writer left it half written: its name says when it was begun."""
    found = _HALF_WRITTEN.search(path)
    return found is not None and time.time_ns() // 1_000_000 - ULID.from_str(found[1]).milliseconds > LEFT_BEHIND_MS


def _is_broken(files: Files, place: str, path: str, left: AbstractSet[str]) -> bool:
    """Whether something names files that are gone."""
    content = files.read(path)
    try:
        if path.startswith(f"{place}/manifests/"):
            manifest = msgspec.json.decode(content, type=DatasetManifest)
            return any(f"{place}/{part.path}" not in left for part in manifest.parts)
        named = msgspec.json.decode(content, type=SourcesManifest)
        return any(f"{place}/{sources_file(one)}" not in left for one in named.sources)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return False


def _with_cards(place: str, broken: Collection[str]) -> Iterator[str]:
    for path in broken:
        yield path
        if path.startswith(f"{place}/manifests/"):
            yield f"{place}/{card_path(path.rsplit('/', 1)[-1].removesuffix('.json'))}"

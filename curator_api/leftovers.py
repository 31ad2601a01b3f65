"""What nobody needs any more of a dataset's files: those that no version names and that hold a row or an id of an erased log.

A version that lost its rows leaves such files, and so does a publisher that was killed, or refused because of an erasure. Whoever
publishes meanwhile may name a file that is there: hence files go while the dataset is locked, and who publishes looks, with the
same lock, whether all of its own are there (`version_store`). Functions here block.
"""

import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import and_, select
from ulid import ULID

from tunemill.curator_api import ledger, version_store
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.publish_files import card_path, folder
from tunemill.curator_api.published import entries_of, read_manifest, read_sources
from tunemill.curator_api.store import Files
from tunemill.curator_api.version_store import Version
from tunemill.registry.tables import datasets, now_ms, versions
from tunemill.schemas.manifest import SOURCES_END, DatasetManifest, SourcesManifest, sources_file
from tunemill.schemas.origin import Origin, read_origins

LEFT_BEHIND_MS = 60_000  # no writer takes so long over one file
_ID_CHARACTERS = 32  # of a row's id that the keys of imported rows have
_HALF_WRITTEN = re.compile(r"\.[^/]+\.([0-9A-Z]{26})\.tmp$")  # as `store` names a file before it has its name


def readable_versions(curator: Curator) -> list[Version]:
    """Every version of the project; one of an older format cannot be read by anybody."""
    named = select(versions.c.name).distinct().where(versions.c.project == curator.project)
    with curator.registry.connect() as connection:
        names = connection.execute(named.order_by(versions.c.name)).scalars().all()
    return [version for one in names for version in _readable(curator, one)]


def clean_all(curator: Curator, keys: AbstractSet[str], row_ids: AbstractSet[str]) -> int:
    """Do so for every dataset of the project; how many files that were.

    Args:
        keys: log_ids, and keys of imported rows.
        row_ids: the first 32 characters of the ids of rows that say what these logs said.
    """
    with curator.registry.connect() as connection:
        names = connection.execute(select(datasets.c.name).where(datasets.c.project == curator.project)).scalars().all()
    return sum(clean(curator, one, keys, row_ids) for one in names)


def clean(
    curator: Curator, name: str, keys: AbstractSet[str] = frozenset(), row_ids: AbstractSet[str] = frozenset()
) -> int:
    """Delete what no version of a dataset names and what is of these logs, or of any that was erased before.

    In an order in which it can be begun again: parts, then the sources that say which rows they hold, then what names both.
    """
    files, place = curator.files, folder(curator.project, name)
    named = _named_by(files, place, _readable(curator, name))
    unnamed = [path for path in files.list(place) if path.removeprefix(f"{place}/") not in named]
    held = _held(curator, unnamed, keys)
    gone_ids = row_ids | {row_id[:_ID_CHARACTERS] for ids in held.values() for row_id in ids}
    parts = [path for path in unnamed if "/parts/" in path and path.endswith(".parquet")]
    gone = [path for path in parts if _holds(files.read(path), gone_ids)]
    half_written = [path for path in unnamed if _begun_ms(path) < now_ms() - LEFT_BEHIND_MS]
    count = _delete_unnamed(curator, name, [*gone, *half_written]) + _delete_unnamed(curator, name, list(held))
    left = set(files.list(place))
    broken = [
        path for path in unnamed if path in left and path.endswith(".json") and _is_broken(files, place, path, left)
    ]
    _delete_unnamed(curator, name, list(_with_cards(place, broken)))
    return count


def being_written(curator: Curator, before_ms: int) -> bool:
    """Whether somebody still writes a file of a dataset that they began before then; a killed writer's does not count for long."""
    begun = map(_begun_ms, curator.files.list(f"datasets/{curator.project}"))
    return any(now_ms() - LEFT_BEHIND_MS <= one <= before_ms for one in begun)


def _readable(curator: Curator, name: str) -> list[Version]:
    found = version_store.find_versions(curator.registry, curator.project, name)
    return [version for version in found if version.sources_url]


def _delete_unnamed(curator: Curator, name: str, paths: Sequence[str]) -> int:
    """Delete those of these files that still no version names: somebody may have published one meanwhile."""
    if not paths:
        return 0
    place = folder(curator.project, name)
    here = and_(datasets.c.project == curator.project, datasets.c.name == name)
    before = _readable(curator, name)
    named = _named_by(curator.files, place, before)
    with curator.registry.begin() as connection:
        connection.execute(select(datasets.c.name).where(here).with_for_update())
        fresh = [one for one in version_store.versions_in(connection, curator.project, name) if one not in before]
        named |= _named_by(curator.files, place, [one for one in fresh if one.sources_url])
        gone = [path for path in paths if path.removeprefix(f"{place}/") not in named]
        curator.files.delete(gone)
    return len(gone)


def _held(curator: Curator, unnamed: Sequence[str], keys: AbstractSet[str]) -> Mapping[str, Sequence[str]]:
    """The sources files of rows of these or of earlier erased logs, and the ids of these rows."""
    files = curator.files
    origins = {
        path: _origins(files.read(path)) for path in unnamed if "/sources/" in path and path.endswith(SOURCES_END)
    }
    named = {key for found in origins.values() for one in found for key in (*one.row_keys, *one.log_ids)}
    erased = (keys & named) | ledger.erased_among(curator.registry, curator.project, sorted(named - keys))
    ids = {
        path: [one.row_id for one in found if not erased.isdisjoint((*one.row_keys, *one.log_ids))]
        for path, found in origins.items()
    }
    return {path: found for path, found in ids.items() if found}


def _origins(content: bytes) -> Sequence[Origin]:
    """Where the rows of a sources file come from; nothing of a file that nobody can read."""
    try:
        return read_origins(content)
    except ValueError:
        return []


def _begun_ms(path: str) -> float:
    """When somebody began to write a file that has not its name yet, as its name says; never of one that has."""
    found = _HALF_WRITTEN.search(path)
    return ULID.from_str(found[1]).milliseconds if found else float("inf")


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


def _holds(content: bytes, row_ids: AbstractSet[str]) -> bool:
    try:
        found = pq.read_table(io.BytesIO(content), columns=["row_id"]).column("row_id").to_pylist()
    except pa.ArrowException:
        return False
    return any(str(row_id)[:_ID_CHARACTERS] in row_ids for row_id in found)


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

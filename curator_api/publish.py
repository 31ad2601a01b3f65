"""A draft becomes an immutable version: files first, then one transaction that makes it visible and its event due."""

import asyncio
from typing import Any

import msgspec

from tunemill.curator_api import version_store
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.errors import DamagedFile, EmptyDataset, Unavailable
from tunemill.curator_api.gather import Gathered, gathered
from tunemill.curator_api.parts import COLUMNS, parts, provenance
from tunemill.curator_api.report import count_splits, report
from tunemill.curator_api.rows import is_imported
from tunemill.curator_api.snapshot import SPLITS, Snapshot
from tunemill.curator_api.store import AlreadyDifferent, Files
from tunemill.curator_api.version_store import ErasedMeanwhile, Proposal, Version
from tunemill.schemas.ids import digest
from tunemill.schemas.manifest import OLD_FORMAT as FORMAT
from tunemill.schemas.manifest import OldManifest as DatasetManifest
from tunemill.schemas.manifest import OldPart as Part
from tunemill.schemas.manifest import manifest_bytes, manifest_digest


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """Where a snapshot's files are."""

    digest: str
    manifest_url: str
    provenance_path: str


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants published."""

    name: str
    note: str | None = None
    recipe: Any = None
    by: str
    idempotency_key: str | None = None


async def publish(curator: Curator, order: Order) -> Version:
    """Publish a draft as the next version of its dataset.

    Raises:
        NotFound: there is no such dataset.
        EmptyDataset: no row is left; says how many matched and why each was left out.
        Unchanged: the latest version has this content.
        Unavailable: logs are being erased faster than the draft can be written.
    """
    if made := await asyncio.to_thread(_made_before, curator, order):
        return made
    for _ in range(3):
        found = await gathered(curator, order.name)
        try:
            return await asyncio.to_thread(_publish, curator, order, found)
        except ErasedMeanwhile:
            continue
    raise Unavailable("logs of this draft are being erased right now: publish again in a moment")


def _made_before(curator: Curator, order: Order) -> Version | None:
    """What an earlier request with the same idempotency key made."""
    if order.idempotency_key is None:
        return None
    project = curator.settings.project
    return version_store.find_by_idempotency_key(curator.registry, project, order.name, order.idempotency_key)


def folder(project: str, name: str) -> str:
    """Where a dataset's files lie, relative to the files URL. Both names are checked before they come here."""
    return f"datasets/{project}/{name}"


def store(files: Files, place: str, snapshot: Snapshot) -> Stored:
    """Write a snapshot's files.

    1. the parts; 2. the provenance; 3. the manifest, which names the parts. Nobody sees any of them before a version names
    the manifest, so that a crash here leaves files that the next attempt finds and uses.
    """
    written = [part for split in SPLITS for part in _store_parts(files, place, snapshot, split)]
    manifest = manifest_bytes(
        DatasetManifest(
            format=FORMAT,
            columns=COLUMNS,
            rows=len(snapshot.rows),
            splits=count_splits(snapshot),
            parts=tuple(written),
        )
    )
    identity = manifest_digest(manifest)
    provenance_path = _store_provenance(files, place, snapshot, identity)
    manifest_url = _store_content(files, f"{place}/manifests/{identity}.json", manifest)
    return Stored(digest=identity, manifest_url=manifest_url, provenance_path=provenance_path)


def _publish(curator: Curator, order: Order, gathered: Gathered) -> Version:
    """1 to 3. `store`; 4. one transaction: the version and its event."""
    snapshot, project = gathered.snapshot, curator.settings.project
    if not snapshot.rows:
        raise _empty(snapshot)
    stored = store(curator.files, folder(project, order.name), snapshot)
    proposal = Proposal(
        project=project,
        name=order.name,
        digest=stored.digest,
        manifest_url=stored.manifest_url,
        provenance_path=stored.provenance_path,
        draft=gathered.draft,
        report=report(snapshot, gathered.private_data),
        log_ids=_log_ids(snapshot),
        erased_seen=gathered.erased_seen,
        note=order.note,
        recipe=order.recipe,
        by=order.by,
        idempotency_key=order.idempotency_key,
    )
    return version_store.insert_version(curator.registry, proposal)


def _store_parts(files: Files, place: str, snapshot: Snapshot, split: str) -> list[Part]:
    written = []
    for part, content in parts(snapshot.rows, split):
        _store_content(files, f"{place}/{part.path}", content)
        written.append(part)
    return written


def _store_content(files: Files, path: str, content: bytes) -> str:
    """A file that is named by its digest; one of this name that says something else is broken."""
    try:
        return files.put(path, content)
    except AlreadyDifferent as error:
        raise DamagedFile(f"{path} was changed: remove it and publish again") from error


def _store_provenance(files: Files, place: str, snapshot: Snapshot, identity: str) -> str:
    """Equal content may come from other logs the next time; then its provenance stands under a name of its own."""
    content = provenance(snapshot.rows)
    path = f"provenance/{identity}.parquet"
    try:
        files.put(f"{place}/{path}", content)
    except AlreadyDifferent:
        sources = digest([row.row_keys for row in snapshot.rows])
        path = f"provenance/{identity}-{sources[:16]}.parquet"
        files.put(f"{place}/{path}", content)
    return path


def _log_ids(snapshot: Snapshot) -> frozenset[str]:
    return frozenset(key for row in snapshot.rows for key in row.row_keys if not is_imported(key))


def _empty(snapshot: Snapshot) -> EmptyDataset:
    if not snapshot.matched:
        return EmptyDataset("no log matches the draft's query, and nothing was imported", matched=0, excluded={})
    reasons = ", ".join(f"{reason} {count}" for reason, count in snapshot.excluded.items())
    detail = f"{snapshot.matched} matched and every one was left out: {reasons}"
    return EmptyDataset(detail, matched=snapshot.matched, excluded=snapshot.excluded)

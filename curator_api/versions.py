"""Versions over HTTP: publish one, see one, take its rows away, compare two."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query

from tunemill.curator_api import draft_store, version_store
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.datasets import ThisDataset
from tunemill.curator_api.diff import Change, diff
from tunemill.curator_api.payloads import ChangeOut, DiffOut, PublishIn, RowMessageOut, Storable
from tunemill.curator_api.problems import responses
from tunemill.curator_api.publish import Order, folder, publish
from tunemill.curator_api.published import StoredRow, read_provenance, read_rows
from tunemill.curator_api.version_payloads import VersionOut
from tunemill.curator_api.version_store import Version

router = APIRouter(prefix="/v1/datasets/{name}", tags=["versions"])

JSONL = "application/jsonl"

VersionNumber = Annotated[int, Path(ge=1, le=2**31 - 1)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=128,
        description="sending the same key again gives the version that the first request made",
    ),
    Storable,
]


@router.post("/versions", status_code=201, responses=responses(400, 404, 409, 422))
async def publish_version(
    name: ThisDataset,
    here: Here,
    person: Person,
    wanted: PublishIn | None = None,
    idempotency_key: IdempotencyKey = None,
) -> VersionOut:
    """Freeze the draft into the next version, and tell the trainer; with a `recipe`, a run starts.

    409 `unchanged` where the latest version holds the same; 422 `empty-dataset` where no row is left, saying why.
    """
    wanted = wanted or PublishIn()
    order = Order(name=name, note=wanted.note, recipe=wanted.recipe, by=person, idempotency_key=idempotency_key)
    return VersionOut.model_validate(await publish(here, order))


@router.get("/versions/{version}", responses=responses(404, 422))
def get_version(name: ThisDataset, version: VersionNumber, here: Here, _person: Person) -> VersionOut:
    """One version with its report."""
    return VersionOut.model_validate(find(here, name, version))


@router.get("/diff", responses=responses(404, 422))
def diff_versions(
    name: ThisDataset,
    here: Here,
    _person: Person,
    before: Annotated[int, Query(alias="from", ge=1, le=2**31 - 1)],
    after: Annotated[int, Query(alias="to", ge=1, le=2**31 - 1)],
    limit: Annotated[int, Query(ge=0, le=1_000)] = 100,
) -> DiffOut:
    """What changed from one version to another: rows that came, went, or say something else; the first `limit` in full."""
    return compare(here, name, before, after, limit=limit)


def compare(curator: Curator, name: str, before: int, after: int, *, limit: int) -> DiffOut:
    """The differences between two versions.

    Raises:
        NotFound: there is no such dataset or version.
    """
    place = folder(curator.settings.project, name)
    old, new = find(curator, name, before), find(curator, name, after)
    changes = diff(*(read_provenance(curator.files, place, version.provenance_path) for version in (old, new)))
    counts = Counter(change.change for change in changes)
    shown = changes[:limit]
    old_rows = _rows(curator, place, old, [change.before for change in shown])
    new_rows = _rows(curator, place, new, [change.after for change in shown])
    return DiffOut(
        added=counts["added"],
        removed=counts["removed"],
        changed=counts["changed"],
        rows=[_change_out(change, old_rows, new_rows) for change in shown],
    )


def find(curator: Curator, name: str, version: int) -> Version:
    """A version.

    Raises:
        NotFound: there is no such dataset or version.
    """
    draft_store.find(curator.registry, curator.settings.project, name)
    return version_store.find_version(curator.registry, curator.settings.project, name, version)


def _rows(curator: Curator, place: str, version: Version, row_ids: Sequence[str | None]) -> dict[str, StoredRow]:
    wanted = {row_id for row_id in row_ids if row_id is not None}
    rows = read_rows(curator.files, place, version.digest, split=None) if wanted else iter(())
    return {row.row_id: row for row in rows if row.row_id in wanted}


def _change_out(change: Change, old: dict[str, StoredRow], new: dict[str, StoredRow]) -> ChangeOut:
    return ChangeOut.model_validate(
        {
            "change": change.change,
            "row_key": change.row_key,
            "before": _messages(old, change.before),
            "after": _messages(new, change.after),
        }
    )


def _messages(rows: dict[str, StoredRow], row_id: str | None) -> list[RowMessageOut] | None:
    if row_id is None:
        return None
    return [RowMessageOut.model_validate(message) for message in rows[row_id].messages]

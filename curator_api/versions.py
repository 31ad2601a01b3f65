"""Versions over HTTP: publish one, see one, check it, compare two, say where it came from."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query

from tunemill.curator_api import draft_store, origins, version_refs
from tunemill.curator_api.access import Person
from tunemill.curator_api.amend import amend
from tunemill.curator_api.compare import Difference, compare
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.datasets import ThisDataset
from tunemill.curator_api.parts import StoredRow
from tunemill.curator_api.payloads import RowMessageOut, Storable
from tunemill.curator_api.problems import responses
from tunemill.curator_api.publish import Order, publish
from tunemill.curator_api.publish_files import folder
from tunemill.curator_api.rows import Messages
from tunemill.curator_api.verify import verify
from tunemill.curator_api.version_payloads import ChangeOut, DiffOut, OriginsOut, PublishIn, VerifiedOut, VersionOut
from tunemill.curator_api.version_store import Version

router = APIRouter(prefix="/v1/datasets/{name}", tags=["versions"])

JSONL = "application/jsonl"

VersionNumber = Annotated[
    str, Path(min_length=1, max_length=64, description="a number, `latest` or an alias", examples=["3"]), Storable
]
_Wanted = Annotated[str, Query(min_length=1, max_length=64), Storable]
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

    409 `unchanged` where the latest version holds the same, `published-meanwhile` where somebody else published another one
    since the draft was read; 422 `empty-dataset` where no row is left, saying why.
    """
    wanted = wanted or PublishIn()
    order = Order(name=name, note=wanted.note, recipe=wanted.recipe, by=person, idempotency_key=idempotency_key)
    made = await publish(here, order) if wanted.amend is None else await amend(here, order, wanted.amend)
    return VersionOut.model_validate(made)


@router.get("/versions/{version}", responses=responses(404, 422))
def get_version(name: ThisDataset, version: VersionNumber, here: Here, _person: Person) -> VersionOut:
    """One version with its report."""
    return VersionOut.model_validate(find(here, name, version))


@router.get("/versions/{version}/verify", responses=responses(404, 422))
def verify_version(name: ThisDataset, version: VersionNumber, here: Here, _person: Person) -> VerifiedOut:
    """Read all of a version again, and say whether it is what was published: every file's hash, every row's identity."""
    found = verify(here.files, folder(here.project, name), find(here, name, version))
    return VerifiedOut.model_validate(found)


@router.get("/versions/{version}/lineage", responses=responses(404, 422))
def version_lineage(
    name: ThisDataset,
    version: VersionNumber,
    here: Here,
    _person: Person,
    log: Annotated[str | None, Query(max_length=512), Storable] = None,
) -> OriginsOut:
    """Which searches, versions and imports it was made from, the runs that used it, and the erasures that changed it.

    With `log`, the rows that were made of this log, too.
    """
    return OriginsOut.model_validate(origins.find(here, find(here, name, version), log))


@router.get("/diff", responses=responses(404, 422))
def diff_versions(
    name: ThisDataset,
    here: Here,
    _person: Person,
    before: Annotated[_Wanted, Query(alias="from")],
    after: Annotated[_Wanted, Query(alias="to")],
    limit: Annotated[int, Query(ge=0, le=1_000)] = 100,
) -> DiffOut:
    """What changed from one version to another: rows that came, went, or say something else; the first `limit` in full."""
    return difference(here, name, before, after, limit=limit)


def difference(curator: Curator, name: str, before: str, after: str, *, limit: int) -> DiffOut:
    """The differences between two versions.

    Raises:
        NotFound: there is no such dataset or version.
    """
    old, new = find(curator, name, before), find(curator, name, after)
    found = compare(curator.files, folder(curator.project, name), old, new, limit=limit)
    return DiffOut(
        added=found.added,
        removed=found.removed,
        changed=found.changed,
        rows=[_change_out(one) for one in found.differences],
    )


def find(curator: Curator, name: str, version: str) -> Version:
    """A version.

    Raises:
        NotFound: there is no such dataset or version.
    """
    draft_store.find(curator.registry, curator.project, name)
    return version_refs.find_one(curator.registry, curator.project, name, version)


def _change_out(one: Difference) -> ChangeOut:
    return ChangeOut(
        change=one.change.change,
        row_key=one.change.row_key,
        fields=list(one.fields),
        before=_messages(one.before.row.messages if one.before else None),
        after=_messages(one.after.row.messages if one.after else None),
        before_rejected=_rejected(one.before),
        after_rejected=_rejected(one.after),
    )


def _rejected(stored: StoredRow | None) -> list[RowMessageOut] | None:
    return _messages(stored.row.rejected) if stored and stored.row.rejected else None


def _messages(messages: Messages | None) -> list[RowMessageOut] | None:
    return None if messages is None else [RowMessageOut.model_validate(message) for message in messages]

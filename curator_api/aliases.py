"""Names for versions over HTTP, and a version's rows put back into a draft."""

from typing import Annotated

from fastapi import APIRouter, Path

from tunemill.curator_api import alias_store, draft_store, version_store
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Here
from tunemill.curator_api.dataset_payloads import DatasetOut
from tunemill.curator_api.datasets import ThisDataset, view
from tunemill.curator_api.errors import NotFound
from tunemill.curator_api.payloads import Storable
from tunemill.curator_api.problems import responses
from tunemill.curator_api.restore import restore
from tunemill.curator_api.version_payloads import AliasesOut, AliasIn, AliasOut, RestoreIn
from tunemill.curator_api.version_refs import checked_alias
from tunemill.curator_api.versions import find

router = APIRouter(prefix="/v1/datasets/{name}", tags=["versions"])

ThisAlias = Annotated[str, Path(max_length=1_000), Storable]


@router.get("/aliases", responses=responses(404, 422))
def list_aliases(name: ThisDataset, here: Here, _person: Person) -> AliasesOut:
    """The names of a dataset's versions."""
    draft_store.find(here.registry, here.project, name)
    found = alias_store.find_all(here.registry, here.project, name)
    latest = version_store.latest(here.registry, here.project, name)
    return AliasesOut(aliases=[AliasOut.model_validate(one) for one in found], latest=latest)


@router.put("/aliases/{alias}", responses=responses(400, 404, 422))
def put_alias(name: ThisDataset, alias: ThisAlias, wanted: AliasIn, here: Here, person: Person) -> AliasOut:
    """Give a version a name. One that another version has is moved."""
    version = find(here, name, wanted.version).version
    made = alias_store.put(here.registry, here.project, name, checked_alias(alias), version, by=person)
    return AliasOut.model_validate(made)


@router.delete("/aliases/{alias}", status_code=204, responses=responses(404, 422))
def delete_alias(name: ThisDataset, alias: ThisAlias, here: Here, person: Person) -> None:
    """Forget a name; the version stays."""
    if not alias_store.remove(here.registry, here.project, name, alias, by=person):
        raise NotFound(f"there is no alias {alias!r} of a dataset {name!r}")


@router.post("/restore", responses=responses(400, 404, 409, 422))
def restore_version(name: ThisDataset, wanted: RestoreIn, here: Here, person: Person) -> DatasetOut:
    """Give the draft the rows of a version; publishing it gives that version's digest. Edits of rows made since are forgotten.

    With `as`, another dataset is started with them, and this one stays as it is.
    """
    made = restore(here, find(here, name, wanted.version), name=wanted.as_, by=person)
    return view(here, made.name)

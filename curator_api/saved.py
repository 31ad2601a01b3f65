"""Saved searches over HTTP: keep a search under a name, which any query can then use as `saved:<name>`."""

from typing import Annotated

from fastapi import APIRouter, Path

from tunemill.curator_api import draft_store, saved_store
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.errors import InUse, NotFound, Unprocessable
from tunemill.curator_api.payloads import Storable
from tunemill.curator_api.problems import responses
from tunemill.curator_api.queries import names_saved, saved_names, saved_texts
from tunemill.curator_api.recipe import queries
from tunemill.curator_api.saved_payloads import SavedSearchesOut, SavedSearchIn, SavedSearchOut
from tunemill.indexer.query import parse
from tunemill.schemas.manifest import NAME, valid_name

router = APIRouter(prefix="/v1/searches", tags=["search"])

ThisSearch = Annotated[str, Path(max_length=1_000), Storable]


@router.get("")
def list_searches(here: Here, _person: Person) -> SavedSearchesOut:
    """The saved searches, by name."""
    found = saved_store.find_all(here.registry, here.project)
    return SavedSearchesOut(searches=[SavedSearchOut.model_validate(one) for one in found])


@router.get("/{name}", responses=responses(404, 422))
def get_search(name: ThisSearch, here: Here, _person: Person) -> SavedSearchOut:
    """One saved search."""
    found = saved_store.find(here.registry, here.project, name)
    if found is None:
        raise _unknown(name)
    return SavedSearchOut.model_validate(found)


@router.put("/{name}", responses=responses(400, 422))
def put_search(name: ThisSearch, wanted: SavedSearchIn, here: Here, person: Person) -> SavedSearchOut:
    """Keep a search under a name, in place of what was there. Whatever names it means the new text from now on.

    It may name other saved searches. Published versions keep the text that they were made from.
    """
    if not valid_name(name):
        raise Unprocessable(f"not a name for a search: it must match {NAME.pattern}", pattern=NAME.pattern)
    others = saved_texts(here.registry, here.project)
    for text in (wanted.query, f"saved:{name}"):  # by itself, and as a part of another
        parse(
            text,
            saved=lambda asked: wanted.query if asked == name else others(asked),
            saved_names=lambda: saved_names(here.registry, here.project),
        )
    return SavedSearchOut.model_validate(saved_store.put(here.registry, here.project, name, wanted.query, by=person))


@router.delete("/{name}", status_code=204, responses=responses(404, 409, 422))
def delete_search(name: ThisSearch, here: Here, person: Person) -> None:
    """Forget a saved search. 409 `in-use` where a draft or another saved search names it: `datasets` and `searches` say which."""
    datasets, searches = users_of(here, name)
    if datasets or searches:
        used_by = [*(f"the dataset {one!r}" for one in datasets), *(f"the search {one!r}" for one in searches)]
        raise InUse(
            f"{', '.join(used_by[:5])}{' and more' if len(used_by) > 5 else ''} would not find anything without it",
            datasets=datasets,
            searches=searches,
        )
    if not saved_store.remove(here.registry, here.project, name, by=person):
        raise _unknown(name)


def users_of(curator: Curator, name: str) -> tuple[list[str], list[str]]:
    """The datasets whose drafts name this search, and the searches that do."""
    drafts = draft_store.find_all(curator.registry, curator.project)
    searches = saved_store.find_all(curator.registry, curator.project)
    return (
        [one.name for one in drafts if any(name in names_saved(text) for text in queries(one.draft))],
        [one.name for one in searches if name in names_saved(one.query) and one.name != name],
    )


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no saved search {name!r}")

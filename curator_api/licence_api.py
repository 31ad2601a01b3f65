"""The project's table of models over HTTP: whether what each of them says may be trained on."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import Field

from tunemill.curator_api import licence_store
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Here
from tunemill.curator_api.errors import NotFound
from tunemill.curator_api.payloads import Given, Storable, Taken
from tunemill.curator_api.problems import responses

router = APIRouter(prefix="/v1/licences", tags=["datasets"])

ThisModel = Annotated[str, Path(min_length=1, max_length=256), Storable]


class LicenceIn(Taken):
    """What holds for a model."""

    trainable: Literal["yes", "no"] = Field(description="whether its output may be trained on")
    note: Annotated[str, Field(max_length=2_000), Storable] | None = Field(
        None, description="why, and where it says so"
    )


class LicenceOut(Given):
    """What somebody said of a model."""

    model: str = Field(
        description="one that ends in * holds for all names that begin so; the longest that fits decides"
    )
    trainable: str
    note: str | None
    by: str
    updated_ms: int


class LicencesOut(Given):
    """The table, by model."""

    licences: list[LicenceOut]


@router.get("")
def list_licences(here: Here, _person: Person) -> LicencesOut:
    """Which models' output may be trained on. Of a model that is not here it is unknown, and reports say so."""
    found = licence_store.find_all(here.registry, here.project)
    return LicencesOut(licences=[LicenceOut.model_validate(one) for one in found])


@router.put("/{model:path}", responses=responses(422))
def put_licence(model: ThisModel, wanted: LicenceIn, here: Here, person: Person) -> LicenceOut:
    """Say of a model, or with a `*` at the end of all that begin so, whether its output may be trained on.

    `licence:<name>` stands for imported sets of that licence. It holds for drafts from now on; versions stay as they are.
    """
    put = licence_store.put(here.registry, here.project, model, wanted.trainable, wanted.note, by=person)
    return LicenceOut.model_validate(put)


@router.delete("/{model:path}", status_code=204, responses=responses(404, 422))
def delete_licence(model: ThisModel, here: Here, person: Person) -> None:
    """Forget what was said of a model."""
    if not licence_store.remove(here.registry, here.project, model, by=person):
        raise NotFound(f"nothing is said of a model {model!r}")

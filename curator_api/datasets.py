"""Datasets over HTTP: start one, change its draft's recipe, see what there is."""

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path

from tunemill.curator_api import draft_store, tokens, version_store
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.dataset_payloads import DatasetOut, DatasetsOut, DatasetSummary
from tunemill.curator_api.draft import checked_name
from tunemill.curator_api.draft_store import Dataset, Edits
from tunemill.curator_api.errors import InvalidRecipe
from tunemill.curator_api.payloads import Storable
from tunemill.curator_api.problems import responses
from tunemill.curator_api.queries import saved_texts
from tunemill.curator_api.recipe import Recipe, checked
from tunemill.curator_api.recipe_payloads import DatasetIn, DraftIn, DraftOut, RecipeRoute, body_of, recipe_of
from tunemill.curator_api.row_edits import check_change, checked_edit
from tunemill.curator_api.rows import RowEdit
from tunemill.curator_api.version_payloads import VersionOut
from tunemill.curator_api.version_store import Version

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=RecipeRoute)

ThisDataset = Annotated[str, Path(max_length=1_000), Storable]


@router.post("", status_code=201, responses=responses(400, 404, 409, 422))
async def create_dataset(dataset: DatasetIn, here: Here, person: Person) -> DatasetOut:
    """Start a dataset: a draft that gathers what its recipe names. Nothing is frozen before a version is published.

    `query` and `limit` are short for one search with whatever is imported. 422 `invalid-recipe` says at which `place` of the
    recipe it cannot be followed.
    """
    name = checked_name(dataset.name)
    recipe = await asyncio.to_thread(draft_of, here, dataset)
    edits = await _checked_rows(here, name, recipe, dataset)
    made = await asyncio.to_thread(draft_store.create, here.registry, here.project, name, recipe)
    await asyncio.to_thread(draft_store.edit_rows, here.registry, here.project, name, edits, by=person)
    return _dataset_out(made, [])


@router.get("")
def list_datasets(here: Here, _person: Person) -> DatasetsOut:
    """The project's datasets, by name."""
    registry, project = here.registry, here.settings.project
    counts = version_store.count_versions(registry, project)
    return DatasetsOut(
        datasets=[
            _summary(dataset, *counts.get(dataset.name, (0, None)))
            for dataset in draft_store.find_all(registry, project)
        ]
    )


@router.get("/{name}", responses=responses(404, 422))
def get_dataset(name: ThisDataset, here: Here, _person: Person) -> DatasetOut:
    """A dataset's draft and its versions, the newest first."""
    return view(here, name)


@router.get("/{name}/draft", responses=responses(404, 422))
def get_draft(name: ThisDataset, here: Here, _person: Person) -> DraftOut:
    """The draft's recipe with every row that people changed: what `PUT` takes, and a YAML file says."""
    dataset = draft_store.find(here.registry, here.project, name)
    changes = draft_store.changes(here.registry, here.project, name)
    rows = {"edit": msgspec.to_builtins(changes.edits), "delete": sorted(changes.deleted)}
    return DraftOut.model_validate({**msgspec.to_builtins(dataset.draft), "name": name, "rows": rows})


@router.put("/{name}/draft", responses=responses(400, 404, 422))
async def change_draft(name: ThisDataset, draft: DraftIn, here: Here, person: Person) -> DatasetOut:
    """Give the draft another recipe. Rows that were changed, deleted or imported stay so; `rows` changes more of them."""
    if draft.name not in (None, name):
        raise InvalidRecipe(f"name: the recipe is of another dataset than {name!r}", place="name")
    recipe = await asyncio.to_thread(draft_of, here, draft)
    await asyncio.to_thread(draft_store.find, here.registry, here.project, name)
    edits = await _checked_rows(here, name, recipe, draft)
    await asyncio.to_thread(draft_store.change, here.registry, here.project, name, recipe, edits, by=person)
    return await asyncio.to_thread(view, here, name)


def view(curator: Curator, name: str) -> DatasetOut:
    """A dataset as the API gives it.

    Raises:
        NotFound: there is none of this name.
    """
    registry, project = curator.registry, curator.settings.project
    dataset = draft_store.find(registry, project, name)
    return _dataset_out(dataset, version_store.find_versions(registry, project, name))


def draft_of(curator: Curator, given: DraftIn) -> Recipe:
    """The recipe that a client asks for.

    Raises:
        InvalidRecipe: it cannot be followed; says where.
        BadQuery: one of its queries cannot be read.
    """
    recipe = checked(recipe_of(given), saved_texts(curator.registry, curator.project))
    if lengths := recipe.filters.lengths:
        tokens.check_known(curator.settings.tokenizers, lengths.tokenizer)
    return recipe


async def _checked_rows(curator: Curator, name: str, recipe: Recipe, given: DraftIn) -> Edits:
    """What a client wants to become of rows, by row_key."""
    edits = {key: checked_edit(text.messages, text.rejected) for key, text in given.rows.edit.items()}
    wanted: dict[str, RowEdit | None] = {**edits, **dict.fromkeys(given.rows.delete)}
    for row_key, edit in wanted.items():
        await check_change(curator, name, recipe, row_key, edit)
    return wanted


def _dataset_out(dataset: Dataset, versions: list[Version]) -> DatasetOut:
    return DatasetOut(
        name=dataset.name,
        draft=body_of(dataset.draft),
        created_ms=dataset.created_ms,
        updated_ms=dataset.updated_ms,
        versions=[VersionOut.model_validate(version) for version in versions],
    )


def _summary(dataset: Dataset, versions: int, latest: int | None) -> DatasetSummary:
    return DatasetSummary(
        name=dataset.name,
        draft=body_of(dataset.draft),
        created_ms=dataset.created_ms,
        updated_ms=dataset.updated_ms,
        latest_version=latest,
        versions=versions,
    )

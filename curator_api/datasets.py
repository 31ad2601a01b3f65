"""Datasets over HTTP: start one, change its draft's recipe, see what there is."""

from typing import Annotated

from fastapi import APIRouter, Path

from tunemill.curator_api import draft_store, version_store
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.draft import Draft, checked, checked_name
from tunemill.curator_api.draft_store import Dataset
from tunemill.curator_api.payloads import (
    DatasetIn,
    DatasetOut,
    DatasetsOut,
    DatasetSummary,
    DraftIn,
    DraftOut,
    Storable,
    VersionOut,
)
from tunemill.curator_api.problems import responses
from tunemill.curator_api.queries import saved_texts
from tunemill.curator_api.version_store import Version

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

ThisDataset = Annotated[str, Path(max_length=1_000), Storable]


@router.post("", status_code=201, responses=responses(400, 409, 422))
def create_dataset(dataset: DatasetIn, here: Here, _person: Person) -> DatasetOut:
    """Start a dataset: a draft that gathers the logs which match a query. Nothing is frozen before a version is published."""
    name = checked_name(dataset.name)
    made = draft_store.create(here.registry, here.settings.project, name, draft_of(here, dataset))
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


@router.put("/{name}/draft", responses=responses(400, 404, 422))
def change_draft(name: ThisDataset, draft: DraftIn, here: Here, _person: Person) -> DatasetOut:
    """Give the draft another recipe. Rows that were changed, deleted or imported stay so."""
    draft_store.change(here.registry, here.settings.project, name, draft_of(here, draft))
    return view(here, name)


def view(curator: Curator, name: str) -> DatasetOut:
    """A dataset as the API gives it.

    Raises:
        NotFound: there is none of this name.
    """
    registry, project = curator.registry, curator.settings.project
    dataset = draft_store.find(registry, project, name)
    return _dataset_out(dataset, version_store.find_versions(registry, project, name))


def draft_of(curator: Curator, given: DraftIn) -> Draft:
    """The draft that a client asks for.

    Raises:
        BadQuery: its query cannot be read.
    """
    draft = Draft(query=given.query, limit=given.limit, seed=given.seed, test_share=given.test_share)
    return checked(draft, saved_texts(curator.registry, curator.project))


def _dataset_out(dataset: Dataset, versions: list[Version]) -> DatasetOut:
    return DatasetOut(
        name=dataset.name,
        draft=DraftOut.model_validate(dataset.draft),
        created_ms=dataset.created_ms,
        updated_ms=dataset.updated_ms,
        versions=[VersionOut.model_validate(version) for version in versions],
    )


def _summary(dataset: Dataset, versions: int, latest: int | None) -> DatasetSummary:
    return DatasetSummary(
        name=dataset.name,
        draft=DraftOut.model_validate(dataset.draft),
        created_ms=dataset.created_ms,
        updated_ms=dataset.updated_ms,
        latest_version=latest,
        versions=versions,
    )

"""Datasets as they go over HTTP: a draft's recipe and the versions that were made of it."""

from tunemill.curator_api.payloads import Given
from tunemill.curator_api.recipe_payloads import RecipeOut
from tunemill.curator_api.version_payloads import VersionOut


class DatasetSummary(Given):
    """A dataset in a list."""

    name: str
    draft: RecipeOut
    created_ms: int
    updated_ms: int
    latest_version: int | None
    versions: int


class DatasetsOut(Given):
    """The project's datasets, by name."""

    datasets: list[DatasetSummary]


class DatasetOut(Given):
    """A dataset: its draft and its versions, the newest first."""

    name: str
    draft: RecipeOut
    created_ms: int
    updated_ms: int
    versions: list[VersionOut]

"""Published versions as they go over HTTP."""

from tunemill.curator_api.payloads import Given
from tunemill.curator_api.recipe_payloads import RecipeOut


class LengthsOut(Given):
    """A distribution."""

    min: int
    median: int
    p90: int
    max: int
    total: int


class ReportOut(Given):
    """What is in a version, and what is not and why: `matched` = `rows` + the sum of `excluded`."""

    matched: int
    rows: int
    excluded: dict[str, int]
    splits: dict[str, int]
    languages: dict[str, int]
    tags: dict[str, int]
    imported: int
    edited: int
    characters_per_row: LengthsOut
    messages_per_row: LengthsOut
    warnings: list[str]
    private_data: str | None
    masked: dict[str, int]


class VersionOut(Given):
    """A published version; never changed."""

    name: str
    version: int
    digest: str
    rows: int
    splits: dict[str, int]
    manifest_url: str
    draft: RecipeOut
    report: ReportOut
    note: str | None
    by: str
    created_ms: int

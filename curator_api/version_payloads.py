"""Published versions as they go over HTTP."""

from typing import Annotated, Any, Literal

from pydantic import Field

from tunemill.curator_api.payloads import Given, RowMessageOut, Storable, Taken
from tunemill.curator_api.payloads import Recipe as TrainingRecipe
from tunemill.curator_api.recipe_payloads import RecipeOut


class LengthsOut(Given):
    """A distribution."""

    min: int
    median: int
    p90: int
    max: int
    total: int


class SliceShareOut(Given):
    """One value of a slice: how much of what was looked at, and how much of the dataset."""

    logs: int
    share_logs: float
    rows: int
    share_rows: float
    duplicates: int
    out: dict[str, int]


class NearDuplicatesOut(Given):
    """How near-duplicates were found."""

    threshold: float
    clusters: int
    rows: int
    sketched: int
    bands: int
    band_bytes: int
    modelled_recall: float
    crowded: int


class ContaminationOut(Given):
    """Rows that repeat an evaluation set."""

    against: list[str]
    words: int
    rows: int


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
    corrected: int
    bad: dict[str, int]
    tokens_per_row: LengthsOut | None
    licences: dict[str, int]
    terms: dict[str, int]
    sources: dict[str, int] = Field(description="imported rows by the file or set that they came from")
    slices: dict[str, dict[str, SliceShareOut]]
    near_duplicates: NearDuplicatesOut | None
    contamination: ContaminationOut | None
    balance: dict[str, Any]
    point_ms: int
    default_consent: str | None


class SearchedOut(Given):
    """A search, and what it meant when the version was published."""

    query: str
    spelled_out: str
    saved: list[str]
    matched: int


class TakenOut(Given):
    """Rows of another version."""

    version: str
    matched: int


class LineageOut(Given):
    """Where the rows of a version came from: how many logs, found by what."""

    searches: list[SearchedOut]
    versions: list[TakenOut]
    imports: list[str]
    logs: int
    feedback: int
    amends: int | None


class VersionOut(Given):
    """A published version. Only an erasure changes it: it takes rows out, and the revision counts up."""

    name: str
    version: int
    revision: int
    digest: str
    rows: int
    splits: dict[str, int]
    shape: Literal["chat", "preference"]
    parent: int | None
    point_ms: int
    manifest_url: str
    sources_url: str
    draft: RecipeOut
    report: ReportOut
    lineage: LineageOut | None
    note: str | None
    by: str
    created_ms: int


class PublishIn(Taken):
    """What to note about the version, and what to train on it; without a recipe nothing is trained."""

    note: Annotated[str, Field(max_length=2_000), Storable] | None = None
    recipe: TrainingRecipe | None = None
    amend: Annotated[str, Field(max_length=64), Storable] | None = Field(
        default=None,
        description="a version, by number or alias, whose rows are taken with what people changed since; the index is not asked",
    )


class ChangeOut(Given):
    """One difference between two versions."""

    change: Literal["added", "removed", "changed"]
    row_key: str
    fields: list[str]
    before: list[RowMessageOut] | None
    after: list[RowMessageOut] | None
    before_rejected: list[RowMessageOut] | None = None
    after_rejected: list[RowMessageOut] | None = None


class DiffOut(Given):
    """The differences between two versions, and the first of them in full."""

    added: int
    removed: int
    changed: int
    rows: list[ChangeOut]


class VerifiedOut(Given):
    """Whether a version is, byte for byte, what it was."""

    ok: bool
    files: int
    bytes: int
    rows: int
    problems: list[str]


class RestoreIn(Taken):
    """The version whose rows the draft is to hold."""

    version: Annotated[str, Field(max_length=64), Storable]
    as_: Annotated[str, Field(max_length=1_000), Storable] | None = Field(
        default=None, alias="as", description="start another dataset with them"
    )


class AliasIn(Taken):
    """The version that the alias names from now on."""

    version: Annotated[str, Field(max_length=64), Storable]


class AliasOut(Given):
    """A name for a version."""

    alias: str
    version: int
    by: str
    updated_ms: int


class AliasesOut(Given):
    """The names of a dataset's versions; `latest` is computed."""

    aliases: list[AliasOut]
    latest: int | None


class UsedOut(Given):
    """A run that used a version."""

    run_id: str
    status: str
    digest: str
    created_ms: int


class RedactionOut(Given):
    """An erasure that took rows out of a version."""

    revision: int
    digest: str
    replaces_digest: str
    rows_removed: int
    ts_ms: int


class OriginsOut(Given):
    """Where a version came from and where it went."""

    name: str
    version: int
    lineage: LineageOut | None
    runs: list[UsedOut]
    redactions: list[RedactionOut]
    rows: list[str] | None = Field(default=None, description="the rows that were made of the log that was asked for")

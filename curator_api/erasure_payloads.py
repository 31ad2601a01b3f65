"""What the API takes and gives for erasures."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tunemill.curator_api.payloads import Given, LogId, SearchText, Storable, Taken
from tunemill.curator_api.receipt import Exposure, Kind

_ONE_OF = ("log_id", "subject", "query")


class ErasureIn(Taken):
    """What is to be erased: one log, all of a subject, or all that a query finds."""

    log_id: LogId | None = None
    subject: Annotated[str, Field(min_length=1, max_length=512), Storable] | None = Field(
        None, description="logs whose user, session or metadata.subject is this"
    )
    query: SearchText | None = Field(None, description="logs that match; it must not match every log")
    dry_run: bool = Field(False, description="only count the logs")
    expected_total: int | None = Field(
        None,
        ge=0,
        description="how many logs the dry run counted; needed with a query; if it is another number by now: 409",
    )

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if sum(getattr(self, name) is not None for name in _ONE_OF) != 1:
            raise ValueError("send one of log_id, subject and query")
        return self

    @property
    def scope(self) -> tuple[Kind, str]:
        """What kind it is, and its value."""
        if self.log_id is not None:
            return "log", self.log_id
        if self.subject is not None:
            return "subject", self.subject
        return "query", self.query or ""


class ErasureCountOut(Given):
    """How many logs would be erased."""

    total: int


class StoreOut(Given):
    """What became of the logs in one store."""

    store: str
    removed: int
    kept_until_ms: int | None = Field(description="when the store lets go of what could not be removed")
    note: str | None


class RedactedVersionOut(Given):
    """A version that lost rows; its number stays, its revision and digest are new."""

    name: str
    version: int
    revision: int
    rows_removed: int
    digest: str
    replaces_digest: str


class ExposedRunOut(Given):
    """A training run on a version that held one of the logs."""

    run_id: str
    name: str
    version: int
    status: str
    artefact_url: str | None
    exposure: Exposure
    aliases: list[str] = Field(description="the names that its model was used by when the erasure was done")


class ErasureRequestOut(Given):
    """An erasure: how far it is, and once it is done its receipt. It holds no text and no ids of logs."""

    request_id: str
    kind: Kind
    scope_digest: str = Field(description="SHA-256 of the log_id, the subject or the query")
    status: Literal["running", "done", "failed"]
    waits_for: str | None = Field(description="the erasure whose turn it is, if it is another one's")
    steps: list[str] = Field(description="that are done")
    logs: int = Field(description="that it is about")
    stores: list[StoreOut]
    versions: list[RedactedVersionOut]
    runs: list[ExposedRunOut]
    verified: bool = Field(description="the index was asked for the logs in the end, and has none")
    error: str | None
    by: str
    created_ms: int
    finished_ms: int | None


class ErasureRequestsOut(Given):
    """Erasures, the newest first."""

    erasures: list[ErasureRequestOut]

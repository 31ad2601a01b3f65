"""What the API takes and gives for work on many logs."""

from typing import Annotated, Literal, Self

from fastapi import Header
from pydantic import Field, JsonValue, model_validator

from tunemill.curator_api.edit_payloads import Why
from tunemill.curator_api.job_store import Request
from tunemill.curator_api.payloads import Given, SearchText, Storable, TagText, Taken
from tunemill.schemas.ids import digest

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=128,
        description="sending the same key again gives the job that the first request began",
    ),
    Storable,
]

Status = Literal["running", "done", "failed", "cancelled", "undoing", "undone"]

_SAYS = {  # what is to be done, by kind
    "tags": ("add", "remove"),
    "consent": ("consent",),
    "delete": (),
    "reindex": (),
    "retention": (),
}
_OF_ALL_LOGS = ("reindex", "retention")


class JobIn(Taken):
    """What to do to all logs that match."""

    kind: Literal["tags", "consent", "delete", "reindex", "retention"]
    query: SearchText = Field("", description="empty: every log; `reindex` and `retention` take none")
    add: list[TagText] = Field([], max_length=100, description="of the kind `tags`")
    remove: list[TagText] = Field([], max_length=100, description="of the kind `tags`")
    consent: Literal["train", "eval_only", "none"] | None = Field(None, description="of the kind `consent`")
    why: Why | None = None
    dry_run: bool = Field(False, description="only count the logs")
    expected_total: int | None = Field(
        None, ge=0, description="how many logs the dry run counted; if it is another number by now: 409"
    )
    everything: bool = Field(False, description="of the kind `delete`: every log is really meant")

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        said = {name for names in _SAYS.values() for name in names if getattr(self, name)}
        if wrong := said.difference(_SAYS[self.kind]):
            raise ValueError(f"the kind {self.kind} takes no {' and no '.join(sorted(wrong))}")
        if _SAYS[self.kind] and not said:
            raise ValueError(f"it changes nothing: send {' or '.join(_SAYS[self.kind])}")
        if self.kind in _OF_ALL_LOGS and (self.query or self.dry_run):
            raise ValueError(f"the kind {self.kind} takes no query and no dry_run")
        if both := set(self.add) & set(self.remove):
            raise ValueError(f"a tag is either added or removed: {', '.join(sorted(both))}")
        return self

    @property
    def work(self) -> dict[str, JsonValue]:
        """What is to be done to each log."""
        return {name: value for name in _SAYS[self.kind] if (value := getattr(self, name))}

    def request(self, key: str | None) -> Request | None:
        """What it is named by, if it has such a key and asks for anything."""
        if key is None or self.dry_run:
            return None
        return Request(key, digest([self.kind, self.query, self.work, self.why]))


class CountOut(Given):
    """How many logs match, and the newest of them."""

    total: int
    log_ids: list[str]


class JobOut(Given):
    """Work on the logs that match a query."""

    job_id: str
    kind: str
    query: str
    work: JsonValue = Field(description="what it does to each log, by kind")
    why: str | None
    revision: int | None = Field(description="of the rules, if it applies some")
    status: Status
    waits_for: str | None = Field(description="the job whose turn it is, if it is another one's")
    total: int = Field(description="logs that matched when it began")
    seen: int
    changed: int
    undone: int = Field(description="of those that it changed, how many are given back")
    can_be_undone: bool
    logs_per_s: float | None = Field(description="since it was asked for")
    eta_s: float | None
    result: JsonValue
    error: JsonValue
    by: str
    created_ms: int
    finished_ms: int | None


class JobsOut(Given):
    """Jobs, newest first."""

    jobs: list[JobOut]


class BackfillIn(Taken):
    """Which logs get their tags set anew."""

    query: SearchText = Field("", description="empty: every log")

    def request(self, key: str | None) -> Request | None:
        """What it is named by, if it has such a key."""
        return None if key is None else Request(key, digest(["rules", self.query]))


class BackfillOut(Given):
    """A backfill: the rules of one revision applied to the logs that match a query."""

    backfill_id: str
    query: str
    revision: int
    status: Status
    total: int = Field(description="logs that matched when it began")
    seen: int
    changed: int = Field(description="logs whose tags, or who set them, it changed")
    undone: int = Field(description="of those, how many are taken back")
    logs_per_s: float | None = Field(description="since it was asked for")
    eta_s: float | None
    error: JsonValue
    by: str
    created_ms: int
    finished_ms: int | None


class BackfillsOut(Given):
    """Backfills, newest first."""

    backfills: list[BackfillOut]

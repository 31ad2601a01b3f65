"""What goes over HTTP about training runs and the models that they leave."""

from typing import Annotated, Literal, get_args

from pydantic import Field, JsonValue

from tunemill.curator_api.payloads import Given, Recipe, Storable, Taken

MAX_PRIORITY = 1_000
ALIAS = r"^[a-z0-9][a-z0-9_-]{0,62}$"

Status = Literal["queued", "preparing", "running", "evaluating", "succeeded", "rejected", "failed", "cancelled"]
STATUSES = get_args(Status)
Priority = Annotated[
    int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="of runs that wait, the highest is next")
]
Reason = Annotated[str, Field(min_length=1, max_length=2_000, pattern=r"\S"), Storable]


class RunIn(Taken):
    """A version to train on, and how: a partial recipe that the trainer fills in."""

    name: Annotated[str, Field(max_length=1_000), Storable]
    version: int = Field(ge=1, le=2**31 - 1)
    recipe: Recipe
    priority: Priority = 0


class RunAccepted(Given):
    """The trainer is told. The run appears under `GET /v1/runs` when it has taken it on."""

    event_id: str
    name: str
    version: int


class RunOut(Given):
    """A training run."""

    run_id: str
    run_key: str
    name: str
    version: int
    digest: str
    recipe: JsonValue
    status: str
    attempt: int
    priority: int
    plan: JsonValue = Field(description="what was settled before training, with reasons")
    progress: JsonValue
    result: JsonValue
    error: JsonValue
    launcher: str | None = Field(description="what runs it, and as which job")
    artefact_url: str | None
    trained_tokens: int | None
    seconds: float | None
    cancel_requested_ms: int | None
    created_ms: int
    started_ms: int | None
    finished_ms: int | None


class RunsOut(Given):
    """Runs, the newest first."""

    runs: list[RunOut]
    cursor: str | None


class RunEventOut(Given):
    """Something that happened in a run."""

    seq: int
    ts_ms: int
    level: str
    type: str
    message: str
    data: JsonValue


class RunEventsOut(Given):
    """A run's events, in order."""

    events: list[RunEventOut]
    cursor: str | None


class SamplesOut(Given):
    """Rows with the answers before and after, as the trainer wrote them; none once one of its rows was erased."""

    samples: list[dict[str, JsonValue]]


class KnobOut(Given):
    """A knob of the recipe that is not the same in both runs."""

    knob: str
    a: JsonValue
    b: JsonValue


class ComparedOut(Given):
    """A score of both runs after training."""

    name: str
    on: str = Field(description="the rows that it was measured on")
    unit: str
    before_a: float | None
    before_b: float | None
    a: float | None
    b: float | None
    change: float | None = Field(description="from a to b")
    low: float | None = Field(description="of the change, 95 %, by the paired bootstrap over the rows of both")
    high: float | None
    p: float | None
    rows: int | None
    better: Literal["a", "b", "not_sure", "not_comparable"] | None = Field(
        description="not_sure: the interval holds 0; not_comparable: there are no scores of both on the same rows, row by row; "
        "null: they are alike, neither is better, or one has no such score"
    )


class CompareOut(Given):
    """Two runs side by side."""

    a: RunOut
    b: RunOut
    same_rows: bool = Field(
        description="both were measured on the same rows, held-out and general: else scores say little"
    )
    recipe: list[KnobOut]
    scores: list[ComparedOut]


class PromoteIn(Taken):
    """The name that a run's result is to have from now on."""

    alias: Annotated[str, Field(pattern=ALIAS)] = "champion"
    override: Reason | None = Field(None, description="why a rejected result is used all the same; the audit keeps it")


class ModelAliasOut(Given):
    """A name and the run whose result it stands for."""

    alias: str
    run_id: str
    by: str
    reason: str | None = Field(description="why it was set against a gate")
    updated_ms: int


class ModelOut(Given):
    """A run of the dataset that left a model."""

    run_id: str
    version: int
    status: str
    method: str
    base: str
    artefact_url: str
    finished_ms: int
    aliases: list[str]


class ModelsOut(Given):
    """What was made from a dataset: the newest models, and the names in use."""

    aliases: list[ModelAliasOut]
    models: list[ModelOut]


class PolicyIn(Taken):
    """When new versions of a dataset are trained on, and how."""

    on: str = Field(
        "version", pattern=r"^(version|alias:[a-z0-9][a-z0-9_-]{0,62})$", description="version, or alias:<alias>"
    )
    recipe: Recipe
    quiet_s: int = Field(
        600, ge=0, le=30 * 86_400, description="so long nothing new comes before the last one is trained on"
    )
    priority: Priority = 0


class PolicyOut(PolicyIn, Given):
    """The policy, and what waits by it."""

    due_ms: int | None
    due_version: int | None
    by: str
    updated_ms: int

"""What goes over HTTP: the bodies that endpoints take and give. Docs of the fields of a log stand in `schemas/avro/`."""

import re
from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from tunemill.indexer.query import MAX_CHARACTERS
from tunemill.schemas.ids import MAX_LOG_ID_CHARS

TAG = r"^[a-z0-9][a-z0-9_-]{0,31}:[^\s\x00-\x1f\x7f\"]{1,128}$"

MAX_RECIPE_BYTES = 64 * 1024
MAX_RULES_CHARACTERS = 1_000_000


def _storable(text: str | None) -> str | None:
    """JSON can spell characters that no database and no encoding can hold."""
    if text is None:
        return None
    if "\x00" in text or any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        raise ValueError("a NUL character or half a surrogate pair cannot be stored")
    return text


def _printable(text: str) -> str:
    """Such as the stream takes for an id; half a surrogate pair is none."""
    if not text.isprintable():
        raise ValueError("it holds a character that cannot be printed")
    return text


def encodable(value: Any) -> Any:
    """The value, if JSON in UTF-8 can hold it."""
    try:
        msgspec.json.encode(value)
    except (ValueError, OverflowError, RecursionError) as error:
        raise ValueError("half a surrogate pair, or a number of more than 64 bits, cannot be stored") from error
    return value


def _tag(text: str) -> str:
    if re.fullmatch(TAG, text) is None:
        raise ValueError(
            "a tag is `namespace:value`; no spaces or quotes, and the namespace in small letters, as in topic:math"
        )
    return text


def _small(recipe: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """It travels in an event, and a bus takes no giants."""
    if len(msgspec.json.encode(recipe)) > MAX_RECIPE_BYTES:
        raise ValueError(f"a recipe may have {MAX_RECIPE_BYTES} bytes of JSON")
    return recipe


Storable = AfterValidator(_storable)
Object = Annotated[dict[str, JsonValue], AfterValidator(encodable)]
Recipe = Annotated[Object, AfterValidator(_small)]
TagText = Annotated[
    str, Field(json_schema_extra={"pattern": TAG}, examples=["topic:math"]), AfterValidator(_tag), Storable
]
Id = Annotated[str, Field(min_length=1, max_length=MAX_LOG_ID_CHARS), AfterValidator(_printable)]
RulesText = Annotated[str, Field(max_length=MAX_RULES_CHARACTERS), Storable]
SearchText = Annotated[  # a longer one is refused with its column where it is read
    str, Field(json_schema_extra={"maxLength": MAX_CHARACTERS}), Storable
]
LogId = Annotated[str, Field(min_length=1, max_length=512), Storable]


class Given(BaseModel):
    """What the API gives."""

    model_config = ConfigDict(from_attributes=True)


class Taken(BaseModel):
    """What the API takes: a member that is not known is an error, not a silence."""

    model_config = ConfigDict(extra="forbid")


class ToolCallOut(Given):
    """One call of a tool."""

    id: str | None
    name: str
    arguments: str = Field(description="JSON text as the model wrote it")


class MessageOut(Given):
    """One message of a log."""

    role: str
    content: str | None
    parts: JsonValue
    tool_calls: list[ToolCallOut]
    tool_call_id: str | None
    name: str | None
    refusal: str | None
    reasoning: str | None


class UsageOut(Given):
    """Tokens as the provider counted them."""

    input_tokens: int | None
    output_tokens: int | None


class FeedbackOut(Given):
    """What somebody thought of this answer."""

    feedback_id: str
    ts_ms: int
    name: str
    log_id: str | None
    response_id: str | None
    trace_id: str | None
    score: float | None
    label: str | None
    correction: str | None
    comment: str | None
    by: str | None


class MessagesOut(Given):
    """What was asked and what was answered."""

    messages: list[MessageOut]
    output: list[MessageOut]


class EditOut(Given):
    """One thing that a person did to the log."""

    revision: int
    kind: str = Field(description="tag, untag, reset, messages or consent")
    tag: str | None
    value: str | None = Field(description="the consent")
    as_it_came: bool = Field(description="the messages, or the consent, are again what the log came with")
    why: str | None
    by: str
    ts_ms: int
    job_id: str | None = Field(description="the work on many logs that it was part of")


class NeighbourOut(Given):
    """A log before or after another in its session; `prompt` is cut to 200 characters."""

    log_id: str
    ts_ms: int
    prompt: str | None


class NeighboursOut(Given):
    """Where a log stands in its session."""

    total: int = Field(description="logs of the session, as far as the search knows them by now")
    place: int = Field(description="of this log among them, from 1")
    before: list[NeighbourOut] = Field(description="at most ten, the last ones before it, the oldest first")
    after: list[NeighbourOut]


class LogOut(Given):
    """One LLM call, normalised, with what people put in place of it; fields without a value are null."""

    log_id: str
    ts_ms: int
    project: str
    source: str
    app: str | None
    model: str | None
    provider: str | None
    operation: str
    messages: list[MessageOut]
    output: list[MessageOut]
    tools: JsonValue
    params: JsonValue
    usage: UsageOut
    cost_usd: float | None
    latency_ms: float | None
    finish_reason: str | None
    status: str
    error: str | None
    response_id: str | None
    trace_id: str | None
    session_id: str | None
    user_id: str | None
    metadata: dict[str, str]
    consent: str | None
    extra: JsonValue
    tags: list[str]
    tagged_by: dict[str, str] = Field(description="who set each tag: caller, rule@version or person:<key id>")
    tag_status: str
    language: str | None
    content_digest: str
    feedback: list[FeedbackOut] = Field(description="the oldest first; new feedback shows after about a second")
    revision: int = Field(description="how often people did something to the log")
    original: MessagesOut | None = Field(description="what the log came with, where people put something in its place")
    consent_said: str | None = Field(description="a person's word on consent, which goes before the log's own")
    edits: list[EditOut] = Field(description="the last 200 things that people did to the log, the oldest first")
    neighbours: NeighboursOut | None = Field(description="null: it is in no session")


class RejectedItem(Given):
    """An item that will not become a log, and why."""

    item: int = Field(description="its place in the body, from 0")
    code: str
    reason: str


class Accepted(Given):
    """What became of each item: those that are not named as rejected are accepted."""

    accepted: int
    rejected: list[RejectedItem]


class FeedbackIn(Taken):
    """What somebody thought of an answer, found by any of its three ids."""

    feedback_id: Id | None = Field(None, description="made here if left out; the same one again replaces the first")
    log_id: Id | None = None
    response_id: Id | None = Field(None, description="the `id` in the model's response")
    trace_id: Id | None = None
    name: Annotated[str, Field(min_length=1, max_length=128, examples=["helpful"]), Storable]
    score: float | None = Field(None, allow_inf_nan=False)
    label: Annotated[str, Field(max_length=1_000), Storable] | None = None
    correction: Annotated[str, Field(max_length=1_000_000), Storable] | None = Field(
        None, description="a better answer"
    )
    comment: Annotated[str, Field(max_length=100_000), Storable] | None = None
    by: Annotated[str, Field(min_length=1, max_length=256), Storable] | None = Field(
        None, description="who thought so; left out, it is the key's owner"
    )
    ts_ms: int | None = Field(None, ge=0, le=253_402_300_799_999, description="when; left out, it is now")

    @model_validator(mode="after")
    def _says_what_of_what(self) -> Self:
        if self.log_id is None and self.response_id is None and self.trace_id is None:
            raise ValueError("it names no answer: send log_id, response_id or trace_id")
        if self.score is None and self.label is None and self.correction is None and self.comment is None:
            raise ValueError("it says nothing: send score, label, correction or comment")
        return self


class FeedbackAccepted(Accepted):
    """What became of each item, and the ids of those that are accepted, in their order."""

    feedback_ids: list[str]


class ErasureOut(Given):
    """An erasure that everyone is told of; `found`: the log was in the index, and is not any more."""

    erasure_id: str
    found: bool


class RejectedOut(Given):
    """A dead letter, without its payload."""

    rejected_id: str
    ts_ms: int = Field(description="when it was rejected last")
    topic: str
    partition: int
    offset: int
    stage: str
    error_code: str
    reason: str
    payload_bytes: int
    attempts: int = Field(description="how often it was rejected")
    first_ts_ms: int | None = Field(description="when it was rejected for the first time, if it was sent again since")


class RejectedCount(Given):
    """How many dead letters there are of a kind."""

    stage: str
    error_code: str
    count: int


class RejectedPage(Given):
    """The newest dead letters that match, and how many there are of each kind."""

    rejected: list[RejectedOut]
    total: int
    counts: list[RejectedCount] = Field(description="of all that match, the commonest kind first")
    older: int = Field(description="those beyond the newest 100,000: listed once half of these are sent again")


class RejectedDetail(RejectedOut):
    """A dead letter with its payload, in which secrets are masked."""

    payload: str | None = Field(description="null: none was kept, because it was too large or masking failed")
    payload_encoding: Literal["text", "base64"] | None


class RedriveIn(Taken):
    """Which dead letters to send again: these, or all that have what is named."""

    ids: list[Annotated[str, Field(max_length=512)]] | None = Field(None, max_length=1_000)
    stage: Annotated[str, Field(max_length=249)] | None = None
    error_code: Annotated[str, Field(max_length=249)] | None = None
    topic: Annotated[str, Field(max_length=249)] | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        kinds = (self.stage, self.error_code, self.topic)
        if (self.ids is None) == (kinds == (None, None, None)):
            raise ValueError("send ids, or else stage, error_code or topic")
        return self


class RedriveOut(Given):
    """What became of each dead letter."""

    redriven: int
    no_payload: int = Field(
        description="nothing is left to send: neither is the message on the bus nor were its bytes kept"
    )
    not_found: int = Field(description="ids of no dead letter, or of one that was sent again already")


class RowMessageOut(Given):
    """One message of a row."""

    role: str
    content: str | None
    tool_calls: list[ToolCallOut]
    tool_call_id: str | None
    name: str | None


class RowEditIn(Taken):
    """The messages to put in place of a row's own, the answer last."""

    messages: list[Object] = Field(max_length=1_000)
    rejected: list[Object] = Field(
        [], max_length=1_000, description="of a pair: the worse answer; as it is unless given"
    )


class EditedOut(Given):
    """A row that was changed."""

    row_key: str
    messages: list[RowMessageOut]


class RulesTextIn(Taken):
    """Rules, as YAML."""

    document: RulesText


class RulesIn(RulesTextIn):
    """Rules to put in force."""

    expected_revision: int | None = Field(
        None, ge=0, le=2**31 - 1, description="the revision that they were made from; another one in force is a 409"
    )


class RulesOut(Given):
    """A revision of what sets tags by itself. The highest is in force."""

    revision: int = Field(description="0: the packaged starter set, because nobody has put anything in force")
    document: str = Field(description="the rules, YAML")
    is_starter: bool = Field(description="the document is the packaged starter set, of whatever version is running")
    learned: list[str] = Field(description="the learned tags beside them, tag@version")
    by: str | None
    created_ms: int | None


class RulesCheckedOut(Given):
    """The rules may be put in force; if not, the answer is a problem."""

    valid: bool


class DryRunIn(Taken):
    """Rules to try out, and on which logs."""

    document: RulesText | None = Field(None, description="left out: the rules in force")
    query: SearchText = ""
    limit: int = Field(1_000, ge=1, le=10_000, description="at most so many logs, the oldest first")


class EffectOut(Given):
    """Some logs, and a few of their ids."""

    count: int
    log_ids: list[str]


class TagEffectOut(Given):
    """What would become of one tag: how many logs would get it, lose it, keep it."""

    tag: str
    added: EffectOut
    removed: EffectOut
    kept: EffectOut


class DryRunOut(Given):
    """What would become of the tags of the logs that were looked at; the tags that change most come first."""

    looked_at: int
    changed: int = Field(description="logs whose tags, or who set them, would not be the same")
    tags: list[TagEffectOut]


class LabelIn(Taken):
    """Whether a log should have a tag."""

    log_id: LogId
    tag: TagText
    label: bool


class LabelsIn(Taken):
    """Labels of logs."""

    labels: list[LabelIn] = Field(max_length=1_000)


class LabelsOut(Given):
    """How many logs were labelled, and which are not there or were erased."""

    labelled: int
    missing: list[str]


class LearnIn(Taken):
    """The tag to learn, and how precise it should be at least; if no threshold is, the one with the best F1 is taken."""

    tag: TagText
    precision: float = Field(0.9, gt=0, le=1)


class ShareOut(Given):
    """A share of some held-out logs, and where it may lie on logs that nobody labelled; docs/tags.md says how far that holds."""

    share: float
    low: float
    high: float
    of: int


class HeldOutOut(Given):
    """What became of the labelled logs, each judged by a model and a threshold that had seen nothing of its conversation."""

    tp: int
    fp: int
    fn: int
    tn: int
    precision: ShareOut | None = Field(description="null: no log got the tag")
    recall: ShareOut
    false_alarms: ShareOut = Field(description="of the logs that should not have the tag, those that got it")


class PointOut(Given):
    """Precision and recall on the held-out labels at one threshold, and how many logs get the tag."""

    threshold: float
    precision: float
    recall: float
    tagged: int


class WordOut(Given):
    """A word that weighs much, and the part of the log where it does."""

    part: Literal["user", "assistant", "system"]
    word: str
    weight: float


class LearnedReportOut(Given):
    """How good a learned tag is, and what it looks at."""

    yes: int
    no: int
    conversations: int
    wanted_precision: float
    threshold_by: Literal["precision", "f1"] = Field(description="f1: no threshold reached the wanted precision")
    held_out: HeldOutOut
    curve: list[PointOut]
    words_for: list[WordOut]
    words_against: list[WordOut]


class LearnedTagOut(Given):
    """One version of a learned tag."""

    tag: str
    version: int
    in_force: int | None = Field(description="the version that sets the tag now; null: none does")
    threshold: float
    report: LearnedReportOut
    by: str
    created_ms: int


class LearnOut(LearnedTagOut):
    """What was learned, and of how many labels it was not."""

    missing: int = Field(description="labels of logs that are not there any more")
    left_out: int = Field(description="older labels than the newest 2,000")


class LearnedTagsOut(Given):
    """The newest version of each learned tag, by tag."""

    learned_tags: list[LearnedTagOut]


class InForceIn(Taken):
    """The version to put in force; the newest unless told."""

    version: int | None = Field(None, ge=1)


class InForceOut(Given):
    """Which version sets the tag from now on, and the number of the set of rules that says so."""

    tag: str
    in_force: int | None
    revision: int


class LearnedDryRunIn(Taken):
    """Stored logs to try a learned tag on: those that match, the oldest first."""

    query: SearchText = ""
    limit: int = Field(1_000, ge=1, le=10_000)
    version: int | None = Field(None, ge=1, description="the newest unless told")


class LearnedDryRunOut(Given):
    """What a learned tag would do to the logs that were looked at, if it were in force."""

    version: int
    looked_at: int
    effect: TagEffectOut

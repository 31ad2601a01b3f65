"""The records that travel between processes: one frozen struct per Avro schema in `avro/`, same field names.

Times are integers of milliseconds since the epoch, UTC (`*_ms`). Free-form JSON (`params`, `tools`, `extra`, ...) is a
Python value here, JSON inside JSON on a JSON wire, and JSON text in an Avro string. Field meanings stand in the `.avsc` files' `doc`.
"""

from typing import Any

import msgspec

from tunemill.schemas.ids import PROJECT

Json = Any  # a value that JSON can hold


class ToolCall(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One call of a tool that the model asked for."""

    name: str
    arguments: str  # JSON text exactly as the model wrote it, which may be broken JSON
    id: str | None = None


class Message(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One chat message, in the shape of OpenAI's chat API."""

    role: str  # system | developer | user | assistant | tool
    content: str | None = None  # the text; of several text parts, joined by newlines
    parts: Json = None  # every content part as sent, when content came as a list: images, audio, files, text
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning: str | None = None


class Usage(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Tokens as the provider counted them; None where it did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class LogRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One LLM call: what was asked, what was answered, and where it came from."""

    log_id: str
    ts_ms: int
    messages: tuple[Message, ...]
    output: tuple[Message, ...] = ()  # one per choice; empty when the call failed
    project: str = PROJECT
    source: str = "tunemill"  # the wire format it came in as
    app: str | None = None
    model: str | None = None
    provider: str | None = None
    operation: str = "chat"
    tools: Json = None  # the tool definitions offered to the model, as sent
    params: Json = None  # request parameters: temperature, max_tokens, ...
    usage: Usage = Usage()
    cost_usd: float | None = None
    latency_ms: float | None = None
    finish_reason: str | None = None
    status: str = "ok"  # ok | error
    error: str | None = None  # the error's type or code; never the whole text
    response_id: str | None = None
    trace_id: str | None = None
    session_id: str | None = None  # the conversation
    user_id: str | None = None
    tags: tuple[str, ...] = ()  # the caller's own
    metadata: dict[str, str] = {}
    consent: str | None = None  # train | eval_only | none; None: the project's default holds
    extra: Json = None  # what the source sent and no field above holds


class Tag(msgspec.Struct, frozen=True, gc=False):
    """A `namespace:value` tag and who set it: `caller`, `rule@version`, `model@version` or `person:<name>`."""

    tag: str
    by: str


class Edit(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What a person put in place of a log's messages and answer."""

    messages: tuple[Message, ...]
    output: tuple[Message, ...] = ()


class Said(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What one feedback says, as far as logs are searched by it."""

    name: str
    score: float | None = None
    label: str | None = None
    corrected: bool = False  # it holds a better answer
    commented: bool = False


class TaggedLog(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A log that has been normalised, masked and tagged, and what people said of it; what the index is made from.

    `log` is what came: joining its parts, digests and rules go by it. Whatever people read goes by `shown`.
    """

    log: LogRecord
    content_digest: str  # SHA-256 of the masked record without its log_id: equal content, equal digest
    tags: tuple[Tag, ...] = ()
    tag_status: str = "ok"  # ok | failed
    language: str | None = None  # ISO 639-1 of what the user wrote
    removed: tuple[str, ...] = ()  # tags that a person took off: nothing but a person or the caller sets them again
    fingerprint: str | None = None  # a sketch of what was asked last and answered: near-duplicates share most of it
    revision: int = 0  # of people's edits: the last that is applied here
    edit: Edit | None = None
    consent: str | None = None  # a person's word: it goes before the log's own
    feedback: tuple[Said, ...] = ()  # the oldest first

    @property
    def shown(self) -> LogRecord:
        """The log with what people put in its place."""
        if self.edit is None and self.consent is None:
            return self.log
        said = self.edit or self.log
        consent = self.log.consent if self.consent is None else self.consent
        return msgspec.structs.replace(self.log, messages=said.messages, output=said.output, consent=consent)


class Feedback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What somebody thought of an answer, found by whichever of the three ids the sender knows."""

    feedback_id: str
    ts_ms: int
    name: str
    project: str = PROJECT
    log_id: str | None = None
    response_id: str | None = None
    trace_id: str | None = None
    score: float | None = None
    label: str | None = None
    correction: str | None = None  # a better answer
    comment: str | None = None
    by: str | None = None


class RejectedLog(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record that could not be processed: where it lay, at which stage it failed and why, and its bytes."""

    rejected_id: str
    ts_ms: int
    topic: str
    partition: int
    offset: int
    stage: str  # decode | mask | index
    error_code: str  # from a bounded list
    reason: str  # for a person; holds no log text
    payload: bytes  # empty when it was too large to keep
    payload_bytes: int
    attempts: int = 1
    project: str = PROJECT
    first_ts_ms: int | None = None  # when it was rejected for the first time, if it was tried again since
    redriven_ms: int | None = None  # set: no dead letter, but says that the one with this id was sent again


class DatasetReady(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dataset version was published. `recipe` names what to train on it; None: nothing is trained."""

    event_id: str
    ts_ms: int
    name: str
    version: int
    digest: str  # SHA-256 of the manifest
    manifest_url: str
    rows: int
    project: str = PROJECT
    recipe: Json = None
    priority: int = 0  # of the run that it starts: of those that wait, the highest is next
    sources_url: str = ""  # of what names where its rows came from; empty: nobody says


class DatasetRedacted(msgspec.Struct, frozen=True, kw_only=True):
    """A published version lost rows to an erasure and was replaced by a revision."""

    event_id: str
    ts_ms: int
    name: str
    version: int
    digest: str
    replaces_digest: str
    project: str = PROJECT


ENDED = ("succeeded", "rejected", "failed", "cancelled")  # the statuses of a run that is over


class RunStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A training run moved on."""

    event_id: str  # run_id:seq
    ts_ms: int
    run_id: str
    run_key: str
    status: str  # queued | preparing | running | evaluating | succeeded | rejected | failed | cancelled
    attempt: int
    name: str
    version: int
    digest: str
    project: str = PROJECT
    data: Json = None  # metrics or the error


class RunFinished(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A training run is over. A run that was resumed ends again, under another attempt."""

    event_id: str  # run_id:finished:attempt
    ts_ms: int
    run_id: str
    run_key: str
    status: str  # succeeded | rejected | failed | cancelled
    name: str
    version: int
    digest: str
    method: str  # empty: its recipe named none
    base: str  # likewise
    project: str = PROJECT
    artefact_url: str = ""  # empty: it made nothing
    manifest_sha256: str = ""  # of the artefact's manifest
    scores: Json = None  # before, after, retention, and what each gate said


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """A log must be forgotten, now and in every replay."""

    erasure_id: str
    ts_ms: int
    log_id: str
    project: str = PROJECT


class LogBatch(msgspec.Struct, frozen=True):
    """Many logs in one message: packing is what makes a stock Kafka consumer fast."""

    logs: tuple[LogRecord, ...]

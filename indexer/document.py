"""TaggedLog -> the document that both engines index. Pure; the id is the log's, so that a replay meets itself."""

import msgspec

from tunemill.indexer.dates import LATEST_MS
from tunemill.indexer.fields import LARGEST_WHOLE, PARTS
from tunemill.indexer.traits import feedback_values, mean_score, traits
from tunemill.schemas.outcome import Outcome, Written
from tunemill.schemas.records import LogRecord, Message, TaggedLog
from tunemill.schemas.sketch import band_terms

LONGEST_ID_BYTES = 512  # Elasticsearch's limit for _id
LONGEST_KEYWORD = 1024  # characters; a longer value is kept with the log but cannot be searched for


class Document(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What can be searched, by the field names of the query language, and the log itself in `record`."""

    id: str
    ts: int  # milliseconds since the epoch, within the years 1970 to 9999
    prompt: tuple[str, ...] = ()  # each text of this part; no phrase spans two of them
    response: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    tool: tuple[str, ...] = ()
    chars: int  # in all four
    tag: tuple[str, ...] = ()
    app: str | None = None
    model: str | None = None
    provider: str | None = None
    language: str | None = None
    status: str | None = None
    finish: str | None = None
    source: str | None = None
    consent: str | None = None
    session: str | None = None
    user: str | None = None
    trace: str | None = None
    response_id: str | None = None
    tagging: str | None = None
    feedback: tuple[str, ...] = ()
    has: tuple[str, ...] = ()
    near: tuple[str, ...] = ()  # runs of the fingerprint
    latency_ms: float | None = None
    cost_usd: float | None = None
    score: float | None = None  # the mean of the feedback's
    input_tokens: int | None = None
    output_tokens: int | None = None
    metadata: dict[str, str] = {}
    content_digest: str
    record: TaggedLog


def to_document(tagged: TaggedLog) -> Document:
    """What the index keeps of a log. A value that an engine could not index is left out of the search, never out of the record."""
    log = tagged.shown
    prompt, response, system, tool = _parts(log)
    said = tagged.feedback
    return Document(
        id=log.log_id,
        ts=min(max(log.ts_ms, 0), LATEST_MS),
        prompt=tuple(prompt),
        response=tuple(response),
        system=tuple(system),
        tool=tuple(tool),
        chars=sum(map(len, prompt)) + sum(map(len, response)) + sum(map(len, system)) + sum(map(len, tool)),
        tag=tuple([tag.tag for tag in tagged.tags if _keyword(tag.tag)]),
        app=_keyword(log.app),
        model=_keyword(log.model),
        provider=_keyword(log.provider),
        language=_keyword(tagged.language),
        status=_keyword(log.status),
        finish=_keyword(log.finish_reason),
        source=_keyword(log.source),
        consent=_keyword(log.consent),
        session=_keyword(log.session_id),
        user=_keyword(log.user_id),
        trace=_keyword(log.trace_id),
        response_id=_keyword(log.response_id),
        tagging=_keyword(tagged.tag_status),
        feedback=tuple([value for value in feedback_values(said) if _keyword(value)]) if said else (),
        has=traits(tagged, log),
        near=band_terms(tagged.fingerprint) if tagged.fingerprint else (),
        latency_ms=_number(log.latency_ms),
        cost_usd=_number(log.cost_usd),
        score=_number(mean_score(said)) if said else None,
        input_tokens=_whole(log.usage.input_tokens),
        output_tokens=_whole(log.usage.output_tokens),
        metadata={key: value for key, value in log.metadata.items() if _searchable(key, value)},
        content_digest=tagged.content_digest,
        record=tagged,
    )


def texts(tagged: TaggedLog) -> dict[str, tuple[str, ...]]:
    """What people and models wrote, by part and in order: what is found by words and highlighted."""
    return {part: tuple(found) for part, found in zip(PARTS, _parts(tagged.shown), strict=True)}


def refusal(tagged: TaggedLog) -> Written | None:
    """Why no engine could store this log; None if one can."""
    log_id = tagged.log.log_id
    if not log_id:
        return Written(log_id, Outcome.REJECTED, "bad_id", "log_id is empty")
    try:
        size = len(log_id.encode())
    except UnicodeEncodeError:
        return Written(log_id, Outcome.REJECTED, "bad_id", "log_id is not Unicode text")
    if size > LONGEST_ID_BYTES:
        return Written(log_id, Outcome.REJECTED, "bad_id", f"log_id has {size} bytes; {LONGEST_ID_BYTES} is the most")
    return None


def _parts(log: LogRecord) -> tuple[list[str], list[str], list[str], list[str]]:
    """Each text of the log in its part, in the order of PARTS: what was answered earlier is a response, too."""
    prompt: list[str] = []
    response: list[str] = []
    system: list[str] = []
    tool: list[str] = []
    own = {"system": system, "developer": system, "assistant": response, "tool": tool, "function": tool}
    for message in log.messages:
        if message.content:
            own.get(message.role, prompt).append(message.content)
        if message.refusal or message.reasoning or message.tool_calls:  # few have any
            _sort_in(message, response, tool)
    for message in log.output:
        if message.content:
            response.append(message.content)
        if message.refusal or message.reasoning or message.tool_calls:
            _sort_in(message, response, tool)
    return prompt, response, system, tool


def _sort_in(message: Message, response: list[str], tool: list[str]) -> None:
    """What a message says besides its content."""
    if message.refusal:
        response.append(message.refusal)
    if message.reasoning:
        response.append(message.reasoning)
    for call in message.tool_calls:
        tool += filter(None, (call.name, call.arguments))


def _keyword(value: str | None) -> str | None:
    return value if value is not None and len(value) <= LONGEST_KEYWORD else None


def _searchable(key: str, value: str) -> bool:
    return len(key) > 0 and len(key) + len(value) <= LONGEST_KEYWORD and "\0" not in key + value


def _number(value: float | None) -> float | None:
    """The number, if it is finite; plus 0.0, for there are two zeros, and Elasticsearch tells them apart."""
    return value + 0.0 if value is not None and abs(value) <= LARGEST_WHOLE else None


def _whole(value: int | None) -> int | None:
    return value if value is not None and abs(value) <= LARGEST_WHOLE else None

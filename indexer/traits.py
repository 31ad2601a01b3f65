"""What a log has besides its text, in the values of `has:` and `feedback:`. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from tunemill.schemas.records import Json, LogRecord, Message, Said, TaggedLog

_KINDS = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "input_audio": "audio",
    "audio": "audio",
    "file": "file",
    "input_file": "file",
    "document": "file",
}  # of a content part, by its type


def traits(tagged: TaggedLog, shown: LogRecord) -> tuple[str, ...]:
    """The values of `has:` that are true of the log, each once; see `fields.HAS`."""
    found: set[str] = set()
    for message in shown.output:
        if message.content:
            found.add("answer")
    for message in shown.messages + shown.output:
        if message.tool_calls or message.reasoning or message.refusal or message.parts:  # few have any
            found.update(_said_in(message))
    if shown.tools:
        found.add("tools")
    if shown.status == "error":
        found.add("error")
    if tagged.edit is not None:
        found.add("edit")
    if tagged.feedback:
        found.update(_said_of(tagged.feedback))
    return tuple(sorted(found))


def feedback_values(said: Iterable[Said]) -> tuple[str, ...]:
    """What each feedback says: `name:label`, `name:score`, both, or the name alone."""
    return tuple(dict.fromkeys(value for item in said for value in _values(item)))


def mean_score(said: Iterable[Said]) -> float | None:
    """The mean of the scores that were given; None without any."""
    scores = [item.score for item in said if item.score is not None]
    return sum(scores) / len(scores) if scores else None


def _said_in(message: Message) -> Iterator[str]:
    if message.tool_calls:
        yield "tool-call"
    if message.reasoning:
        yield "reasoning"
    if message.refusal:
        yield "refusal"
    yield from _media(message.parts)


def _media(parts: Json) -> Iterator[str]:
    """The kinds of the content parts that are no text."""
    for part in parts if isinstance(parts, list | tuple) else ():
        kind = _KINDS.get(str(part.get("type"))) if isinstance(part, dict) else None
        if kind is not None:
            yield kind


def _said_of(feedback: Sequence[Said]) -> Iterator[str]:
    yield "feedback"
    if any(item.corrected for item in feedback):
        yield "correction"
    if any(item.commented for item in feedback):
        yield "comment"


def _values(said: Said) -> Iterator[str]:
    if said.label is not None:
        yield f"{said.name}:{said.label}"
    if said.score is not None:
        yield f"{said.name}:{said.score:g}"
    if said.label is None and said.score is None:
        yield said.name

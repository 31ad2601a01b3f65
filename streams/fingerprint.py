"""A sketch of what was asked last and answered, by which logs that say nearly the same are known from one another. Pure."""

from collections.abc import Sequence

from tunemill.schemas.records import LogRecord
from tunemill.schemas.sketching import sketches


def fingerprints(logs: Sequence[LogRecord]) -> list[str | None]:
    """Each log's sketch as hexadecimal text; None where there is too little text. Case and white space do not count."""
    found, has = sketches(map(_text, logs))
    return [sketch.tobytes().hex() if some else None for sketch, some in zip(found, has, strict=True)]


def _text(log: LogRecord) -> str:
    """What the user said last, and what was answered."""
    said: list[str] = []
    for message in reversed(log.messages):
        if message.role == "user":
            said += [message.content] if message.content else []
            break
    for message in log.output:
        if message.content:
            said.append(message.content)
        for call in message.tool_calls:
            said += call.name, call.arguments
    return "\n".join(said)

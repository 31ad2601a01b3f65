"""Messages that a person puts in place of a log's own: what they must be, and what they may not bring in. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from tunemill.curator_api.errors import InvalidEdit, InvalidRow, TooLarge
from tunemill.curator_api.openai_chat import ROLES
from tunemill.curator_api.private import private_in, refuse_private
from tunemill.curator_api.rows import RowMessage
from tunemill.schemas.records import Edit, LogRecord, Message
from tunemill.schemas.topics import LOGS

MAX_LOG_BYTES = LOGS.max_message_bytes  # of a log's JSON, as of one that comes

_TEXTS = ("text", "input_text", "output_text")


def checked_edit(came: LogRecord, shown: LogRecord, edit: Edit, *, let_in: AbstractSet[str]) -> Edit:
    """The edit, of which each message that is new to the log says something and brings in neither secrets nor private data.

    Args:
        came: the log as it came.
        shown: the log as it is with what was edited before.
        let_in: the kinds of private data that anybody may bring in.

    Raises:
        InvalidEdit: names the message and what is wrong with it, never its text.
        TooLarge: no log may have that much.
    """
    if not edit.messages and not edit.output:
        raise InvalidEdit("a log needs at least one message or an answer")
    if shown.messages and not edit.messages:
        raise InvalidEdit("messages: an answer needs at least one message before it; to let them stay, leave them out")
    known = (*came.messages, *came.output, *shown.messages, *shown.output)
    edit = Edit(messages=_in_step(edit.messages, known), output=_in_step(edit.output, known))
    places = {"messages": edit.messages, "output": edit.output}
    fresh = {f"{name}[{at}]": one for name, said in places.items() for at, one in enumerate(said) if one not in known}
    for place, message in fresh.items():
        _refuse_fault(place, message)
    size = len(msgspec.json.encode(msgspec.structs.replace(came, messages=edit.messages, output=edit.output)))
    if size > MAX_LOG_BYTES:
        reason = f"with these messages the log would have {size} bytes; {MAX_LOG_BYTES} is the most"
        raise TooLarge(reason, limit=MAX_LOG_BYTES)
    _refuse_private(fresh, known, let_in)
    return edit


def _in_step(messages: Iterable[Message], known: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(message if message in known else _with_parts_in_step(message) for message in messages)


def _with_parts_in_step(message: Message) -> Message:
    """The message without the texts among its parts where its content says something else: what was taken out is out."""
    if not isinstance(message.parts, list):
        return message
    texts = [text for part in message.parts if (text := _text(part)) is not None]
    joined = "\n".join(texts) if texts else None
    if message.content is None:
        return msgspec.structs.replace(message, content=joined)
    if message.content == joined:
        return message
    rest = [part for part in message.parts if _text(part) is None]
    return msgspec.structs.replace(message, parts=rest or None)


def _text(part: Any) -> str | None:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type") in _TEXTS else None
    return text if isinstance(text, str) else None


def _refuse_fault(place: str, message: Message) -> None:
    if message.role not in ROLES:
        raise InvalidEdit(f"the role of {place} must be one of {', '.join(ROLES)}")
    if place.startswith("output") and message.role != "assistant":
        raise InvalidEdit(f"{place} is an answer: its role must be assistant")
    said = (message.content or "").strip() or message.tool_calls or message.refusal or message.parts
    if not said and not (message.role == "tool" and message.content is not None):  # a tool may answer with nothing
        raise InvalidEdit(f"{place} says nothing: give it content, tool_calls or a refusal")


def _refuse_private(fresh: Mapping[str, Message], known: Sequence[Message], let_in: AbstractSet[str]) -> None:
    held = {
        kind for kind in private_in([_as_row(message, ()) for message in known]) | let_in if kind.startswith("pii:")
    }
    parts = [message.parts for message in known]
    for place, message in fresh.items():
        try:
            refuse_private([_as_row(message, parts)], known=held, place=place)
        except InvalidRow as error:
            raise InvalidEdit(error.detail) from None


def _as_row(message: Message, known_parts: Sequence[object]) -> RowMessage:
    """All that a message says, where a row's message has it."""
    parts = () if message.parts in known_parts else _strings(message.parts)
    texts = filter(None, (message.content, message.refusal, message.reasoning, *parts))
    return RowMessage(
        role=message.role,
        content="\n".join(texts),
        tool_calls=message.tool_calls,
        tool_call_id=message.tool_call_id,
        name=message.name,
    )


def _strings(value: object) -> Iterable[str]:
    """Every text in a value of JSON but the bytes of files."""
    if isinstance(value, str):
        if not value.startswith("data:"):
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)

"""Secrets and private data in what people bring in, and out of what goes into a version of a dataset. Pure."""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from tunemill.curator_api.errors import InvalidRow
from tunemill.curator_api.rows import Row, RowMessage
from tunemill.privacy.pii import KINDS, PrivateData, Pseudonyms, kinds_in, may_hold, without_private
from tunemill.privacy.secrets import without_secrets
from tunemill.schemas.records import ToolCall

_EVERY_KIND = frozenset(f"pii:{kind}" for kind in KINDS)


def let_in(policy: PrivateData) -> frozenset[str]:
    """What people may bring in: where private data is replaced nowhere, all kinds of it."""
    return _EVERY_KIND if policy == "never" else frozenset()


def private_in(messages: Sequence[RowMessage], tools: str | None = None) -> frozenset[str]:
    """What these messages hold, by the names of the stream's tags: `pii:email`, `secret:api-key`."""
    return frozenset().union(*(_kinds(text) for _, text in _places(messages, tools)))


def refuse_private(
    messages: Sequence[RowMessage],
    tools: str | None = None,
    *,
    known: AbstractSet[str] = frozenset(),
    place: str | None = None,
) -> None:
    """Return if the messages hold no secrets, and no private data of a kind that is not known.

    Args:
        known: what the row's log holds itself; there its tags decide, and a person who has looked can remove them.
        place: where the one message stands, if it is not the first of `messages`.

    Raises:
        InvalidRow: they do; names the place and the kinds, never the text.
    """
    for where, text in _places(messages, tools):
        if found := sorted(_kinds(text) - known):
            raise InvalidRow(
                f"{place or where} holds what looks like {', '.join(found)}: take it out, or put a placeholder there"
            )


def without_private_data(row: Row, kinds: AbstractSet[str], *, pseudonyms: Pseudonyms | None = None) -> Row:
    """The row with private data of these kinds replaced by `[PII:kind]`.

    Args:
        pseudonyms: what numbers the values of each kind, so that the row still says which of them are the same.
    """
    if not may_hold("\n".join(_texts(row))):  # one look at all of it, which most rows pass
        return row
    found: set[str] = set()

    def clean(text: str | None) -> str | None:
        if not text:
            return text
        masked, seen = without_private(text, kinds, pseudonyms=pseudonyms)
        found.update(seen)
        return masked

    messages = tuple(_changed(message, clean) for message in row.messages)
    rejected = tuple(_changed(message, clean) for message in row.rejected)
    tools = clean(row.tools)
    if not found:
        return row
    return msgspec.structs.replace(
        row, messages=messages, rejected=rejected, tools=tools, masked=tuple(sorted({*row.masked, *found}))
    )


def holds_private(row: Row) -> bool:
    """Whether there is a placeholder of private data in the row."""
    return any("[PII:" in text for text in _texts(row))


def _texts(row: Row) -> list[str]:
    texts = [row.tools] if row.tools else []
    for message in (*row.messages, *row.rejected):
        if message.content:
            texts.append(message.content)
        if message.tool_call_id:
            texts.append(message.tool_call_id)
        if message.name:
            texts.append(message.name)
        for call in message.tool_calls:
            texts += (call.id or "", call.name, call.arguments)
    return texts


def _changed(message: RowMessage, change: Callable[[str | None], Any]) -> RowMessage:
    calls = tuple(
        ToolCall(name=change(call.name), arguments=change(call.arguments), id=change(call.id))
        for call in message.tool_calls
    )
    return msgspec.structs.replace(
        message,
        content=change(message.content),
        tool_call_id=change(message.tool_call_id),
        name=change(message.name),
        tool_calls=calls,
    )


def _places(messages: Sequence[RowMessage], tools: str | None) -> Iterable[tuple[str, str]]:
    yield from ((f"messages[{number}]", "\n".join(_strings(message))) for number, message in enumerate(messages))
    yield "tools", tools or ""


def _strings(message: RowMessage) -> Iterable[str]:
    yield from (text for text in (message.content, message.tool_call_id, message.name) if text)
    for call in message.tool_calls:
        yield from (text for text in (call.id, call.name, call.arguments) if text)


def _kinds(text: str) -> frozenset[str]:
    _, secrets = without_secrets(text)
    return frozenset({*(f"secret:{kind}" for kind in secrets), *(f"pii:{kind}" for kind in kinds_in(text))})

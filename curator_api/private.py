"""Secrets and private data in what people bring into a draft: no stream has masked or tagged it. Pure."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from tunemill.curator_api.errors import InvalidRow
from tunemill.curator_api.rows import RowMessage
from tunemill.privacy.pii import kinds_in
from tunemill.privacy.secrets import without_secrets


def private_in(messages: Sequence[RowMessage], tools: str | None = None) -> frozenset[str]:
    """What these messages hold, by the names of the stream's tags: `pii:email`, `secret:api-key`."""
    return frozenset().union(*(_kinds(text) for _, text in _places(messages, tools)))


def refuse_private(
    messages: Sequence[RowMessage], tools: str | None = None, *, known: AbstractSet[str] = frozenset()
) -> None:
    """Return if the messages hold no secrets, and no private data of a kind that is not known.

    Args:
        known: what the row's log holds itself; there its tags decide, and a person who has looked can remove them.

    Raises:
        InvalidRow: they do; names the place and the kinds, never the text.
    """
    for place, text in _places(messages, tools):
        if found := sorted(_kinds(text) - known):
            raise InvalidRow(
                f"{place} holds what looks like {', '.join(found)}: take it out, or put a placeholder there"
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

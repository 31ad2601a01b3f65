"""The text of a log by who wrote it: what rules look at. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from tunemill.schemas.records import LogRecord, Message

_ASKED_BY = {"system": "system", "developer": "system", "user": "user"}


@dataclass(frozen=True, slots=True)
class Texts:
    """`system`, `user`, `assistant` (the answers) and `rest` (earlier answers, tools' results and arguments)."""

    parts: dict[str, str]

    @property
    def user(self) -> str:
        """All that the user wrote."""
        return self.parts["user"]


def texts_of(log: LogRecord) -> Texts:
    """The log's text in four parts that do not overlap."""
    pieces: dict[str, list[str]] = {"system": [], "user": [], "assistant": [], "rest": []}
    for message in log.messages:
        pieces[_ASKED_BY.get(message.role, "rest")].extend(_written(message))
    for message in log.output:
        pieces["assistant"].extend(_written(message))
    pieces["rest"].extend(_arguments((*log.messages, *log.output)))
    return Texts({name: "\n".join(texts) for name, texts in pieces.items()})


def _written(message: Message) -> Iterable[str]:
    return (text for text in (message.content, message.refusal) if text)


def _arguments(messages: Iterable[Message]) -> Iterable[str]:
    return (call.arguments for message in messages for call in message.tool_calls)

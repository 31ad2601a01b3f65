"""The text of a log by who wrote it: what rules look at. Pure."""

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
    arguments: list[str] = []
    for message in log.messages:
        _sort_in(message, pieces[_ASKED_BY.get(message.role, "rest")], arguments)
    for message in log.output:
        _sort_in(message, pieces["assistant"], arguments)
    pieces["rest"] += arguments
    return Texts({name: "\n".join(texts) for name, texts in pieces.items()})


def _sort_in(message: Message, texts: list[str], arguments: list[str]) -> None:
    if message.content:
        texts.append(message.content)
    if message.refusal:
        texts.append(message.refusal)
    if message.tool_calls:
        arguments += [call.arguments for call in message.tool_calls if call.arguments]

"""The text of a log by who wrote it: what rules look at. Pure."""

from dataclasses import dataclass

from tunemill.schemas.records import LogRecord

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
    pieces: dict[str, list[str | None]] = {"system": [], "user": [], "assistant": [], "rest": []}
    for message in log.messages:
        pieces[_ASKED_BY.get(message.role, "rest")] += message.content, message.refusal
    for message in log.output:
        pieces["assistant"] += message.content, message.refusal
    for message in (*log.messages, *log.output):
        pieces["rest"] += [call.arguments for call in message.tool_calls]
    return Texts({name: "\n".join(filter(None, texts)) for name, texts in pieces.items()})

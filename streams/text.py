"""The text of a log by who wrote it: what rules look at. Pure."""

import msgspec

from tunemill.schemas.records import LogRecord, Message

_ASKED_BY = {"system": "system", "developer": "system", "user": "user"}


class Texts(msgspec.Struct, frozen=True, gc=False):
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
        texts = pieces[_ASKED_BY.get(message.role, "rest")]
        if message.content:
            texts.append(message.content)
        if message.refusal or message.tool_calls:  # seldom: what would be a call for each message is one for these
            _sort_in_seldom(message, texts, arguments)
    answers = pieces["assistant"]
    for message in log.output:
        if message.content:
            answers.append(message.content)
        if message.refusal or message.tool_calls:
            _sort_in_seldom(message, answers, arguments)
    pieces["rest"] += arguments
    return Texts({name: "\n".join(texts) for name, texts in pieces.items()})


def _sort_in_seldom(message: Message, texts: list[str], arguments: list[str]) -> None:
    if message.refusal:
        texts.append(message.refusal)
    arguments += [call.arguments for call in message.tool_calls if call.arguments]

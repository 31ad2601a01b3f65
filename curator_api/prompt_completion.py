"""Rows as a prompt and its completion, each a text or a list of messages: what TRL and older fine-tuning take. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tunemill.curator_api.openai_chat import message_values, messages_in, row_of
from tunemill.curator_api.rows import Row, RowMessage
from tunemill.curator_api.written import Written

NAME = "prompt_completion"
MEMBERS = frozenset({"prompt", "completion", "tools"})
LOSES: Mapping[str, str] = {"rejected": "the worse answer of a pair"}


def to_value(row: Row) -> Written:
    """A row as a line's object: everything before the answer is its prompt."""
    value: dict[str, object] = {
        "prompt": message_values(row.messages[:-1]),
        "completion": message_values(row.messages[-1:]),
    }
    if row.tools is not None:
        value["tools"] = msgspec.Raw(row.tools.encode())
    return Written(value, ("rejected",) if row.rejected else ())


def from_value(value: Mapping[str, Any]) -> Row:
    """The row in a line's object.

    Raises:
        InvalidRow: there is none; says what is wrong and names the message.
    """
    asked = text_or_messages(value.get("prompt"), "user", "prompt")
    answered = text_or_messages(value.get("completion"), "assistant", "completion")
    return row_of((*asked, *answered), value.get("tools"))


def text_or_messages(value: Any, role: str, where: str) -> tuple[RowMessage, ...]:
    """A text as a message of this role; or the messages that are there.

    Raises:
        InvalidRow: it is neither.
    """
    return (RowMessage(role=role, content=value),) if isinstance(value, str) else messages_in(value, where)

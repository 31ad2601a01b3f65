"""Rows as a prompt with a chosen and a rejected answer, the form that TRL's preference trainers take; the prompt may also be
how both answers begin, as messages or as a dialogue in text (`\\n\\nHuman: ...\\n\\nAssistant: ...`). Pure."""

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import msgspec

from tunemill.curator_api.errors import InvalidRow
from tunemill.curator_api.openai_chat import message_values, messages_in, pair_of
from tunemill.curator_api.prompt_completion import text_or_messages
from tunemill.curator_api.rows import Row, RowMessage
from tunemill.curator_api.written import Written

NAME = "preference"
MEMBERS = frozenset({"prompt", "chosen", "rejected", "tools"})
LOSES: Mapping[str, str] = {"no_rejected": "left out: a row without a worse answer"}

_SPEAKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}

Messages = Sequence[RowMessage]


def to_value(row: Row) -> Written:
    """A row as a line's object."""
    if not row.rejected:
        return Written(None, ("no_rejected",))
    value: dict[str, object] = {
        "prompt": message_values(row.messages[:-1]),
        "chosen": message_values(row.messages[-1:]),
        "rejected": message_values(row.rejected),
    }
    if row.tools is not None:
        value["tools"] = msgspec.Raw(row.tools.encode())
    return Written(value)


def from_value(value: Mapping[str, Any]) -> Row:
    """The row in a line's object.

    Raises:
        InvalidRow: there is none; says what is wrong and names the message.
    """
    prompt = _prompt(value.get("prompt"))
    if isinstance(value.get("chosen"), str) and isinstance(value.get("rejected"), str):
        better, worse = (_said(value[name], has_prompt=bool(prompt)) for name in ("chosen", "rejected"))
    else:
        better, worse = (messages_in(value.get(name), name) for name in ("chosen", "rejected"))
    if not prompt or len(better) > 1:
        prompt, better, worse = _without_beginning(prompt, better, worse)
    return pair_of(prompt, better, worse, value.get("tools"))


def _prompt(value: Any) -> Messages:
    if value is None or value == "":
        return ()
    if isinstance(value, str) and _SPEAKER.match(value):
        return _dialogue(value)
    return text_or_messages(value, "user", "prompt")


def _said(text: str, *, has_prompt: bool) -> Messages:
    if _SPEAKER.match(text):
        return _dialogue(text)
    if not has_prompt:
        raise InvalidRow("there is no `prompt`, and the texts are no dialogue of `Human:` and `Assistant:`")
    return (RowMessage(role="assistant", content=text),)


def _dialogue(text: str) -> Messages:
    """The turns of a dialogue; an `Assistant:` at its end that says nothing only asks for the answer."""
    _, *pieces = _SPEAKER.split(text)
    turns = [
        RowMessage(role=_ROLES[speaker], content=said.strip())
        for speaker, said in zip(pieces[::2], pieces[1::2], strict=True)
    ]
    return turns[:-1] if turns[-1].role == "assistant" and not turns[-1].content else turns


def _without_beginning(prompt: Messages, better: Messages, worse: Messages) -> tuple[Messages, Messages, Messages]:
    """The prompt that both answers repeat, and what is left of them.

    Raises:
        InvalidRow: they begin otherwise than the prompt says, or have no beginning in common.
    """
    pairs = zip(better[:-1], worse[:-1], strict=False)
    begin = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
    if not begin:
        raise InvalidRow("there is no prompt: no `prompt`, or `chosen` and `rejected` do not begin alike")
    if prompt and tuple(begin[-len(prompt) :]) != tuple(prompt):
        raise InvalidRow("`chosen` and `rejected` begin otherwise than `prompt` says")
    return begin, better[len(begin) :], worse[len(begin) :]

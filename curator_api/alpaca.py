"""Rows as Alpaca writes instructions: `{"instruction", "input", "output", "system", "history"}`, and for pairs of answers
`chosen` and `rejected` in place of `output`. Text alone. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from tunemill.curator_api.errors import InvalidRow
from tunemill.curator_api.openai_chat import pair_of, row_of
from tunemill.curator_api.rows import Row, RowMessage
from tunemill.curator_api.written import Written

NAME = "alpaca"
MEMBERS = frozenset({"instruction", "input", "output", "system", "history", "chosen", "rejected"})
LOSES: Mapping[str, str] = {
    "developer_role": "a developer's message becomes a system's",
    "names": "who a message is from, beyond its role",
    "call_ids": "the id of a tool's call, on a message that is no answer to one",
    "tools": "left out: tools or calls of tools",
    "several_systems": "left out: more than one system or developer message",
    "turns_not_in_pairs": "left out: a conversation that is not question, answer, question, answer",
    "several_messages": "left out: the worse answer is several messages",
}


def to_value(row: Row) -> Written:
    """A row as a line's object."""
    everything = (*row.messages, *row.rejected)
    if row.tools is not None or any(message.tool_calls or message.role == "tool" for message in everything):
        return Written(None, ("tools",))
    systems = [message for message in row.messages if message.role in ("system", "developer")]
    if len(systems) > 1:
        return Written(None, ("several_systems",))
    turns = row.messages[len(systems) :]
    if [message.role for message in turns] != ["user", "assistant"] * (len(turns) // 2):
        return Written(None, ("turns_not_in_pairs",))
    if len(row.rejected) > 1:
        return Written(None, ("several_messages",))
    value: dict[str, object] = {"instruction": turns[-2].content, "input": ""}
    if row.rejected:
        value |= {"chosen": turns[-1].content, "rejected": row.rejected[0].content}
    else:
        value["output"] = turns[-1].content
    if systems:
        value["system"] = systems[0].content
    if len(turns) > 2:
        value["history"] = [[turns[at].content, turns[at + 1].content] for at in range(0, len(turns) - 2, 2)]
    told = {
        "developer_role": any(message.role == "developer" for message in systems),
        "names": any(message.name is not None for message in everything),
        "call_ids": any(message.tool_call_id is not None for message in everything),
    }
    return Written(value, tuple(name for name, holds in told.items() if holds))


def from_value(value: Mapping[str, Any]) -> Row:
    """The row in a line's object; an instruction and its input are joined by a line end.

    Raises:
        InvalidRow: there is none; says what is wrong and names the member.
    """
    asked = "\n".join(text for name in ("instruction", "input") if (text := _text(value, name)))
    messages = [*_system(value), *_history(value.get("history")), RowMessage(role="user", content=asked)]
    if value.get("chosen") is None:
        return row_of((*messages, _answer(value, "output")), None)
    return pair_of(messages, [_answer(value, "chosen")], [_answer(value, "rejected")], None)


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    if found is not None and not isinstance(found, str):
        raise InvalidRow(f"`{name}` must be text")
    return found or ""


def _system(value: Mapping[str, Any]) -> Sequence[RowMessage]:
    said = _text(value, "system")
    return [RowMessage(role="system", content=said)] if said else []


def _history(value: Any) -> Sequence[RowMessage]:
    rounds = [] if value is None else value
    if not isinstance(rounds, list) or not all(_is_round(one) for one in rounds):
        raise InvalidRow("`history` must be a list of pairs of texts, a question and its answer")
    return [
        RowMessage(role=role, content=text)
        for one in rounds
        for role, text in zip(("user", "assistant"), one, strict=True)
    ]


def _is_round(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) for text in value)


def _answer(value: Mapping[str, Any], name: str) -> RowMessage:
    return RowMessage(role="assistant", content=_text(value, name))

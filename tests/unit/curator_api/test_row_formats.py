"""Every format: a row comes back as it was, or what is lost of it is named; other people's rows are read in their own shapes."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.curator_api.column_names import names_of
from tunemill.curator_api.errors import InvalidRow, Unprocessable
from tunemill.curator_api.openai_chat import row_of
from tunemill.curator_api.row_formats import FORMATS, KNOWN_MEMBERS, read_line, read_value, shape_of
from tunemill.curator_api.rows import Row, RowMessage
from tunemill.schemas.records import ToolCall

words = st.text(min_size=1).filter(lambda text: text.strip() != "")
maybe = st.none() | words
arguments = st.sampled_from(['{"a":1}', '{"a": 1}', '{"b":[],"a":{}}', "{}", "broken {", '"text"', "[1]", ""])
calls = st.lists(st.builds(ToolCall, name=words, arguments=arguments, id=maybe), min_size=1, max_size=2).map(tuple)
asked = st.builds(RowMessage, role=st.just("user"), content=words, name=maybe)
answered = st.builds(RowMessage, role=st.just("assistant"), content=words, name=maybe)
called = st.builds(RowMessage, role=st.just("assistant"), content=st.none() | st.text(), tool_calls=calls)
told = st.builds(RowMessage, role=st.just("tool"), content=st.text(), tool_call_id=maybe)
begun = st.builds(RowMessage, role=st.sampled_from(["system", "developer"]), content=words)
rounds = st.one_of(
    st.tuples(asked, answered),
    st.tuples(asked, called, told, answered),
    st.tuples(asked, asked, answered),
)
definitions = st.none() | st.just([{"type": "function", "function": {"name": "add"}}])


@st.composite
def rows(draw: st.DrawFn) -> Row:
    turns = [turn for one in draw(st.lists(rounds, min_size=1, max_size=3)) for turn in one]
    messages = (*draw(st.lists(begun, max_size=2)), *turns[:-1], draw(st.one_of(answered, called)))
    worse = draw(st.sampled_from([(), (answered,), (answered, asked, answered), (called, told, answered)]))
    rejected = tuple(draw(part) for part in worse)
    plain = draw(st.frozensets(st.sampled_from(["names", "call_ids", "answer_ids", "developers", "spelling"])))
    messages, rejected = (tuple(without(message, plain) for message in some) for some in (messages, rejected))
    return row_of(messages, draw(definitions), rejected if rejected != messages[-1:] else ())


def without(message: RowMessage, plain: frozenset[str]) -> RowMessage:
    """The message less what a format may lose, so that each loss also comes alone."""
    changed: dict[str, Any] = {}
    if "names" in plain:
        changed["name"] = None
    if "answer_ids" in plain:
        changed["tool_call_id"] = None
    if "developers" in plain and message.role == "developer":
        changed["role"] = "system"
    calls = [
        msgspec.structs.replace(
            call,
            id=None if "call_ids" in plain else call.id,
            arguments="{}" if "spelling" in plain else call.arguments,
        )
        for call in message.tool_calls
    ]
    return msgspec.structs.replace(message, tool_calls=tuple(calls), **changed)


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None)
@given(row=rows())
def test_a_row_comes_back_or_what_is_lost_is_named(name: str, row: Row) -> None:
    made = FORMATS[name]
    value, lost = made.to_value(row)
    assert set(lost) <= set(made.LOSES)
    if value is None:
        assert len(lost) == 1 and made.LOSES[lost[0]].startswith("left out: ")
        return
    again = read_line(msgspec.json.encode(value))
    assert (again.format, again.unread) == (name, frozenset())
    assert (again.row == row) == (not lost), "what is not lost comes back, and what is said to be lost is"


USER, SYSTEM = RowMessage(role="user", content="q"), RowMessage(role="system", content="s")
GOOD, BAD = RowMessage(role="assistant", content="good"), RowMessage(role="assistant", content="bad")
SHAPES: list[tuple[str, dict[str, Any], tuple[RowMessage, ...], tuple[RowMessage, ...]]] = [
    ("alpaca", {"instruction": "q", "input": "", "output": "good"}, (USER, GOOD), ()),
    ("alpaca", {"instruction": "", "input": "q", "output": "good", "history": []}, (USER, GOOD), ()),
    (
        "alpaca",
        {"instruction": "q", "input": "i", "output": "good"},
        (RowMessage(role="user", content="q\ni"), GOOD),
        (),
    ),
    ("alpaca", {"instruction": "q", "input": None, "chosen": "good", "rejected": "bad"}, (USER, GOOD), (BAD,)),
    (
        "alpaca",
        {"instruction": "q", "output": "good", "system": "s", "history": [["q", "bad"]]},
        (SYSTEM, USER, BAD, USER, GOOD),
        (),
    ),
    (
        "sharegpt",
        {"system": "s", "conversations": [{"from": "user", "value": "q"}, {"from": "assistant", "value": "good"}]},
        (SYSTEM, USER, GOOD),
        (),
    ),
    (
        "sharegpt",
        {
            "conversations": [{"from": "human", "value": "q"}],
            "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
        (USER, GOOD),
        (BAD,),
    ),
    ("prompt_completion", {"prompt": "q", "completion": "good"}, (USER, GOOD), ()),
    ("preference", {"prompt": "q", "chosen": "good", "rejected": "bad"}, (USER, GOOD), (BAD,)),
    (
        "preference",
        {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
        (USER, GOOD),
        (BAD,),
    ),
    (
        "preference",
        {"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": "good", "rejected": "bad"},
        (USER, GOOD),
        (BAD,),
    ),
    (
        "preference",
        {
            "prompt": "q",
            "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
            "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}],
        },
        (USER, GOOD),
        (BAD,),
    ),
    (
        "preference",
        {
            "messages": None,
            "chosen": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "good"},
            ],
            "rejected": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "bad"},
            ],
        },
        (SYSTEM, USER, GOOD),
        (BAD,),
    ),
]


@pytest.mark.parametrize(("name", "value", "messages", "rejected"), SHAPES)
def test_other_peoples_rows_are_read_in_their_own_shapes(
    name: str, value: dict[str, Any], messages: tuple[RowMessage, ...], rejected: tuple[RowMessage, ...]
) -> None:
    read = read_value(value)
    assert (read.format, read.row.messages, read.row.rejected) == (name, messages, rejected)


def test_the_id_of_a_call_beside_a_question_is_named_where_it_is_lost() -> None:
    row = row_of((RowMessage(role="user", content="q", tool_call_id="c"), GOOD), None)
    assert FORMATS["alpaca"].to_value(row).lost == ("call_ids",)


def test_members_that_no_row_has_a_place_for_are_named() -> None:
    turns = [{"role": "user", "content": "q", "refusal": None}, {"role": "assistant", "content": "a", "score": 1}]
    value = {"messages": turns, "prompt_id": "p", "category": None, "row_id": "r", "x" * 99: 1}
    assert read_value(value).unread == {"prompt_id", "messages[].score", "x" * 64}


def test_two_rows_that_differ_in_the_worse_answer_have_two_keys() -> None:
    pairs = [{"prompt": "q", "chosen": "a", "rejected": worse} for worse in "bc"]
    one, other = (read_value(value).row for value in pairs)
    assert one.row_key != other.row_key
    assert one.row_key == read_value(pairs[0]).row.row_key


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "the same"),
        ({"chosen": "a", "rejected": "b"}, "no `prompt`"),
        ({"chosen": [{"role": "user", "content": "q"}], "rejected": [{"role": "user", "content": "p"}]}, "no prompt"),
        ({"prompt": "q", "chosen": [], "rejected": []}, "`chosen` must be a list"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "`prompt` must be a list"),
        (
            {
                "prompt": "other",
                "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
                "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}],
            },
            "otherwise than `prompt` says",
        ),
        ({"prompt": "q", "chosen": "a", "rejected": " "}, "with the worse answer"),
        ({"conversations": [{"from": "bot", "value": "q"}]}, "conversations[0].from"),
        ({"conversations": [{"from": ["human"], "value": "q"}]}, "conversations[0].from"),
        ({"conversations": [{"from": "human", "value": 3}]}, "conversations[0].value"),
        ({"conversations": [{"from": "function_call", "value": "{"}]}, "call as JSON"),
        ({"conversations": [{"from": "function_call", "value": "{}"}]}, "name a function"),
        ({"conversations": {}}, "`conversations` must be a list"),
        ({"instruction": "q", "output": 3}, "`output` must be text"),
        ({"instruction": "q", "output": "a", "history": [["x"]]}, "`history`"),
        ({"instruction": "q", "output": ""}, "say something"),
        ({"prompt": "q", "completion": {}}, "`completion` must be a list"),
        ({"input": [], "preferred_output": [{}], "non_preferred_output": [{}]}, "`input` must be an object"),
    ],
)
def test_a_value_that_cannot_be_kept_says_why(bad: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRow) as raised:
        read_value(bad)
    assert reason in raised.value.detail


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"instruction": "sum", "context": "1 2", "response": "3", "category": "qa"}, ["sum\n1 2", "3"]),
        ({"instruction": "sum", "context": "", "response": "3"}, ["sum", "3"]),
        ({"question": "1+2?", "answer": "#### 3"}, ["1+2?", "#### 3"]),
        ({"query": "1+2?", "response": "3", "original_question": "2+1?"}, ["1+2?", "3"]),
        ({"id": "x", "system_prompt": "be brief", "question": "1+2?", "response": "3"}, ["be brief", "1+2?", "3"]),
        ({"problem": "1+2?", "solution": "3"}, ["1+2?", "3"]),
    ],
)
def test_public_sets_are_read_by_the_names_that_they_use(value: dict[str, Any], said: list[str]) -> None:
    read = read_value(value)
    assert [message.content for message in read.row.messages] == said
    assert read.unread == value.keys() & {"category", "original_question", "id"}


def test_a_person_says_what_members_are_called() -> None:
    value = {"q": "1+2?", "a": "3", "completion": None}
    names = names_of("q=prompt, a=completion", KNOWN_MEMBERS)
    assert [message.content for message in read_value(value, names).row.messages] == ["1+2?", "3"]
    swapped = {"prompt": "3", "completion": "1+2?"}
    names = names_of("prompt=completion,completion=prompt", KNOWN_MEMBERS)
    assert [message.content for message in read_value(swapped, names).row.messages] == ["1+2?", "3"]
    with pytest.raises(InvalidRow, match="`prompt` is there already"):
        read_value({"q": "x", "prompt": "y", "a": "z"}, names_of("q=prompt,a=completion", KNOWN_MEMBERS))
    with pytest.raises(InvalidRow, match="`answer` is read as `completion`"):
        read_value({"question": "x", "answer": {"text": ["y"]}})


@pytest.mark.parametrize("text", ["q", "q=nothing", "=prompt", "a=prompt,b=prompt", "a=prompt,a=completion", ","])
def test_names_that_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(Unprocessable, match="map: "):
        names_of(text, KNOWN_MEMBERS)


def test_which_format_a_value_is_in_goes_by_its_members_alone() -> None:
    value = {"prompt": "q", "messages": [], "chosen": [], "rejected": []}
    assert shape_of(json.loads(json.dumps(value))).NAME == "preference"
    assert shape_of(value | {"chosen": None}).NAME == "openai"


def test_every_loss_stands_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "datasets-files.md").read_text(encoding="utf-8")
    said = {line for line in page.splitlines() if line.startswith("| `") and line.count("|") == 4}
    losses = [(name, *loss) for name, made in FORMATS.items() for loss in made.LOSES.items()]
    assert said == {f"| `{name}` | `{loss}` | {meaning} |" for name, loss, meaning in losses}

"""Which logs become rows, and why the others do not."""

from typing import Any

import msgspec
import pytest
from fakes.curator_api import tagged

from tunemill.curator_api.rows import Reason, Row, RowEdit, RowMessage, beginning, from_log
from tunemill.schemas.ids import digest
from tunemill.schemas.records import Edit, Message, ToolCall

CALL = ToolCall(name="add", arguments="{}", id="c1")
USER = Message(role="user", content="hi")
ANSWER = Message(role="assistant", content="hello")
IMAGE = Message(role="user", content="see", parts=[{"type": "image_url", "image_url": {"url": "x"}}])


def outcome(**fields: Any) -> Row | Reason:
    return from_log(tagged("a", **fields), default_consent="none")


def test_a_log_becomes_its_input_and_its_first_answer() -> None:
    row = outcome(
        messages=(Message(role="system", content="Be brief."), USER),
        output=(
            Message(role="assistant", content="one", reasoning="because"),
            Message(role="assistant", content="two"),
        ),
        tools=[{"type": "function", "function": {"name": "add"}}],
        session_id="s",
    )
    assert isinstance(row, Row)
    assert [(message.role, message.content) for message in row.messages] == [
        ("system", "Be brief."),
        ("user", "hi"),
        ("assistant", "one"),
    ]
    assert row.tools == '[{"function":{"name":"add"},"type":"function"}]'
    assert (row.row_key, row.log_id, row.conversation, row.tags) == (
        "a",
        "a",
        digest("session:s")[:32],
        ("topic:math",),
    )


def test_tool_calls_and_their_answers_are_kept() -> None:
    tool = Message(role="tool", content="4", tool_call_id="c1")
    row = outcome(messages=(USER, Message(role="assistant", tool_calls=(CALL,)), tool), output=(ANSWER,))
    assert isinstance(row, Row)
    assert row.messages[1] == RowMessage(role="assistant", tool_calls=(CALL,))
    assert row.messages[2].tool_call_id == "c1"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"consent": "eval_only"}, Reason.CONSENT),
        ({"consent": "none"}, Reason.CONSENT),
        ({"consent": None}, Reason.CONSENT),
        ({"tag_status": "failed"}, Reason.NOT_TAGGED),
        ({"tags": ("secret:api-key", "pii:email")}, Reason.SECRET),
        ({"tags": ("topic:math", "pii:phone")}, Reason.PII),
        ({"status": "error"}, Reason.STATUS_ERROR),
        ({"output": ()}, Reason.NO_ANSWER),
        ({"output": (Message(role="assistant", content=" \n"),)}, Reason.NO_ANSWER),
        ({"output": (Message(role="assistant", refusal="no"),)}, Reason.NO_ANSWER),
        ({"messages": (IMAGE,)}, Reason.NOT_TEXT),
        ({"messages": (USER, Message(role="assistant"), USER)}, Reason.NOT_TEXT),
        ({"messages": ()}, Reason.ROLES_OUT_OF_ORDER),
        ({"messages": (USER, Message(role="system", content="late"))}, Reason.ROLES_OUT_OF_ORDER),
        ({"messages": (USER, Message(role="tool", content="4"))}, Reason.ROLES_OUT_OF_ORDER),
        ({"messages": (Message(role="narrator", content="once"), USER)}, Reason.ROLES_OUT_OF_ORDER),
        ({"messages": (Message(role="system", content="Be brief."),)}, Reason.ROLES_OUT_OF_ORDER),
    ],
)
def test_what_may_not_or_cannot_be_trained_on_says_why(fields: dict[str, Any], reason: Reason) -> None:
    assert outcome(**fields) is reason


def test_a_log_that_says_nothing_about_consent_follows_the_project() -> None:
    assert isinstance(from_log(tagged("a", consent=None), default_consent="train"), Row)
    assert from_log(tagged("a", consent="none"), default_consent="train") is Reason.CONSENT


def test_an_edit_takes_the_place_of_the_messages_but_not_of_privacy() -> None:
    edit = RowEdit((RowMessage(role="user", content="hi"), RowMessage(role="assistant", content="better")))
    row = from_log(tagged("a", answer=None, status="error"), default_consent="none", edit=edit)
    assert isinstance(row, Row)
    assert (row.messages, row.edited) == (edit.messages, True)
    assert from_log(tagged("a", tags=("pii:email",)), default_consent="none", edit=edit) is Reason.PII


def test_a_log_that_people_edited_is_trained_on_as_it_is_now_and_split_as_it_came() -> None:
    edit = Edit(messages=(Message(role="user", content="hi!"),), output=(ANSWER,))
    for fields in (
        {"answer": "hey"},
        {"answer": None, "status": "error"},
    ):  # a person may give the answer that was missing
        came = tagged("a", "hi", **fields)
        row = from_log(msgspec.structs.replace(came, edit=edit), default_consent="none")
        assert isinstance(row, Row)
        assert [message.content for message in row.messages] == ["hi!", "hello"]
        assert row.edited and row.conversation == beginning([RowMessage(role="user", content="hi")])
    picture = msgspec.structs.replace(tagged("a"), edit=Edit(messages=(IMAGE,), output=(ANSWER,)))
    assert from_log(picture, default_consent="none") is Reason.NOT_TEXT


@pytest.mark.parametrize(("consent", "default"), [("none", "train"), ("eval_only", "train")])
def test_a_persons_word_keeps_a_log_out(consent: str, default: str) -> None:
    log = msgspec.structs.replace(tagged("a"), consent=consent)
    assert from_log(log, default_consent=default) is Reason.CONSENT


def test_a_persons_word_lets_a_log_in() -> None:
    log = msgspec.structs.replace(tagged("a", consent="none"), consent="train")
    assert isinstance(from_log(log, default_consent="none"), Row)


def test_text_parts_are_text() -> None:
    parts = [{"type": "text", "text": "hi"}]
    assert isinstance(outcome(messages=(Message(role="user", content="hi", parts=parts),)), Row)


def test_equal_content_has_an_equal_id_wherever_it_came_from() -> None:
    one, other, different = outcome(), from_log(tagged("b", ts_ms=5), default_consent="none"), outcome(answer="5")
    assert isinstance(one, Row)
    assert isinstance(other, Row)
    assert isinstance(different, Row)
    assert one.row_id() == other.row_id() != different.row_id()

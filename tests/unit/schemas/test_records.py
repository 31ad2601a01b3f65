"""What a tagged log shows of what came and of what people said."""

import msgspec
import pytest

from tunemill.schemas.records import Edit, LogRecord, Message, TaggedLog

CAME = LogRecord(
    log_id="a",
    ts_ms=1,
    messages=(Message(role="user", content="1 + 1?"),),
    output=(Message(role="assistant", content="3"),),
    model="m",
    consent="train",
)
TAGGED = TaggedLog(log=CAME, content_digest="d")
EDIT = Edit(messages=(Message(role="user", content="2 + 2?"),), output=(Message(role="assistant", content="4"),))


def test_a_log_that_nobody_edited_is_shown_as_it_came() -> None:
    assert TAGGED.shown is CAME


@pytest.mark.parametrize("output", [EDIT.output, ()])
def test_an_edit_takes_the_place_of_the_messages_and_of_the_answer(output: tuple[Message, ...]) -> None:
    edit = msgspec.structs.replace(EDIT, output=output)
    shown = msgspec.structs.replace(TAGGED, edit=edit).shown
    assert shown == msgspec.structs.replace(CAME, messages=EDIT.messages, output=output)


def test_a_persons_word_on_consent_goes_before_the_logs_own() -> None:
    assert msgspec.structs.replace(TAGGED, consent="none").shown == msgspec.structs.replace(CAME, consent="none")


def test_a_log_of_which_nobody_said_anything_is_stored_without_a_word_of_it() -> None:
    assert set(msgspec.to_builtins(TAGGED)) == {"log", "content_digest"}

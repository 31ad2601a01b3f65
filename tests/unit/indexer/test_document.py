"""What of a log can be searched: its text by part, what it has, what people said of it."""

from tunemill.indexer.document import to_document
from tunemill.indexer.fields import HAS, PARTS
from tunemill.schemas.records import Edit, LogRecord, Message, Said, TaggedLog, ToolCall

CALL = ToolCall(name="get_weather", arguments='{"city": "Bergen"}')
FULL = LogRecord(
    log_id="full",
    ts_ms=1,
    messages=(
        Message(role="system", content="be kind"),
        Message(role="developer", content="be brief"),
        Message(role="user", content="what is this", parts=[{"type": "image_url"}, {"type": "input_audio"}]),
        Message(role="assistant", content="a lamp", reasoning="it shines", tool_calls=(CALL,)),
        Message(role="tool", content="12 degrees"),
        Message(role="narrator", content="later", parts=({"type": "file"}, "odd", {"type": "text"})),
    ),
    output=(Message(role="assistant", content="warm", refusal="no more"),),
    tools=[{"type": "function"}],
    status="error",
)
SAID = (
    Said(name="helpful", score=0.5),
    Said(name="helpful", score=0.5, corrected=True),
    Said(name="quality", label="good", score=1.0, commented=True),
    Said(name="seen"),
)


def test_each_text_is_in_one_part_and_all_are_counted() -> None:
    document = to_document(TaggedLog(log=FULL, content_digest="d"))
    assert {part: getattr(document, part) for part in PARTS} == {
        "prompt": ("what is this", "later"),
        "response": ("a lamp", "it shines", "warm", "no more"),
        "system": ("be kind", "be brief"),
        "tool": ("get_weather", '{"city": "Bergen"}', "12 degrees"),
    }
    assert document.chars == sum(len(text) for part in PARTS for text in getattr(document, part))


def test_what_a_log_can_have() -> None:
    edit = Edit(messages=FULL.messages, output=FULL.output)
    everything = to_document(TaggedLog(log=FULL, content_digest="d", edit=edit, feedback=SAID))
    assert everything.has == HAS
    bare = LogRecord(log_id="bare", ts_ms=1, messages=(Message(role="user", content="hi", parts=[{"type": "text"}]),))
    assert to_document(TaggedLog(log=bare, content_digest="d")).has == ()


def test_feedback_is_found_by_what_it_says() -> None:
    document = to_document(TaggedLog(log=FULL, content_digest="d", feedback=SAID))
    assert document.feedback == ("helpful:0.5", "quality:good", "quality:1", "seen")
    assert document.score == (0.5 + 0.5 + 1.0) / 3
    unscored = to_document(TaggedLog(log=FULL, content_digest="d", feedback=(Said(name="seen"),)))
    assert unscored.score is None


def test_what_a_person_put_in_place_of_the_text_is_searched() -> None:
    edit = Edit(messages=(Message(role="user", content="new question"),))
    document = to_document(TaggedLog(log=FULL, content_digest="d", edit=edit, consent="none"))
    assert (document.prompt, document.response, document.consent) == (("new question",), (), "none")


def test_alike_logs_share_a_run_of_their_fingerprints() -> None:
    fingerprint = "".join(f"{at:02x}" for at in range(64))
    near = to_document(TaggedLog(log=FULL, content_digest="d", fingerprint=fingerprint)).near
    assert near[:2] == ("0:00010203", "1:04050607")
    assert len(near) == 8

"""Calls of Anthropic's Messages API, whole or as the events of a stream."""

import json
from pathlib import Path
from typing import Any

import pytest
from clients.case import Case
from clients.compare import differences
from clients.messages_cases import ERROR, MORE, TABLE
from fakes.odd_json import check, odd
from hypothesis import given, settings

from tunemill.schemas.records import LogRecord, Message, ToolCall, Usage
from tunemill.streams.decode import decode
from tunemill.streams.errors import Undecodable

CAPTURES = Path(__file__).parent / "captures" / "anthropic"
USER = {"role": "user", "content": "hi"}
BASE64 = {"type": "base64", "media_type": "image/png", "data": "AA"}


def capture(name: str) -> dict[str, Any]:
    return json.loads((CAPTURES / f"{name}.json").read_text(encoding="utf-8"))


def read(value: Any) -> LogRecord:
    found = decode(json.dumps(value).encode(), ts_ms=7)
    assert isinstance(found, LogRecord)
    return found


def answer(*content: Any, **more: Any) -> dict[str, Any]:
    blocks = [{"type": "text", "text": block} if isinstance(block, str) else block for block in content]
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": blocks, **more}


def of(response: Any, *messages: Any, **request: Any) -> LogRecord:
    return read(
        {
            "request": {"model": "claude", "max_tokens": 9, "messages": list(messages) or [USER], **request},
            "response": response,
        }
    )


@pytest.mark.parametrize("case", [*TABLE, *MORE], ids=lambda case: case.name)
def test_what_anthropics_client_sends(case: Case):
    value = capture(case.name)
    log = read(value)
    assert differences(case, log, model=value["request"]["model"]) == {}
    assert (log.source, log.app, log.error) == ("anthropic", "shop", "rate_limit_error" if case is ERROR else None)


def test_the_system_text_comes_first_whole_or_in_blocks():
    assert of(answer("ok"), system="Be brief.").messages[0] == Message(role="system", content="Be brief.")
    blocks = [
        {"type": "text", "text": "Be", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "brief."},
    ]
    log = of(answer("ok"), system=blocks)
    assert log.messages[0].content == "Be\nbrief."
    assert log.extra["system"] == {"0": {"cache_control": {"type": "ephemeral"}}}


def test_a_result_becomes_a_message_of_its_own():
    image = {"type": "image", "source": BASE64}
    log = of(
        answer("ok"),
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "Eq"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "one"}, image]},
                {"type": "tool_result", "tool_use_id": "t2", "is_error": True, "content": "boom"},
                {"type": "text", "text": "Go on."},
            ],
        },
    )
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    assert log.messages[1:] == (
        Message(
            role="assistant",
            content="I look.",
            reasoning="hm",
            tool_calls=(ToolCall(name="f", arguments='{"x":1}', id="t1"), ToolCall(name="g", arguments="{}", id="t2")),
        ),
        Message(role="tool", content="one", parts=[{"type": "text", "text": "one"}, picture], tool_call_id="t1"),
        Message(role="tool", content="boom", tool_call_id="t2"),
        Message(role="user", content="Go on."),
    )
    assert log.extra["messages"] == {
        "1": {"content": {"0": {"signature": "Eq"}}},
        "2": {"content": {"1": {"is_error": True}}},
    }


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "image", "source": BASE64}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}),
        (
            {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        ),
        (
            {"type": "document", "title": "a", "source": {**BASE64, "media_type": "application/pdf"}},
            {"type": "file", "file": {"filename": "a", "file_data": "data:application/pdf;base64,AA"}},
        ),
        (
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
            {"type": "file", "file": {"file_id": "file_1"}},
        ),
        (
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
            {"type": "text", "text": "words"},
        ),
        *[
            (block, block)
            for block in (
                {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}},
                {"type": "search_result", "title": "a", "source": "b", "content": []},
            )
        ],
    ],
)
def test_content_blocks_get_openais_spelling(block: Any, part: Any):
    log = of(answer("ok"), {"role": "user", "content": [{"type": "text", "text": "see"}, block]})
    assert log.messages[0].parts == [{"type": "text", "text": "see"}, part]


def test_of_a_block_that_stays_as_it_was_nothing_is_kept_twice():
    block = {"type": "document", "title": "a", "source": {"type": "url", "url": "https://example.org/a.pdf"}}
    titled = {"type": "document", "title": "b", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}
    untyped = {"type": "image", "source": {"type": "base64", "data": "AA"}}
    log = of(answer("ok"), {"role": "user", "content": [block, titled, untyped]})
    assert log.messages[0].parts == [block, {"type": "text", "text": "words"}, untyped]
    assert log.extra == {"messages": {"0": {"content": {"1": {"title": "b"}}}}}


@pytest.mark.parametrize(
    ("value", "source"),
    [
        ({"request": {"messages": [USER]}, "response": answer("ok")}, "anthropic"),
        ({"request": {"messages": [USER], "max_tokens": 9}, "response": {"choices": []}}, "openai_pair"),
        ({"request": {"messages": [USER], "max_tokens": 9}, "response": {"error": {"type": "x"}}}, "openai_pair"),
        ({"request": {"messages": [USER], "max_tokens": 9}, "error": "x"}, "openai_pair"),
        ({"request": {"messages": [USER], "system": "Be brief."}, "error": "x"}, "openai_pair"),
        ({"request": {"messages": [USER], "max_tokens": 9, "system": "Be brief."}, "error": "x"}, "anthropic"),
        ({"request": {"messages": [USER], "max_tokens": 9, "anthropic_version": "x"}, "error": "x"}, "anthropic"),
        ({"request": {"messages": [USER], "input": "x"}, "response": answer("ok")}, "anthropic"),
        ({"request": {"input": "x"}, "response": {"type": "message", "output": []}}, "openai_responses"),
    ],
)
def test_it_is_known_by_its_fields(value: Any, source: str):
    assert read(value).source == source


def test_hidden_reasoning_and_tools_that_anthropic_runs_are_kept_beside():
    hidden, search = (
        {"type": "redacted_thinking", "data": "Em"},
        {"type": "server_tool_use", "id": "s", "name": "web_search"},
    )
    log = of(answer(hidden, search, "Found.", stop_reason="end_turn"))
    assert log.output == (Message(role="assistant", content="Found."),)
    assert log.extra["output"] == {"0": hidden, "1": search}


def test_several_texts_are_one_answer_and_citations_stay():
    cited = {"type": "text", "text": "B.", "citations": [{"cited_text": "b"}]}
    log = of(answer("A.", cited))
    assert (log.output[0].content, len(log.output[0].parts)) == ("A.\nB.", 2)
    assert log.extra["output"] == {"1": {"citations": [{"cited_text": "b"}]}}


def test_tools_get_openais_spelling():
    own = {"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}
    log = of(answer("ok"), tools=[own, {"type": "web_search_20250305", "name": "web_search"}])
    assert log.tools == [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": {"type": "object"}},
            "cache_control": {"type": "ephemeral"},
        },
        {"type": "web_search_20250305", "name": "web_search"},
    ]


def test_parameters_usage_and_who_asked():
    usage = {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 100, "service_tier": "standard"}
    log = of(answer("ok", usage=usage), temperature=0.5, stop_sequences=["x"], metadata={"user_id": "u-1", "more": 1})
    assert log.params == {"max_tokens": 9, "temperature": 0.5, "stop_sequences": ["x"]}
    assert (log.usage, log.user_id, log.response_id) == (Usage(input_tokens=3, output_tokens=4), "u-1", "msg_1")
    assert log.extra == {
        "usage": {"cache_read_input_tokens": 100, "service_tier": "standard"},
        "request": {"metadata": {"more": 1}},
    }


@pytest.mark.parametrize(
    ("word", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "something_new"),
        (None, None),
    ],
)
def test_why_the_model_stopped(word: str | None, finish_reason: str | None):
    log = of(answer("ok", stop_reason=word, stop_sequence="###"))
    assert log.finish_reason == finish_reason
    assert log.extra["response"].get("stop_reason") == (word if word != finish_reason else None)
    assert log.extra["response"]["stop_sequence"] == "###"


@pytest.mark.parametrize("where", ["response", "beside"])
def test_a_call_that_failed(where: str):
    error = {"type": "overloaded_error", "message": "Overloaded"}
    request = {"model": "claude", "max_tokens": 9, "system": "Be brief.", "messages": [USER]}
    told = {"response": {"type": "error", "error": error}} if where == "response" else {"error": error}
    log = read({"request": request, **told})
    assert (log.source, log.status, log.error, log.output) == ("anthropic", "error", "overloaded_error", ())
    assert log.extra["error"] == error


def events(*told: Any) -> LogRecord:
    begun = {"type": "message_start", "message": answer(usage={"input_tokens": 3, "output_tokens": 1})}
    request = {"model": "claude", "max_tokens": 9, "messages": [USER], "stream": True}
    return read({"request": request, "events": [{"type": "ping"}, begun, *told]})


def begins(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def goes_on(index: int, kind: str, **piece: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **piece}}


BLOCKS = (
    begins(0, type="thinking", thinking="", signature=""),
    goes_on(0, "thinking_delta", thinking="h"),
    goes_on(0, "thinking_delta", thinking="m"),
    goes_on(0, "signature_delta", signature="Eq"),
    begins(1, type="text", text=""),
    goes_on(1, "text_delta", text="I "),
    goes_on(1, "citations_delta", citation={"n": 1}),
    goes_on(1, "text_delta", text="look."),
    begins(2, type="tool_use", id="t1", name="f", input={}),
    goes_on(2, "input_json_delta", partial_json='{"x"'),
    goes_on(2, "input_json_delta", partial_json=": 1}"),
)


def test_the_events_of_a_stream_are_put_together():
    ended = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 20}}
    log = events(*BLOCKS, ended, {"type": "message_stop"})
    call = ToolCall(name="f", arguments='{"x": 1}', id="t1")
    assert log.output == (Message(role="assistant", content="I look.", reasoning="hm", tool_calls=(call,)),)
    assert (log.finish_reason, log.usage) == ("tool_calls", Usage(input_tokens=3, output_tokens=20))
    assert log.extra == {
        "response": {"stop_reason": "tool_use"},
        "output": {"0": {"signature": "Eq"}, "1": {"citations": [{"n": 1}]}},
    }


def test_a_stream_that_was_cut_off():
    log = events(*BLOCKS[:-1])
    assert log.output[0].tool_calls[0].arguments == '{"x"'
    assert (log.finish_reason, log.status, log.extra["stream"]) == (None, "ok", "cut")


def test_a_stream_that_failed():
    log = events(*BLOCKS[:6], {"type": "error", "error": {"type": "overloaded_error", "message": "gone"}})
    assert (log.output[0].content, log.status, log.error) == ("I ", "error", "overloaded_error")
    assert "stream" not in log.extra


@pytest.mark.parametrize(
    ("messages", "response", "place"),
    [
        ([5], answer("x"), "request.messages[0]"),
        ([{"content": "hi"}], answer("x"), "request.messages[0].role"),
        ([{"role": "user", "content": 5}], answer("x"), "request.messages[0].content"),
        ([{"role": "user", "content": ["x"]}], answer("x"), "request.messages[0].content"),
        (
            [{"role": "user", "content": [{"type": "text", "text": 5}]}],
            answer("x"),
            "request.messages[0].content[0].text",
        ),
        ([USER], answer({"type": "tool_use", "id": "t"}), "response.content[0]"),
        ([USER], answer("x", usage={"input_tokens": "3"}), "usage.input_tokens"),
        ([USER], [{"type": "message_start", "message": {}}, 5], "response[1]"),
    ],
)
def test_what_cannot_be_read_names_the_place(messages: Any, response: Any, place: str):
    with pytest.raises(Undecodable) as caught:
        of(response, *messages)
    assert caught.value.code == "invalid"
    assert place in str(caught.value)


@settings(deadline=None, max_examples=300)
@given(odd([capture(case.name) for case in (*TABLE, *MORE)]))
def test_odd_calls_are_read_or_refused(value: Any):
    check(value)

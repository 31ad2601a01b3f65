"""Calls of OpenAI's Responses API, whole or as the events of a stream."""

import json
from pathlib import Path
from typing import Any

import pytest
from clients.case import Case
from clients.compare import differences
from clients.responses_cases import MORE, TABLE
from fakes.odd_json import check, odd
from hypothesis import given, settings

from tunemill.schemas.records import LogRecord, Message, ToolCall, Usage
from tunemill.streams.decode import decode
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.shape import NotACall

CAPTURES = Path(__file__).parent / "captures" / "openai_responses"


def capture(name: str) -> dict[str, Any]:
    return json.loads((CAPTURES / f"{name}.json").read_text(encoding="utf-8"))


def read(value: Any) -> LogRecord:
    found = decode(json.dumps(value).encode(), ts_ms=7)
    assert isinstance(found, LogRecord)
    return found


def says(text: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": content, **more}


def calls(number: int, **more: Any) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{number}",
        "call_id": f"c{number}",
        "name": "f",
        "arguments": "{}",
        **more,
    }


def thinks(*texts: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": text} for text in texts],
        **more,
    }


def answer(*output: Any, **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": "completed", "model": "m-1", "output": list(output), **more}


def of(response: Any, **request: Any) -> LogRecord:
    return read({"request": {"model": "m-1", "input": "hi", **request}, "response": response})


def asked(*items: Any, **request: Any) -> LogRecord:
    return of(answer(says("ok")), input=list(items), **request)


@pytest.mark.parametrize("case", [*TABLE, *MORE], ids=lambda case: case.name)
def test_what_openais_client_sends(case: Case):
    value = capture(case.name)
    log = read(value)
    assert differences(case, log, model=value["request"]["model"]) == {}
    assert (log.source, log.operation, log.app) == ("openai_responses", "chat", "shop")


def test_instructions_come_first_and_text_is_the_users():
    log = of(answer(says("ok")), instructions="Be brief.", input="hi")
    assert log.messages == (Message(role="system", content="Be brief."), Message(role="user", content="hi"))
    log = of(answer(says("ok")), instructions=[{"role": "developer", "content": "Be brief."}])
    assert log.messages[0] == Message(role="developer", content="Be brief.")


def test_content_parts_get_the_chat_apis_spelling():
    log = asked(
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "what is"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"},
                {"type": "input_file", "file_url": "https://example.org/a.pdf"},
                {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
                {"type": "input_text", "text": "this?"},
            ],
        }
    )
    assert log.messages[0].content == "what is\nthis?"
    assert log.messages[0].parts == [
        {"type": "text", "text": "what is"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}},
        {"type": "input_file", "file_url": "https://example.org/a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
        {"type": "text", "text": "this?"},
    ]


def test_a_turn_of_the_model_is_one_message():
    log = asked(
        {"role": "user", "content": "hi"},
        thinks("first", "then"),
        says("I call."),
        calls(1),
        calls(2),
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}]},
        calls(3),
        says("Later."),
        says("Last."),
    )
    assert log.messages == (
        Message(role="user", content="hi"),
        Message(
            role="assistant",
            content="I call.",
            reasoning="first\nthen",
            tool_calls=(ToolCall(name="f", arguments="{}", id="c1"), ToolCall(name="f", arguments="{}", id="c2")),
        ),
        Message(role="tool", content="one", tool_call_id="c1"),
        Message(role="tool", content="two", tool_call_id="c2"),
        Message(role="assistant", tool_calls=(ToolCall(name="f", arguments="{}", id="c3"),)),
        Message(role="assistant", content="Later."),
        Message(role="assistant", content="Last."),
    )


def test_reasoning_in_several_items_and_a_result_that_is_an_object():
    log = asked(
        thinks("first"),
        thinks("then"),
        calls(1),
        {"type": "function_call_output", "call_id": "c1", "output": {"celsius": 31}},
    )
    assert (log.messages[0].reasoning, len(log.messages[0].tool_calls)) == ("first\nthen", 1)
    assert log.messages[1] == Message(role="tool", content='{"celsius":31}', tool_call_id="c1")


def test_custom_tools_take_and_give_text():
    log = asked(
        {"type": "custom_tool_call", "call_id": "c1", "name": "run", "input": "ls -l"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "nothing"},
    )
    assert log.messages[0].tool_calls == (ToolCall(name="run", arguments="ls -l", id="c1"),)
    assert log.messages[1] == Message(role="tool", content="nothing", tool_call_id="c1")


def test_all_that_came_is_one_answer():
    log = of(answer(thinks("hm"), says("One."), calls(1), says("Two."), thinks(encrypted_content="gAAA")))
    assert log.output == (
        Message(
            role="assistant",
            content="One.\nTwo.",
            parts=[{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}],
            tool_calls=(ToolCall(name="f", arguments="{}", id="c1"),),
            reasoning="hm",
        ),
    )
    assert log.finish_reason == "tool_calls"
    assert log.extra["output"] == {"4": {"encrypted_content": "gAAA"}}


def test_reasoning_in_full_stands_in_for_a_summary():
    log = of(
        answer({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "so"}]}, says("x"))
    )
    assert log.output[0].reasoning == "so"


def test_a_refusal():
    log = of(answer({"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}))
    assert (log.output[0].refusal, log.output[0].content, log.output[0].parts) == ("No.", None, None)


def test_what_has_no_place_in_a_message_is_kept_beside():
    searched = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "x"}}
    said = says("Found.")
    said["content"][0]["annotations"] = [{"type": "url_citation", "url": "https://example.org"}]
    log = of(
        answer(searched, said), input=[{"type": "item_reference", "id": "rs_1"}, {"role": "user", "content": "hi"}]
    )
    assert log.extra["input"] == {"0": {"type": "item_reference", "id": "rs_1"}}
    assert log.extra["output"] == {
        "0": searched,
        "1": {"content": {"0": {"annotations": [{"type": "url_citation", "url": "https://example.org"}]}}},
    }


def test_tools_get_the_chat_apis_spelling_and_built_in_ones_stay():
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    log = asked({"role": "user", "content": "hi"}, tools=[{"type": "function", **function}, {"type": "web_search"}])
    assert log.tools == [{"type": "function", "function": function}, {"type": "web_search"}]


def test_parameters_and_who_asked():
    log = of(
        answer(
            says("ok"), conversation={"id": "conv_1"}, temperature=0.5, instructions="Be brief.", tools=[], top_p=1.0
        ),
        instructions="Be brief.",
        temperature=0.5,
        user="u-1",
        metadata={"k": "v"},
        previous_response_id="resp_0",
    )
    assert (log.params, log.user_id, log.session_id, log.metadata) == (
        {"temperature": 0.5},
        "u-1",
        "conv_1",
        {"k": "v"},
    )
    assert log.extra == {"request": {"previous_response_id": "resp_0"}, "response": {"top_p": 1.0}}
    assert of(answer(says("ok")), conversation="conv_2").session_id == "conv_2"


@pytest.mark.parametrize(
    ("more", "finish_reason", "status", "error"),
    [
        ({"status": "completed"}, "stop", "ok", None),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length", "ok", None),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter", "ok", None),
        ({"status": "failed", "error": {"code": "server_error", "message": "gone"}}, None, "error", "server_error"),
        ({"status": "cancelled"}, None, "error", "cancelled"),
    ],
)
def test_how_a_call_ended(more: dict[str, Any], finish_reason: str | None, status: str, error: str | None):
    log = of(answer(says("so far"), **more))
    assert (log.finish_reason, log.status, log.error) == (finish_reason, status, error)
    assert log.output[0].content == "so far"


def test_a_call_that_got_no_response():
    log = read({"request": {"model": "m-1", "input": "hi"}, "error": {"type": "invalid_request_error"}})
    assert (log.source, log.status, log.error) == ("openai_responses", "error", "invalid_request_error")


@pytest.mark.parametrize(
    ("response", "kind"),
    [({"object": "list", "data": [{"embedding": [0.5]}]}, "embeddings"), ({"id": "m", "results": [{}]}, "moderation")],
)
def test_other_apis_that_take_an_input_tell_no_call(response: Any, kind: str):
    value = {"request": {"model": "m-1", "input": "hi"}, "response": response}
    assert decode(json.dumps(value).encode(), ts_ms=7) == NotACall(kind)


def events(*told: Any) -> LogRecord:
    begun = {"type": "response.created", "response": answer(status="in_progress")}
    return read({"request": {"model": "m-1", "input": "hi", "stream": True}, "events": [begun, *told]})


def piece(kind: str, index: int, text: str, **place: int) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": text, **place}


def test_a_stream_that_was_cut_off():
    log = events(
        {"type": "response.output_item.added", "output_index": 0, "item": thinks()},
        piece("reasoning_summary_text", 0, "h", summary_index=0),
        piece("reasoning_summary_text", 0, "m", summary_index=0),
        {"type": "response.output_item.added", "output_index": 1, "item": {**says(""), "content": []}},
        piece("output_text", 1, "On", content_index=0),
        piece("output_text", 1, "ce", content_index=0),
        {"type": "response.output_item.added", "output_index": 2, "item": calls(1, arguments="")},
        piece("function_call_arguments", 2, '{"x"'),
        piece("function_call_arguments", 2, ": 1"),
    )
    assert log.output == (
        Message(
            role="assistant",
            content="Once",
            reasoning="hm",
            tool_calls=(ToolCall(name="f", arguments='{"x": 1', id="c1"),),
        ),
    )
    assert (log.finish_reason, log.status, log.response_id, log.model) == (None, "ok", "resp_1", "m-1")
    assert log.extra == {"stream": "cut"}


def test_the_end_of_a_stream_says_it_all():
    ended = {
        "type": "response.completed",
        "response": answer(says("Whole."), usage={"input_tokens": 1, "output_tokens": 2}),
    }
    log = events(piece("output_text", 0, "Who", content_index=0), ended)
    assert (log.output[0].content, log.finish_reason) == ("Whole.", "stop")
    assert (log.usage, log.extra) == (Usage(input_tokens=1, output_tokens=2), None)


def test_an_end_without_the_output_leaves_that_to_the_items():
    done = {"type": "response.output_item.done", "output_index": 0, "item": says("Whole.")}
    log = events(done, {"type": "response.completed", "response": answer()})
    assert (log.output[0].content, log.finish_reason) == ("Whole.", "stop")


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "slow down"}, "rate_limit_exceeded"),
        ({"type": "error", "error": {"type": "server_error", "message": "gone"}}, "server_error"),
        (
            {"type": "response.failed", "response": answer(status="failed", error={"code": "server_error"})},
            "server_error",
        ),
    ],
)
def test_a_stream_that_failed(event: Any, error: str):
    log = events(piece("output_text", 0, "On", content_index=0), event)
    assert (log.output[0].content, log.status, log.error) == ("On", "error", error)


@pytest.mark.parametrize(
    ("request_", "response", "place"),
    [
        ({"input": 5}, answer(says("x")), "request.input"),
        ({"input": [5]}, answer(says("x")), "request.input[0]"),
        ({"input": [{"content": "hi"}]}, answer(says("x")), "request.input[0].role"),
        ({"input": [{"role": "user", "content": 5}]}, answer(says("x")), "request.input[0].content"),
        ({"input": [calls(1, name=None)]}, answer(says("x")), "request.input[0]"),
        ({"input": "hi"}, answer("x"), "response.output[0]"),
        ({"input": "hi"}, answer(says("x"), usage={"input_tokens": "9"}), "usage.input_tokens"),
        ({"input": "hi"}, [{"type": "response.created"}, 5], "response[1]"),
        ({"input": "hi"}, [piece("output_text", 0, "x", content_index=10**12)], "response[0].content_index"),
    ],
)
def test_what_cannot_be_read_names_the_place(request_: Any, response: Any, place: str):
    with pytest.raises(Undecodable) as caught:
        read({"request": request_, "response": response})
    assert caught.value.code == "invalid"
    assert place in str(caught.value)


@settings(deadline=None, max_examples=300)
@given(odd([capture(case.name) for case in (*TABLE, *MORE)]))
def test_odd_calls_are_read_or_refused(value: Any):
    check(value)

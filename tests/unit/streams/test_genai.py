"""OpenTelemetry's GenAI conventions: what its instrumentations were seen to send, and what other generations of them say."""

import json
from typing import Any

import pytest
from clients.case import Case, model_of
from clients.chat_cases import TABLE
from clients.compare import differences, known
from fakes.spans import CAPTURES, attribute_values, made_span
from hypothesis import given
from hypothesis import strategies as st

from tunemill.schemas.ids import payload_log_id, span_log_id
from tunemill.schemas.records import Feedback, LogRecord, Message, ToolCall, Usage
from tunemill.streams.decode import decode
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.genai import DIALECT
from tunemill.streams.formats.shape import NotACall, Piece, Reading
from tunemill.streams.formats.span import SpanEvent, Told
from tunemill.streams.merge import begun, merge
from tunemill.streams.unpack import unpack

TS_MS = 1_780_000_000_123
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALL = {"gen_ai.operation.name": "chat"}

CLIENTS = ("otel_openai_span", "otel_openai_event", "otel_openai_old", "openllmetry_event")


def readings(client: str, case: str, signal: str) -> list[Reading]:
    path = CAPTURES / client / f"{signal}-{case}.json"
    return [decode(record, ts_ms=TS_MS) for record in unpack(path.read_bytes())] if path.exists() else []


def joined(parts: list[Reading]) -> dict[str, LogRecord]:
    logs: dict[str, LogRecord] = {}
    for part in parts:
        if isinstance(part, Piece):
            log_id = part.log.log_id
            logs[log_id] = merge(logs[log_id], part) if log_id in logs else begun(part)
    return logs


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("order", [1, -1], ids=["span first", "events first"])
def test_what_real_clients_send(client: str, case: Case, order: int):
    spans, events = readings(client, case.name, "traces"), readings(client, case.name, "logs")
    (log_id,) = [part.log.log_id for part in spans if isinstance(part, Piece)]
    assert [part for part in spans if not isinstance(part, Piece)] == [NotACall("span")]  # the one around the call
    log = joined([*spans, *events][::order])[log_id]
    model = model_of(case.name, client)
    assert set(differences(case, log, model=model)) == known(client, case)
    assert (log.source, log.app, log.provider, log.log_id) == ("otlp", "shop", "openai", log_id)
    assert log.log_id.startswith(f"{log.trace_id}-")
    assert log.latency_ms is not None
    assert "Traceback" not in json.dumps(log.extra)


def told(attributes: dict[str, Any], *events: SpanEvent) -> Told:
    span = made_span(attributes)
    span = type(span)(**{name: getattr(span, name) for name in span.__slots__} | {"events": events})
    assert DIALECT.matches(span)
    return DIALECT.read(span)


def log_of(attributes: dict[str, Any], *events: SpanEvent) -> LogRecord:
    found = told({**CALL, **attributes}, *events)
    assert found.is_call
    return LogRecord(log_id="x", ts_ms=0, **{"messages": (), **found.fields})


def event(name: str, **attributes: Any) -> SpanEvent:
    return SpanEvent(name, 0, attributes)


@pytest.mark.parametrize("spell", [lambda value: value, json.dumps], ids=["structured", "JSON"])
def test_every_kind_of_part(spell: Any):
    asked = [
        {
            "role": "user",
            "name": "ann",
            "parts": [
                {"type": "text", "content": "look"},
                {"type": "blob", "modality": "image", "mime_type": "image/gif", "content": "R0lG"},
                {"type": "uri", "modality": "image", "mime_type": "image/png", "uri": "https://x/y.png"},
                {"type": "uri", "modality": "video", "uri": "gs://x/y.mp4"},
                {"type": "blob", "modality": "audio", "mime_type": "audio/mpeg", "content": "SUQz"},
                {"type": "blob", "modality": "document", "mime_type": "application/pdf", "content": "JVBE"},
                {"type": "file", "modality": "image", "file_id": "file-1"},
                {"type": "hologram", "content": 3},
                "and this",
                {"type": "text", "content": "too", "language": "en"},
                {"type": "blob", "modality": "audio", "content": "UklG"},
            ],
        },
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "hm"},
                {"type": "thinking", "content": "well"},
                {"type": "tool_call", "id": "a", "name": "f", "arguments": {"x": 1}},
                {"type": "tool_call", "id": "b", "name": "g", "arguments": '{"x": 1'},
                {"type": "tool_call", "name": "h"},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"type": "tool_call_response", "id": "a", "response": {"c": 31}},
                {"type": "tool_call_response", "id": "b", "result": "broken", "is_error": True},
                {"type": "text", "content": "go on"},
            ],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "h", "response": None}]},
        {"role": "model", "parts": [{"type": "refusal", "content": "No."}]},
        {"role": "user", "content": "in OpenAI's spelling"},
    ]
    log = log_of({"gen_ai.input.messages": spell(asked)})
    assert log.messages == (
        Message(
            role="user",
            name="ann",
            content="look\nand this\ntoo",
            parts=[
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lG"}},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                {"type": "uri", "modality": "video", "uri": "gs://x/y.mp4"},
                {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE"}},
                {"type": "file", "file": {"file_id": "file-1"}},
                {"type": "hologram", "content": 3},
                {"type": "text", "text": "and this"},
                {"type": "text", "text": "too"},
                {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
            ],
        ),
        Message(
            role="assistant",
            reasoning="hm\nwell",
            tool_calls=(
                ToolCall(name="f", arguments='{"x":1}', id="a"),
                ToolCall(name="g", arguments='{"x": 1', id="b"),
                ToolCall(name="h", arguments="{}"),
            ),
        ),
        Message(role="tool", content='{"c":31}', tool_call_id="a"),
        Message(role="tool", content="broken", tool_call_id="b"),
        Message(role="user", content="go on"),
        Message(role="tool", content="null", tool_call_id="h"),
        Message(role="assistant", refusal="No."),
        Message(role="user", content="in OpenAI's spelling"),
    )
    assert log.extra == {
        "messages": {"0": {"parts": {"9": {"language": "en"}}}, "2": {"parts": {"1": {"is_error": True}}}}
    }


@pytest.mark.parametrize("spell", [lambda value: value, json.dumps], ids=["structured", "JSON"])
def test_instructions_answers_and_tools(spell: Any):
    definitions = [
        {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}},
        {"type": "function", "function": {"name": "g"}},
        {"type": "web_search"},
    ]
    answers = [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "a"}],
            "finish_reason": "tool_call",
            "mood": "good",
        },
        {
            "role": "assistant",
            "parts": [{"type": "tool_call_response", "id": "s", "response": 1}],
            "finish_reason": "length",
        },
        {"role": "assistant", "content": "c", "finish_reason": "tool_call"},
    ]
    log = log_of(
        {
            "gen_ai.system_instructions": spell([{"type": "text", "content": "Be brief."}]),
            "gen_ai.input.messages": spell([{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]),
            "gen_ai.output.messages": spell(answers),
            "gen_ai.tool.definitions": spell(definitions),
        }
    )
    assert log.messages == (Message(role="system", content="Be brief."), Message(role="user", content="hi"))
    assert log.output == (
        Message(role="assistant", content="a"),
        Message(role="assistant", parts=[{"type": "tool_call_response", "id": "s", "response": 1}]),
        Message(role="assistant", content="c"),
    )
    assert log.finish_reason == "tool_calls"
    assert log.extra == {"choices": {"0": {"mood": "good"}, "1": {"finish_reason": "length"}}}
    assert log.tools == [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "g"}},
        {"type": "web_search"},
    ]


def test_text_that_is_no_list_of_messages_is_kept_as_the_text_of_one():
    cut = '[{"role": "user", "parts": [{"type": "te'
    log = log_of({"gen_ai.input.messages": cut, "gen_ai.output.messages": "hello", "gen_ai.system_instructions": "Be."})
    assert [message.content for message in log.messages] == ["Be.", cut]
    assert log.output == (Message(role="assistant", content="hello"),)


def test_a_summary_of_reasoning_may_come_as_the_json_of_its_parts():
    """So OpenLLMetry tells that of the Responses API."""
    told_as = {
        '[{"text": "First", "type": "summary_text"}, {"text": "then", "type": "summary_text"}]': "First\nthen",
        '["no parts"]': '["no parts"]',
        "[]": "[]",
        '[{"type": "summary_text"}]': '[{"type": "summary_text"}]',
    }
    for content, reasoning in told_as.items():
        answer = {"role": "assistant", "parts": [{"type": "reasoning", "content": content}]}
        log = log_of({"gen_ai.operation.name": "chat", "gen_ai.output.messages": json.dumps([answer])})
        assert log.output == (Message(role="assistant", reasoning=reasoning),)


def test_what_stands_beside_the_content():
    found = told(
        {
            **CALL,
            "gen_ai.provider.name": "aws.bedrock",
            "gen_ai.request.model": "asked",
            "gen_ai.response.model": "answered",
            "gen_ai.response.id": "r-1",
            "gen_ai.response.finish_reasons": ["end_turn", "max_tokens"],
            "gen_ai.response.time_to_first_chunk": 0.5,
            "openai.response.service_tier": "default",
            "openai.request.service_tier": "auto",
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.choice.count": 2,
            "gen_ai.request.stop_sequences": ["x"],
            "gen_ai.output.type": "json",
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.usage.output_tokens": 3,
            "gen_ai.usage.total_tokens": 10,
            "gen_ai.usage.cache_read.input_tokens": 5,
            "gen_ai.usage.reasoning.output_tokens": 2,
            "gen_ai.usage.cost": 0.25,
            "gen_ai.conversation.id": "c-1",
            "gen_ai.agent.name": "helper",
            "server.port": 443,
        }
    )
    assert found.fields == {
        "provider": "aws.bedrock",
        "model": "answered",
        "response_id": "r-1",
        "finish_reason": "stop",
        "params": {"temperature": 0.5, "n": 2, "stop": ["x"], "service_tier": "auto", "output_type": "json"},
        "usage": Usage(input_tokens=7, output_tokens=3),
        "cost_usd": 0.25,
        "session_id": "c-1",
        "extra": {
            "request": {"model": "asked"},
            "response": {
                "time_to_first_chunk": 0.5,
                "service_tier": "default",
                "finish_reasons": ["end_turn", "max_tokens"],  # as the provider calls them
            },
            "choices": {"1": {"finish_reason": "length"}},
            "usage": {"cache_read.input_tokens": 5, "reasoning.output_tokens": 2},
        },
    }
    assert {"gen_ai.agent.name", "server.port"}.isdisjoint(found.used)


def test_a_single_reason_need_not_be_a_list():
    assert log_of({"gen_ai.response.finish_reasons": "length"}).finish_reason == "length"


def test_attributes_of_another_type_are_not_taken_for_what_they_are_not():
    found = told({**CALL, "gen_ai.request.model": 5, "gen_ai.usage.input_tokens": "7", "gen_ai.response.id": ["r"]})
    assert found.fields == {
        "params": {"model": 5},
        "extra": {"response": {"id": ["r"]}, "usage": {"input_tokens": "7"}},
    }


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("embeddings", "embeddings"),
        ("execute_tool", "tool"),
        ("invoke_agent", "agent"),
        ("create_agent", "agent"),
        ("invoke_workflow", "chain"),
        ("retrieval", "retrieval"),
        ("dance", "span"),
    ],
)
def test_other_operations_are_no_calls(operation: str, kind: str):
    found = told({"gen_ai.operation.name": operation, "gen_ai.request.model": "m", "gen_ai.conversation.id": "c"})
    assert (found.is_call, found.kind, found.note) == (False, kind, {"session_id": "c"})


def test_a_span_without_operation_is_a_call_if_a_model_wrote_something():
    model = {"gen_ai.request.model": "m"}
    assert not told(model).is_call
    assert not told({"gen_ai.usage.output_tokens": 3}).is_call
    assert told({**model, "gen_ai.usage.output_tokens": 3}).is_call
    assert told({**model, "gen_ai.completion": "x"}).is_call


def test_the_generation_of_json_text():
    log = log_of(
        {
            "gen_ai.system": "openai",
            "gen_ai.prompt": json.dumps([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]),
            "gen_ai.completion": json.dumps([{"role": "assistant", "content": "a"}]),
            "gen_ai.usage.prompt_tokens": 4,
            "gen_ai.usage.completion_tokens": 2,
        }
    )
    assert [message.content for message in (*log.messages, *log.output)] == ["s", "u", "a"]
    assert (log.provider, log.usage) == ("openai", Usage(input_tokens=4, output_tokens=2))


def test_the_generation_of_span_events_with_the_whole_content():
    log = log_of(
        {},
        event("gen_ai.content.prompt", **{"gen_ai.prompt": '[{"role": "user", "content": "u"}]'}),
        event("gen_ai.content.completion", **{"gen_ai.completion": '[{"role": "assistant", "content": "a"}]'}),
    )
    assert (log.messages, log.output) == (
        (Message(role="user", content="u"),),
        (Message(role="assistant", content="a"),),
    )


def test_the_generation_of_a_span_event_for_each_message():
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    log = log_of(
        {},
        event("gen_ai.system.message", content="s"),
        event("gen_ai.user.message", **{"gen_ai.event.content": '{"content": "u", "mood": "good"}'}),
        event("gen_ai.assistant.message", tool_calls=json.dumps(calls)),
        event("gen_ai.tool.message", id="a", content="[1, 2]"),
        event("gen_ai.choice", index=1, message="second", finish_reason="length"),
        event("gen_ai.choice", index=0, finish_reason="end_turn", message='[{"text": "first"}]'),
    )
    assert log.messages == (
        Message(role="system", content="s"),
        Message(role="user", content="u"),
        Message(role="assistant", tool_calls=(ToolCall(name="f", arguments="{}", id="a"),)),
        Message(role="tool", content="[1, 2]", tool_call_id="a"),
    )
    assert [message.content for message in log.output] == ["first", "second"]
    assert log.finish_reason == "stop"
    assert log.extra["messages"] == {"1": {"mood": "good"}}


def test_the_whole_content_may_be_an_event_of_the_span():
    asked = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "u"}]}])
    log = log_of({}, event("gen_ai.client.inference.operation.details", **{"gen_ai.input.messages": asked}))
    assert log.messages == (Message(role="user", content="u"),)


def record(name: str | None, *, body: Any = None, **attributes: Any) -> dict[str, Any]:
    """The item of a log record."""
    return {
        "resource": {"service.name": "shop"},
        "scope": {"name": "some.library", "version": ""},
        "log_record": {
            "trace_id": TRACE_ID,
            "span_id": SPAN_ID,
            "time_ns": 1_780_000_000_000_000_007,
            "event_name": name,
            "body": body,
            "attributes": attributes,
        },
    }


def test_the_event_of_one_message_is_a_part_of_its_call():
    part = decode(record("gen_ai.user.message", body={"content": "hi"}, **{"gen_ai.system": "openai"}), ts_ms=TS_MS)
    assert isinstance(part, Piece)
    assert (part.log.log_id, part.log.messages) == (
        span_log_id(TRACE_ID, SPAN_ID),
        (Message(role="user", content="hi"),),
    )
    assert (part.rank, part.message_ns, part.choices) == (0, (1_780_000_000_000_000_007,), ())
    assert (part.log.ts_ms, part.log.app, part.log.provider) == (1_780_000_000_000, "shop", "openai")
    assert part.log.extra is None
    more = decode(record("gen_ai.user.message", body={"content": "hi", "mood": "good"}), ts_ms=TS_MS)
    assert isinstance(more, Piece)
    assert more.log.extra == {"messages": {"1780000000000000007": {"mood": "good"}}}


def test_the_event_of_a_choice_may_have_its_body_as_json_and_its_name_as_attribute():
    body = json.dumps({"index": 1, "finish_reason": "stop", "message": {"content": "b"}, "logprobs": {"p": 1}})
    part = decode(record(None, body=body, **{"event.name": "gen_ai.choice"}), ts_ms=TS_MS)
    assert isinstance(part, Piece)
    assert (part.log.output, part.choices) == ((Message(role="assistant", content="b"),), (1,))
    assert part.log.finish_reason is None  # that of the call is the first choice's
    assert part.log.extra == {"choices": {"1": {"logprobs": {"p": 1}, "finish_reason": "stop"}}}
    first = decode(
        record("gen_ai.choice", body={"finish_reason": "end_turn", "message": {"content": "a"}}), ts_ms=TS_MS
    )
    assert isinstance(first, Piece)
    assert (first.log.finish_reason, first.log.extra, first.choices) == ("stop", None, (0,))


def test_the_calls_of_tools_of_a_choice_stand_in_its_message_or_beside_it():
    own, beside = ({"id": name, "function": {"name": name, "arguments": "{}"}} for name in ("own", "beside"))
    for message, name in (({"tool_calls": [own]}, "own"), ({"content": None}, "beside")):
        part = decode(record("gen_ai.choice", body={"message": message, "tool_calls": [beside]}), ts_ms=TS_MS)
        assert isinstance(part, Piece)
        assert [call.name for call in part.log.output[0].tool_calls] == [name]


def test_the_whole_content_may_stand_in_the_body_of_an_event():
    body = {"gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]}
    name = "gen_ai.client.inference.operation.details"
    item = record(None, body=body, **{"event.name": name, "gen_ai.request.model": "m", "error.type": "E", "x": 1})
    item["resource"]["host.name"] = "h"
    part = decode(item, ts_ms=TS_MS)
    assert isinstance(part, Piece)
    assert (part.rank, part.log.ts_ms, part.log.app) == (0, 1_780_000_000_000, "shop")
    assert (part.log.messages, part.log.model) == ((Message(role="user", content="hi"),), "m")
    assert part.log.extra == {"attributes": {"x": 1}, "resource": {"host.name": "h"}}
    assert (part.log.status, part.log.error) == ("error", "E")


def test_the_whole_content_without_a_span_is_a_log_of_its_own():
    details = record(
        "gen_ai.client.inference.operation.details", **{"gen_ai.input.messages": '[{"role":"user","content":"hi"}]'}
    )
    details["log_record"] |= {"trace_id": "", "span_id": ""}
    log = decode(details, ts_ms=TS_MS)
    assert isinstance(log, LogRecord)
    assert log.log_id.startswith("sha-")
    assert decode(details, ts_ms=TS_MS) == log


def test_the_whole_content_of_what_is_no_call():
    details = record("gen_ai.client.inference.operation.details", **{"gen_ai.operation.name": "embeddings"})
    assert decode(details, ts_ms=TS_MS) == NotACall("embeddings")


def test_an_evaluation_is_feedback():
    item = record(
        "gen_ai.evaluation.result",
        **{
            "gen_ai.evaluation.name": "relevance",
            "gen_ai.evaluation.score.value": 0.5,
            "gen_ai.evaluation.score.label": "fair",
            "gen_ai.evaluation.explanation": "so so",
            "gen_ai.response.id": "r-1",
        },
    )
    found = decode(item, ts_ms=TS_MS)
    assert isinstance(found, Feedback)
    assert found == Feedback(
        feedback_id=found.feedback_id,
        ts_ms=1_780_000_000_000,
        name="relevance",
        log_id=span_log_id(TRACE_ID, SPAN_ID),
        response_id="r-1",
        score=0.5,
        label="fair",
        comment="so so",
    )
    assert decode(item, ts_ms=TS_MS + 1) == found  # a replay is the same feedback
    item["log_record"]["span_id"] = ""
    of_trace = decode(item, ts_ms=TS_MS)
    assert isinstance(of_trace, Feedback)
    assert (of_trace.log_id, of_trace.trace_id) == (None, TRACE_ID)
    item["log_record"]["trace_id"] = ""
    of_response = decode(item, ts_ms=TS_MS)
    assert isinstance(of_response, Feedback)
    assert (of_response.log_id, of_response.trace_id, of_response.response_id) == (None, None, "r-1")
    for missing in ("gen_ai.response.id", "gen_ai.evaluation.name"):
        attributes = {key: value for key, value in item["log_record"]["attributes"].items() if key != missing}
        with pytest.raises(Undecodable) as caught:
            decode({**item, "log_record": {**item["log_record"], "attributes": attributes}}, ts_ms=TS_MS)
        assert caught.value.code == "invalid"


@pytest.mark.parametrize("name", [None, "some.event", 5, ["gen_ai.choice"]])
def test_other_log_records_are_no_calls(name: Any):
    item = record(None, body="text", **({"event.name": name} if name else {}))
    item["log_record"] |= {"trace_id": "", "span_id": ""}
    assert decode(item, ts_ms=TS_MS) == NotACall("log_record")


@pytest.mark.parametrize("name", ["gen_ai.user.message", "gen_ai.choice", "gen_ai.evaluation.result"])
def test_an_event_that_names_no_call_is_rejected(name: str):
    item = record(name, body={"content": "x"})
    item["log_record"] |= {"trace_id": "", "span_id": ""}
    with pytest.raises(Undecodable) as caught:
        decode(item, ts_ms=TS_MS)
    assert caught.value.code == "invalid"


_NAMES = st.sampled_from(
    [
        *("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.tool.definitions"),
        *("gen_ai.prompt", "gen_ai.completion", "gen_ai.request.model", "gen_ai.response.finish_reasons", "error.type"),
        *("gen_ai.response.id", "gen_ai.usage.input_tokens", "gen_ai.usage.cost", "gen_ai.request.temperature"),
        *("gen_ai.event.content", "content", "message", "tool_calls", "index", "finish_reason", "id", "event.name"),
        *("gen_ai.evaluation.name", "gen_ai.evaluation.score.value", "gen_ai.operation.name", "gen_ai.conversation.id"),
    ]
)
_EVENTS = st.sampled_from(
    [
        *("gen_ai.client.inference.operation.details", "gen_ai.choice", "gen_ai.user.message", "gen_ai.tool.message"),
        *("gen_ai.content.prompt", "gen_ai.content.completion", "gen_ai.evaluation.result", "exception"),
    ]
)


@given(st.dictionaries(_NAMES, attribute_values, max_size=6), _EVENTS, attribute_values)
def test_any_log_record_is_read_or_rejected(attributes: dict[str, Any], name: str, body: Any):
    try:
        decode(record(name, body=body, **attributes), ts_ms=TS_MS)
    except Undecodable as error:
        assert error.code in ("invalid", "too_deep", "bad_time")


@given(
    st.dictionaries(_NAMES, attribute_values, max_size=6),
    _EVENTS,
    st.dictionaries(_NAMES, attribute_values, max_size=4),
)
def test_any_span_is_read(attributes: dict[str, Any], name: str, of_event: dict[str, Any]):
    found = told({**attributes, "gen_ai.x": 1}, SpanEvent(name, 0, of_event))
    LogRecord(log_id=payload_log_id(b""), ts_ms=0, **{"messages": (), **found.fields})

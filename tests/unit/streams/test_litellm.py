"""LiteLLM's payloads: those that it was seen to post, and those that its other calls make."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clients.cases import CASES
from clients.compare import differences
from fakes.odd_json import check, odd
from hypothesis import given, settings

from tunemill.schemas.records import LogRecord, Message, ToolCall, Usage
from tunemill.streams.decode import decode
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.shape import NotACall, Reading
from tunemill.streams.unpack import unpack

CAPTURES = Path(__file__).parent / "captures" / "litellm"
CLIENTS = ("plain", "turns", "streaming", "tools", "image", "scripts", "error", "choices")
REDACTED = "redacted-by-litellm"
MESSAGES = [{"role": "user", "content": "hi"}]
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "m-1-0613",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
}
FAILED = {
    "status": "failure",
    "response": {},
    "id": "call-1",
    "error_information": {
        "error_class": "RateLimitError",
        "error_code": "429",
        "error_message": "slow down",
        "traceback": "File ...",
    },
}


def capture(name: str) -> dict[str, Any]:
    return json.loads((CAPTURES / f"{name}.json").read_text(encoding="utf-8"))


def payload(**fields: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "trace_id": "trace-1",
        "call_type": "acompletion",
        "status": "success",
        "custom_llm_provider": "openai",
        "startTime": 1_780_000_000.123,
        "endTime": 1_780_000_001.373,
        "model": "m-1",
        "response_cost": 0.25,
        "messages": MESSAGES,
        "response": CHAT,
        "model_parameters": {},
        "metadata": {},
        **fields,
    }


def decoded(**fields: Any) -> Reading:
    return decode(json.dumps(payload(**fields)).encode(), ts_ms=7)


def of(**fields: Any) -> LogRecord:
    found = decoded(**fields)
    assert isinstance(found, LogRecord)
    return found


@pytest.mark.parametrize("name", CLIENTS)
def test_what_litellm_posts(name: str):
    value = capture(name)
    log = decode(json.dumps(value).encode(), ts_ms=7)
    assert isinstance(log, LogRecord)
    # The picture was cut: MAX_BASE64_LENGTH_FOR_LOGGING was as it comes.
    assert set(differences(CASES["chat", name], log, model=value["model"])) <= (
        {"messages"} if name == "image" else set()
    )
    assert (log.source, log.provider) == ("litellm", "openai")
    assert (log.user_id, log.session_id) == (f"user of {value['model']}", f"session of {value['model']}")
    assert log.tags == ("team:shop", "beta")


def test_the_fields_around_a_call():
    log = of(model_parameters={"temperature": 0.5, "user": "u-1", "tools": [{"type": "function"}]}, model_group="fast")
    assert (log.log_id, log.response_id) == ("chatcmpl-1-1780000000123", "chatcmpl-1")
    assert (log.ts_ms, log.latency_ms, log.cost_usd) == (1_780_000_000_123, pytest.approx(1250), 0.25)
    assert (log.model, log.user_id, log.tools, log.params) == (
        "m-1-0613",
        "u-1",
        [{"type": "function"}],
        {"temperature": 0.5},
    )
    assert log.extra == {"request": {"model": "m-1"}, "record": {"model_group": "fast"}}


def test_a_call_that_succeeded_has_not_failed_if_its_answer_is_left_out():
    log = of(response=None, endTime=None)
    assert (log.status, log.error, log.output, log.latency_ms) == ("ok", None, (), None)


def test_an_answer_that_tells_of_a_failure_is_believed():
    failed = {"object": "response", "status": "failed", "output": [], "error": {"code": "server_error"}}
    log = of(call_type="responses", response=failed)
    assert (log.status, log.error) == ("error", "server_error")


def test_a_price_that_litellm_does_not_know_is_none():
    assert of(response_cost=0.0).cost_usd == 0.0
    assert of(response_cost=0.0, response_cost_failure_debug_info={"error_str": "not mapped"}).cost_usd is None


def test_a_session_is_the_trace_unless_told_apart():
    assert (of().trace_id, of().session_id) == ("trace-1", "trace-1")
    assert of(session_id="s-1").session_id == "s-1"


@pytest.mark.parametrize(
    "fields",
    [
        {"model_parameters": {"user": "u-1"}, "end_user": "u-2"},
        {"end_user": "u-1", "metadata": {"user_api_key_end_user_id": "u-2"}},
        {"end_user": "", "metadata": {"user_api_key_end_user_id": "u-1"}},
    ],
)
def test_who_asked_is_the_callers_word_first(fields: dict[str, Any]):
    assert of(**fields).user_id == "u-1"


def test_who_called_the_proxy_is_metadata_and_what_tells_of_a_person_is_dropped():
    private = "somebody private"
    log = of(
        metadata={
            "user_api_key_alias": "shop",
            "user_api_key_team_alias": "sales",
            "user_api_key_hash": "abc",
            "user_api_key_user_email": private,
            "user_api_key_auth_metadata": {"mail": private},
            "requester_ip_address": private,
            "user_agent": private,
            "requester_custom_headers": {"x-name": private},
            "requester_metadata": {"tier": "gold", "n": 1},
            "spend_logs_metadata": {"cost_center": "7"},
            "applied_guardrails": ["pii"],
        },
        requester_ip_address=private,
        user_agent=private,
        request_tags=["team:shop", "User-Agent: curl", "User-Agent: curl/8"],
        hidden_params={"litellm_overhead_time_ms": 3.0, "additional_headers": {"set-cookie": private}},
        response_cost_failure_debug_info={"traceback_str": private},
    )
    assert log.metadata == {
        "user_api_key_alias": "shop",
        "user_api_key_team_alias": "sales",
        "user_api_key_hash": "abc",
        "tier": "gold",
        "n": "1",
        "cost_center": "7",
    }
    assert log.tags == ("team:shop",)
    assert log.extra["record"] == {
        "litellm_metadata": {"applied_guardrails": ["pii"]},
        "hidden_params": {"litellm_overhead_time_ms": 3.0},
    }
    assert private not in msgspec.json.encode(log).decode()


def test_a_providers_key_in_its_address_is_dropped():
    log = of(
        api_base="https://me:secret@example.org/v1/m:generate?key=secret", hidden_params={"api_base": "?key=secret"}
    )
    assert log.extra["record"] == {"api_base": "example.org/v1/m:generate"}


def test_a_call_that_failed():
    log = of(**FAILED)
    assert (log.status, log.error, log.output, log.usage) == ("error", "RateLimitError", (), Usage())
    assert log.extra["error"]["error_message"] == "slow down"
    assert "traceback" not in log.extra["error"]
    assert of(**{**FAILED, "error_information": {"error_code": "500"}}).error == "500"
    assert of(**{**FAILED, "error_information": None}).error == "unnamed"


def test_each_attempt_that_failed_is_a_log():
    assert of(**FAILED).log_id != of(**FAILED, startTime=1_780_000_005.0).log_id


def test_details_of_tokens_that_no_answer_tells_are_kept():
    counted = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}
    log = of(
        response={"text": "ok", "created": 5}, prompt_tokens=3, completion_tokens=4, metadata={"usage_object": counted}
    )
    assert log.usage == Usage(input_tokens=3, output_tokens=4)
    assert log.extra["usage"] == {"prompt_tokens_details": {"cached_tokens": 2}}
    assert log.extra["response"] == {"created": 5}


def test_what_came_back_of_a_call_that_failed_is_kept_whatever_it_is():
    log = of(**{**FAILED, "response": {"detail": "odd"}})
    assert (log.status, log.error, log.extra["response"]) == ("error", "RateLimitError", {"detail": "odd"})


def test_an_answer_that_is_text():
    log = of(response="ok", prompt_tokens=3, completion_tokens=4)
    assert log.output == (Message(role="assistant", content="ok"),)
    assert log.usage == Usage(input_tokens=3, output_tokens=4)


@pytest.mark.parametrize("messages", ["hi", MESSAGES, MESSAGES[0], {"messages": MESSAGES}])
def test_what_was_asked_in_each_of_its_forms(messages: Any):
    assert of(messages=messages).messages == (Message(role="user", content="hi"),)


def test_text_completions():
    response = {**CHAT, "object": "text_completion", "choices": [{"text": " ok", "finish_reason": "length"}]}
    log = of(call_type="atext_completion", messages="hi", response=response)
    assert (log.operation, log.output[0].content, log.finish_reason) == ("text_completion", " ok", "length")


def test_the_responses_api():
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    log = of(
        call_type="aresponses",
        messages=[*MESSAGES, call, {"type": "function_call_output", "call_id": "c1", "output": "one"}],
        model_parameters={"tools": [tool], "instructions": "Be brief."},
        response={"id": "resp_1", "object": "response", "status": "completed", "output": [call]},
    )
    called = ToolCall(name="f", arguments="{}", id="c1")
    assert [message.role for message in log.messages] == ["system", "user", "assistant", "tool"]
    assert log.output == (Message(role="assistant", tool_calls=(called,)),)
    assert log.tools == [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    assert log.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    "response",
    [CHAT, {"type": "message", "content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn"}],
    ids=["as a chat completion", "as it came"],
)
def test_anthropics_messages(response: Any):
    asked = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "one"}]},
    ]
    log = of(call_type="anthropic_messages", messages=asked, response=response)
    assert log.messages == (
        Message(role="system", content="Be brief."),
        Message(role="tool", content="one", tool_call_id="t1"),
    )
    assert (log.output, log.finish_reason) == ((Message(role="assistant", content="ok"),), "stop")


def test_a_refusal_that_litellm_puts_aside():
    message = {"role": "assistant", "content": None, "provider_specific_fields": {"refusal": "No.", "more": 1}}
    log = of(response={**CHAT, "choices": [{"message": message, "finish_reason": "stop"}]})
    assert log.output[0].refusal == "No."
    assert log.extra["choices"] == {"0": {"provider_specific_fields": {"more": 1}}}


SWITCHED_OFF = {"role": "assistant", "content": REDACTED}
ITEM_SWITCHED_OFF = {**SWITCHED_OFF, "type": "message", "content": [{"type": "output_text", "text": REDACTED}]}


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [SWITCHED_OFF], "response": REDACTED},
        {"messages": REDACTED, "response": {"text": REDACTED}},
        {"messages": [SWITCHED_OFF], "response": {**CHAT, "choices": [{"message": SWITCHED_OFF}]}},
        {"messages": MESSAGES, "response": {"text": REDACTED}},
        {"messages": [SWITCHED_OFF]},
        {
            "call_type": "responses",
            "messages": MESSAGES,
            "response": {"object": "response", "output": [ITEM_SWITCHED_OFF]},
        },
    ],
)
def test_a_call_whose_text_is_switched_off_is_counted_and_says_so(fields: dict[str, Any]):
    log = of(**fields)
    assert log.messages in ((Message(role="user", content=REDACTED),), (Message(role="user", content="hi"),))
    assert (log.output, log.status, log.error) == ((), "ok", None)
    assert (log.metadata, log.cost_usd) == ({"redacted": "litellm"}, 0.25)


@pytest.mark.parametrize(
    ("call_type", "kind"),
    [
        ("aembedding", "embeddings"),
        ("embedding", "embeddings"),
        ("aimage_generation", "image"),
        ("moderation", "moderation"),
        ("atranscription", "audio"),
        ("arerank", "rerank"),
        ("acreate_batch", "other"),
        ("call_mcp_tool", "other"),
    ],
)
def test_what_generates_no_text_is_no_call(call_type: str, kind: str):
    assert decoded(call_type=call_type, response={"object": "list", "data": []}) == NotACall(kind)


def test_a_kind_of_call_that_is_new_is_known_by_its_answer():
    assert of(call_type="a_call_of_next_year").output[0].content == "ok"


def test_one_many_or_lines():
    one = payload()
    for body in (json.dumps([one, one]), f"{json.dumps(one)}\n{json.dumps(one)}"):
        assert len(unpack(body.encode())) == 2


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"startTime": "now"}, "bad_time"),
        ({"startTime": -5}, "bad_time"),
        ({"response": 5}, "invalid"),
        ({"response": {"candidates": []}}, "invalid"),
        ({"messages": None}, "invalid"),
        ({"messages": [5]}, "invalid"),
        ({"metadata": "x"}, "invalid"),
        ({"response_cost": "free"}, "invalid"),
    ],
)
def test_what_cannot_be_read_is_refused(fields: dict[str, Any], code: str):
    with pytest.raises(Undecodable) as caught:
        decoded(**fields)
    assert caught.value.code == code


@settings(deadline=None, max_examples=400)
@given(odd([capture(name) for name in CLIENTS]))
def test_odd_payloads_are_read_or_refused(value: Any):
    check(value)

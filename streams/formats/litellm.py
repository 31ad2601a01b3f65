"""`StandardLoggingPayload`: what LiteLLM hands its callbacks and posts to its generic webhook, one per call.

Field names: https://docs.litellm.ai/docs/proxy/logging_spec
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from tunemill.schemas.ids import span_log_id
from tunemill.schemas.records import LogRecord, Message, Usage
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats import anthropic, openai_pair, responses
from tunemill.streams.formats.fields import read_count, read_list, read_number, read_object, read_text
from tunemill.streams.formats.pair import NO_ANSWER, Half, join
from tunemill.streams.formats.shape import Arrival, Envelope, JsonObject, NotACall, Shape, left_over, read_metadata
from tunemill.streams.formats.times import read_epoch_ms

REDACTED = "redacted-by-litellm"  # stands where the operator has switched the text off
_NOT_CALLS = {
    "embedding": "embeddings",
    "image_generation": "image",
    "image_edit": "image",
    "moderation": "moderation",
    "transcription": "audio",
    "speech": "audio",
    "rerank": "rerank",
}
_CALLS = frozenset(("completion", "text_completion", "responses", "anthropic_messages"))
_FIELDS = frozenset(
    (
        *(
            "id",
            "trace_id",
            "session_id",
            "call_type",
            "status",
            "custom_llm_provider",
            "model",
            "messages",
            "response",
        ),
        *(
            "total_tokens",
            "prompt_tokens",
            "completion_tokens",
            "startTime",
            "endTime",
            "response_cost",
            "request_tags",
        ),
        *("model_parameters", "end_user", "metadata", "error_str", "error_information", "hidden_params"),
        *("app", "project"),
        # Not kept: what tells of a person's machine, traces of LiteLLM's own code, its list of prices.
        *("requester_ip_address", "user_agent", "response_cost_failure_debug_info", "model_map_information"),
    )
)
_KEY_FIELDS = tuple(  # of the payload's metadata: who called the proxy, by names that the operator gave
    f"user_api_key_{name}"
    for name in (
        *("hash", "alias", "team_id", "team_alias", "org_id", "org_alias", "project_id", "project_alias"),
        *("user_id", "request_route"),
    )
)
_OWN_METADATA = ("requester_metadata", "spend_logs_metadata")  # the caller's own pairs
_PERSONAL = frozenset(  # not kept: what tells of a person or a machine
    (
        *("user_api_key_user_email", "user_api_key_auth_metadata", "requester_ip_address", "user_agent"),
        *("requester_custom_headers",),
    )
)
_METADATA_USED = frozenset((*_KEY_FIELDS, *_OWN_METADATA, "user_api_key_end_user_id", "usage_object")) | _PERSONAL
_HIDDEN_USED = frozenset(("additional_headers", "usage_object", "api_base", "cache_key"))  # the last two are told twice
_ERROR_USED = frozenset(("traceback",))
_COUNTS = frozenset(("prompt_tokens", "completion_tokens", "total_tokens"))


def without_personal(metadata: Mapping[str, Any]) -> JsonObject:
    """Metadata as it is, unless LiteLLM wrote it: then without what tells of a person or a machine."""
    dropped = _PERSONAL if any(name.startswith("user_api_key_") for name in metadata) else ()
    return {name: item for name, item in metadata.items() if name not in dropped}


def _matches(value: Mapping[str, Any]) -> bool:
    return "call_type" in value and "startTime" in value


def _read(value: JsonObject, arrival: Arrival) -> LogRecord | NotACall:
    kind = _kind(read_text(value, "call_type") or "")
    response = value.get("response")
    if kind in _NOT_CALLS:
        return NotACall(_NOT_CALLS[kind])
    if kind not in _CALLS and not _is_answer(response):
        return NotACall("other")
    is_redacted = _is_redacted(value.get("messages")) or _is_redacted(response)
    log = join(
        _read_request(value, kind),
        _read_response(value, response),
        envelope=_envelope(value),
        arrival=arrival,
        source=SHAPE.name,
        beside=_beside(value, is_redacted=is_redacted),
    )
    if is_redacted:
        log = msgspec.structs.replace(log, output=())
    if log.error == NO_ANSWER and read_text(value, "status") == "success":  # the answer may not be told
        log = msgspec.structs.replace(log, status="ok", error=None)
    return msgspec.structs.replace(log, extra=_without_nulls(log.extra) or None)


def _kind(call_type: str) -> str:
    """The call's kind without the mark of LiteLLM's asynchronous functions."""
    name = call_type.removeprefix("_")
    return name if name in _CALLS or name in _NOT_CALLS else name.removeprefix("a")


def _is_answer(response: Any) -> bool:
    """Whether this is a text that a model generated, in the words of one of the APIs that we read."""
    return isinstance(response, dict) and ("choices" in response or "output" in response or "content" in response)


def _is_redacted(value: Any) -> bool:
    """Whether the text is switched off, in any of the forms in which LiteLLM says so."""
    if isinstance(value, dict):
        return any(_is_redacted(value.get(name)) for name in ("choices", "output", "message", "content", "text"))
    if isinstance(value, list):
        return any(_is_redacted(item) for item in value)
    return bool(value == REDACTED)


def _read_request(value: JsonObject, kind: str) -> Half:
    messages = value.get("messages")
    request = {**read_object(value, "model_parameters"), "model": value.get("model")}
    if isinstance(messages, dict):
        messages = messages.get("messages", [messages])
    if _is_redacted(messages):
        messages = [{"role": "user", "content": REDACTED}]
    if kind == "responses":
        return responses.read_request({**request, "input": messages})
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if kind == "anthropic_messages":
        return anthropic.read_request({**request, "messages": messages})
    asked = openai_pair.read_request({**request, "messages": messages or []})
    return Half({**asked.fields, "operation": kind if kind == "text_completion" else "chat"}, asked.rests)


def _read_response(value: JsonObject, response: Any) -> Half:
    text = response.get("text") if isinstance(response, dict) else response
    if isinstance(text, str):
        rest = left_over(response, frozenset(("text",))) if isinstance(response, dict) else {}
        answered = Half({"output": (Message(role="assistant", content=text),)}, {"response": rest})
    elif not response:
        answered = Half({})
    elif not isinstance(response, dict):
        raise Undecodable("invalid", "response is neither text nor an object")
    elif "output" in response:
        answered = responses.read_response(response)
    elif response.get("type") == "message":
        answered = anthropic.read_response(response)
    elif "choices" in response:
        choices = read_list(response, "choices", "response")
        answered = openai_pair.read_response({**response, "choices": [_choice(choice) for choice in choices]})
    elif read_text(value, "status") == "failure":
        answered = Half({}, {"response": response})
    else:
        raise Undecodable("invalid", "response is of no API that we know")
    counted = Usage(
        input_tokens=read_count(value, "prompt_tokens") or None, output_tokens=read_count(value, "completion_tokens")
    )
    if not counted.input_tokens or answered.fields.get("usage") not in (None, Usage()):
        return answered
    details = left_over(read_object(read_object(value, "metadata"), "usage_object", "metadata"), _COUNTS)
    return Half({**answered.fields, "usage": counted}, {**answered.rests, "usage": details}, answered.error)


def _choice(choice: Any) -> Any:
    """LiteLLM puts a refusal among the fields that it thinks only one provider has."""
    message = choice.get("message") if isinstance(choice, dict) else None
    own = message.get("provider_specific_fields") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(own, dict) or not isinstance(own.get("refusal"), str):
        return choice
    rest = {name: item for name, item in own.items() if name != "refusal"}
    return {**choice, "message": {**message, "provider_specific_fields": rest, "refusal": own["refusal"]}}


def _envelope(value: JsonObject) -> Envelope:
    start_ms, end_ms = read_epoch_ms(value, "startTime"), read_epoch_ms(value, "endTime")
    payload_id, session = read_text(value, "id"), read_text(value, "session_id")
    trace = read_text(value, "trace_id")
    ts_ms = None if start_ms is None else round(start_ms)
    params, metadata = read_object(value, "model_parameters"), read_object(value, "metadata")
    users = (params.get("user"), value.get("end_user"), metadata.get("user_api_key_end_user_id"))
    # Where it has no price for a model, LiteLLM says that the call was free.
    is_priced = not value.get("response_cost_failure_debug_info")
    return Envelope(
        # Some servers' ids come again after a while, and the attempts of one call that failed share one.
        log_id=None if not payload_id else span_log_id(payload_id, str(ts_ms)),
        ts_ms=ts_ms,
        provider=read_text(value, "custom_llm_provider"),
        cost_usd=read_number(value, "response_cost") if is_priced else None,
        latency_ms=None if start_ms is None or end_ms is None else max(0.0, end_ms - start_ms),
        trace_id=trace,
        session_id=session or trace,  # unless told to keep them apart, LiteLLM calls a session a trace
        user_id=next((user for user in users if isinstance(user, str) and user), None),
        tags=_tags(value),
        # Our SDK's callback says these.
        app=read_text(value, "app"),
        project=read_text(value, "project"),
    )


def _tags(value: JsonObject) -> tuple[str, ...]:
    """The request's tags, without those that LiteLLM makes of the caller's program."""
    tags = read_list(value, "request_tags")
    return tuple(tag for tag in tags if isinstance(tag, str) and not tag.startswith("User-Agent: "))


def _beside(value: JsonObject, *, is_redacted: bool) -> JsonObject:
    """What is in the payload beside request and response, less what tells of a person or a machine."""
    metadata, hidden = read_object(value, "metadata"), read_object(value, "hidden_params")
    address, failed = _without_keys(value.get("api_base")), read_text(value, "status") == "failure"
    own = [metadata[name] for name in _OWN_METADATA if isinstance(metadata.get(name), dict)]
    told = {name: metadata[name] for name in _KEY_FIELDS if metadata.get(name)}
    return {
        **left_over({**value, "api_base": address}, _FIELDS),
        "litellm_metadata": left_over(metadata, _METADATA_USED),
        "hidden_params": left_over(hidden, _HIDDEN_USED),
        "error_information": None if failed else _error_information(value),
        "metadata": {
            **told,
            **{name: item for pairs in own for name, item in read_metadata(pairs).items()},
            **({"redacted": "litellm"} if is_redacted else {}),
        },
        "error": _error(value),
    }


def _without_keys(address: Any) -> Any:
    """The address of a model's server; some providers' keys stand in it."""
    return address.partition("?")[0].rpartition("@")[2] if isinstance(address, str) else None


def _error(value: JsonObject) -> Any:
    if read_text(value, "status") != "failure":
        return None
    told = _error_information(value)
    return {**told, "code": told.get("error_class") or told.get("error_code")}


def _error_information(value: JsonObject) -> JsonObject:
    return left_over(read_object(value, "error_information"), _ERROR_USED)


def _without_nulls(value: Any) -> Any:
    """LiteLLM names every field that it could have filled; those that it did not are left out."""
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return {name: item for name, item in kept.items() if item not in ({}, [])}


SHAPE = Shape("litellm", _matches, _read, about="LiteLLM's StandardLoggingPayload: the generic webhook, or a callback")

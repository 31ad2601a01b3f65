"""What a client does not tell, and why: by client, case and field. A gap that closes fails its test, so that the list stays true."""

from collections.abc import Iterable

from clients import chat_cases, responses_cases

Gaps = dict[tuple[str, str, str], str]

_CHAT = tuple(case.name for case in chat_cases.TABLE if case.status < 400)
_RESPONSES = tuple(case.name for case in (*responses_cases.TABLE, *responses_cases.MORE) if case.status < 400)
_LANGFUSE = ("langfuse2", "langfuse3", "langfuse4", "langfuse5")
_OPENAI_V2 = ("otel_openai_span", "otel_openai_event", "otel_openai_json")
_NO_ID = "the drop-in client does not send the answer's id"
_NO_REASON = "the drop-in client sends the answer's messages and not why they ended"
_PARSED = "the client parses the arguments: their values arrive, not their spelling"
_NO_PARTS = "the client tells no content that is a list of parts, not even its text"
_NO_N = "the client does not tell how many choices were asked for"


def _gaps(clients: Iterable[str], cases: Iterable[str], fields: Iterable[str], why: str) -> Gaps:
    cases, fields = tuple(cases), tuple(fields)
    return {(client, case, field): why for client in clients for case in cases for field in fields}


GAPS: Gaps = {
    **_gaps(_LANGFUSE, _CHAT, ["response_id"], _NO_ID),
    **_gaps(["langfuse2"], _CHAT, ["finish_reason"], _NO_REASON),
    **_gaps(_LANGFUSE[1:], [name for name in _CHAT if name != "streaming"], ["finish_reason"], _NO_REASON),
    **_gaps(["langfuse5_responses"], [name for name in _RESPONSES if "streaming" not in name], ["response_id"], _NO_ID),
    **_gaps(
        [*_LANGFUSE, "langfuse5_responses"],
        ["image"],
        ["parts"],
        "the client uploads pictures, and refers to them in the message",
    ),
    **_gaps(_OPENAI_V2, ["tools"], ["arguments"], _PARSED),
    **_gaps(_OPENAI_V2, ["tools"], ["tools"], "the client does not tell the definitions of the tools"),
    **_gaps(_OPENAI_V2, ["image"], ["messages", "parts"], _NO_PARTS),
    ("otel_openai_old", "tools", "tools"): "the conventions of then have no place for the definitions of tools",
    ("otel_openai_old", "choices", "params"): _NO_N,
    **_gaps(["openllmetry", "openllmetry_event", "openllmetry_old"], ["choices"], ["params"], _NO_N),
    ("openllmetry", "tools", "arguments"): _PARSED,
    ("openllmetry_responses", "plain", "params"): "the client tells `max_output_tokens` as `max_tokens`",
    **_gaps(["openllmetry_responses"], ["tools", "streaming_tools"], ["arguments"], _PARSED),
    **_gaps(
        ["openllmetry_responses"],
        ["tools", "streaming_tools"],
        ["tool_call_ids"],
        "the client tells the id of the item and not that of the call",
    ),
    **_gaps(["openllmetry_responses"], ["tools", "streaming_tools"], ["tools"], "the client leaves out `strict`"),
    (
        "openllmetry_event",
        "streaming",
        "output",
    ): "the client files the answer of a stream under the span around the call",
    ("openllmetry_event", "tools", "tool_call_ids"): "the client's event of a tool's result does not say of which call",
    ("openllmetry_event", "tools", "tools"): "the client's events have no place for the definitions of tools",
    ("openllmetry_old", "streaming", "usage"): "the client counts the tokens of a stream only with tiktoken's files",
    ("litellm_single", "image", "parts"): "LiteLLM cuts long base64 unless `MAX_BASE64_LENGTH_FOR_LOGGING` is 0",
}
# Logs beyond one for each call.
STRAY = {"openllmetry_event": 1}  # the answer of a stream, which the client files under the span around the call

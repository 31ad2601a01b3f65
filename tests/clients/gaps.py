"""What a client does not tell, and why: by client, case and field. A gap that closes fails its test, so that the list stays true."""

from collections.abc import Iterable

from clients.cases import TABLE

Gaps = dict[tuple[str, str, str], str]

_ANSWERED = tuple(case.name for case in TABLE if case.status < 400)
_LANGFUSE = ("langfuse2", "langfuse3", "langfuse4", "langfuse5")
_OPENAI_V2 = ("otel_openai_span", "otel_openai_event", "otel_openai_json")


def _gaps(clients: Iterable[str], cases: Iterable[str], fields: Iterable[str], why: str) -> Gaps:
    cases, fields = tuple(cases), tuple(fields)
    return {(client, case, field): why for client in clients for case in cases for field in fields}


GAPS: Gaps = {
    **_gaps(_LANGFUSE, _ANSWERED, ["response_id"], "the drop-in client does not send the answer's id"),
    **_gaps(
        _LANGFUSE,
        [name for name in _ANSWERED if name != "streaming"],
        ["finish_reason"],
        "the drop-in client sends the answer's messages and not why they ended",
    ),
    (
        "langfuse2",
        "streaming",
        "finish_reason",
    ): "the drop-in client sends the answer's messages and not why they ended",
    **_gaps(_LANGFUSE, ["image"], ["parts"], "the client uploads pictures, and refers to them in the message"),
    **_gaps(
        _OPENAI_V2, ["tools"], ["arguments"], "the client parses the arguments: their values arrive, not their spelling"
    ),
    **_gaps(_OPENAI_V2, ["tools"], ["tools"], "the client does not tell the definitions of the tools"),
    **_gaps(
        _OPENAI_V2,
        ["image"],
        ["messages", "parts"],
        "the client tells no content that is a list of parts, not even its text",
    ),
    ("otel_openai_old", "tools", "tools"): "the conventions of then have no place for the definitions of tools",
    ("otel_openai_old", "choices", "params"): "the client does not tell how many choices were asked for",
    ("openllmetry", "tools", "arguments"): "the client parses the arguments: their values arrive, not their spelling",
    **_gaps(
        ["openllmetry", "openllmetry_event", "openllmetry_old"],
        ["choices"],
        ["params"],
        "the client does not tell how many choices were asked for",
    ),
    (
        "openllmetry_event",
        "tools",
        "tool_call_ids",
    ): "the client's event of a tool's result does not say of which call it is",
    ("openllmetry_event", "tools", "tools"): "the client's events have no place for the definitions of tools",
    (
        "openllmetry_event",
        "streaming",
        "output",
    ): "the client files the answer of a stream under the span around the call",
    (
        "openllmetry_old",
        "streaming",
        "usage",
    ): "the client counts the tokens of a stream only with tiktoken's files at hand",
    ("litellm_single", "image", "parts"): "LiteLLM cuts long base64 unless MAX_BASE64_LENGTH_FOR_LOGGING is 0",
}
# Logs beyond one for each call.
STRAY = {"openllmetry_event": 1}  # the answer of a stream, which the client files under the span around the call

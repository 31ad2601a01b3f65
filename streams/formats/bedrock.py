"""Model invocation logs of Amazon Bedrock, as CloudWatch or S3 hold them: one record per call.

Field names: https://docs.aws.amazon.com/bedrock/latest/userguide/model-invocation-logging.html
"""

from collections.abc import Mapping
from typing import Any

from tunemill.schemas.records import LogRecord, Usage
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats import anthropic, bedrock_converse, bedrock_prompt, openai_pair
from tunemill.streams.formats.anthropic_events import is_events as is_anthropic_events
from tunemill.streams.formats.chunks import read_chunks
from tunemill.streams.formats.fields import read_count, read_list, read_object, read_text
from tunemill.streams.formats.pair import Half, join
from tunemill.streams.formats.shape import Arrival, Envelope, JsonObject, NotACall, Shape, left_over, read_metadata
from tunemill.streams.formats.times import read_iso_ms

_FIELDS = frozenset(
    (
        *("schemaType", "schemaVersion", "timestamp", "accountId", "identity", "region", "requestId"),
        *("modelId", "inferenceRegion", "errorCode", "input", "output", "requestMetadata"),
    )
)
_BODY_FIELDS = frozenset(
    (
        *("inputContentType", "inputBodyJson", "inputTokenCount"),
        *("outputContentType", "outputBodyJson", "outputTokenCount"),
    )
)
_BODY = "output.outputBodyJson"
_NOT_CALLS = {  # fields of the bodies of models that generate no text
    "embedding": "embeddings",
    "embeddings": "embeddings",
    "embeddingsByType": "embeddings",
    "images": "image",
    "artifacts": "image",
    "taskType": "image",
    "text_prompts": "image",
    "documents": "rerank",
}
_LATENCIES = (  # the ways to it in a body, or in a piece of one
    ("amazon-bedrock-invocationMetrics", "invocationLatency"),
    ("metrics", "latencyMs"),
    ("metadata", "metrics", "latencyMs"),
)


def _matches(value: Mapping[str, Any]) -> bool:
    return "modelId" in value and "operation" in value and "input" in value


def _read(value: JsonObject, arrival: Arrival) -> LogRecord | NotACall:
    for name, field in (("input", "inputBodyS3Path"), ("output", "outputBodyS3Path")):
        if field in read_object(value, name):
            raise Undecodable("elsewhere", f"{name}.{field}: the body is in S3; send the record with the body in it")
    told, answer = read_object(value, "input"), read_object(value, "output")
    asked_body, answer_body = told.get("inputBodyJson"), answer.get("outputBodyJson")
    model = read_text(value, "modelId") or ""
    if (kind := _kind(model, asked_body, answer_body)) is not None:
        return NotACall(kind)
    if not isinstance(asked_body, dict):
        raise Undecodable("invalid", "input.inputBodyJson is not an object")
    asked, answered = _read_bodies(asked_body, answer_body)
    rests = {"input": left_over(told, _BODY_FIELDS), "output": left_over(answer, _BODY_FIELDS)}
    return join(
        asked,
        _named(answered, value, told, answer),
        envelope=_envelope(value, answer_body),
        arrival=arrival,
        source=SHAPE.name,
        beside={
            **left_over(value, _FIELDS),
            **left_over(rests, frozenset()),
            "error": value.get("errorCode"),
            "metadata": {**read_metadata(value.get("requestMetadata")), **_caller(value)},
        },
    )


def _kind(model: str, asked: Any, answered: Any) -> str | None:
    """What the call was, when it was none of a model that generates text."""
    for body in (answered, asked):
        for name, kind in _NOT_CALLS.items():
            if isinstance(body, dict) and name in body and "messages" not in body and "message" not in body:
                return kind
    return "embeddings" if "embed" in model.lower() else None


def _read_bodies(asked: JsonObject, answered: Any) -> tuple[Half, Half]:
    """The halves of the call, by the API whose words the bodies use."""
    bodies = answered if isinstance(answered, list) else [] if answered is None else [answered]
    if "messages" in asked:
        if "anthropic_version" in asked or is_anthropic_events(answered):
            return anthropic.read_request(asked), anthropic.read_answer({_BODY: answered}, _BODY)
        if _speaks_openai(bodies):
            return openai_pair.read_request(asked), _read_openai(answered)
        return anthropic.read_request(bedrock_converse.as_request(asked)), _read_conversed(answered)
    request = bedrock_prompt.as_request(asked)
    if request is None:
        raise Undecodable("invalid", "input.inputBodyJson has neither messages nor a prompt of text")
    return openai_pair.read_request(request), openai_pair.read_response(bedrock_prompt.as_response(bodies))


def _read_conversed(answered: Any) -> Half:
    if not bedrock_converse.is_events(answered):
        body = read_object({_BODY: answered}, _BODY)
        return anthropic.read_response(bedrock_converse.as_response(body))
    half = anthropic.read_response(bedrock_converse.as_response(bedrock_converse.assemble(answered)))
    is_cut = half.fields["finish_reason"] is None
    return Half(half.fields, {**half.rests, "stream": "cut"}, half.error) if is_cut else half


def _speaks_openai(bodies: list[Any]) -> bool:
    return any(isinstance(body, dict) and "choices" in body for body in bodies)


def _read_openai(answered: Any) -> Half:
    if isinstance(answered, list):
        return read_chunks(answered, _BODY)
    choices = [
        {**choice, "finish_reason": choice.get("finish_reason") or choice.get("stop_reason"), "stop_reason": None}
        if isinstance(choice, dict)
        else choice
        for choice in read_list(answered, "choices", _BODY)
    ]
    return openai_pair.read_response({**answered, "choices": choices})


def _named(answered: Half, value: JsonObject, told: JsonObject, answer: JsonObject) -> Half:
    """The response's half with what the record around it says: the model that was asked for, the id, the tokens counted."""
    fields, model = answered.fields, read_text(value, "modelId")
    usage: Usage = fields.get("usage") or Usage()
    counted = Usage(
        input_tokens=_either(read_count(told, "inputTokenCount", where="input"), usage.input_tokens),
        output_tokens=_either(read_count(answer, "outputTokenCount", where="output"), usage.output_tokens),
    )
    response = answered.rests.get("response", {})
    if fields.get("model") not in (None, model):
        response = {**response, "model": fields["model"]}
    response_id = fields.get("response_id") or read_text(value, "requestId")
    return Half(
        {**fields, "model": model, "usage": counted, "response_id": response_id},
        {**answered.rests, "response": response},
        answered.error,
    )


def _either(first: int | None, second: int | None) -> int | None:
    return second if first is None else first


def _envelope(value: JsonObject, answered: Any) -> Envelope:
    told_ms = read_iso_ms(value, "timestamp")
    return Envelope(
        log_id=read_text(value, "requestId"),
        ts_ms=None if told_ms is None else round(told_ms),
        provider="aws.bedrock",
        latency_ms=_latency_ms(answered),
    )


def _latency_ms(answered: Any) -> float | None:
    """From the metrics that the Converse API adds to its answer, and a stream to its last piece."""
    for body in reversed(answered) if isinstance(answered, list) else [answered]:
        for way in _LATENCIES:
            told = body
            for name in way:
                told = told.get(name) if isinstance(told, dict) else None
            if isinstance(told, int | float) and not isinstance(told, bool):
                return float(told)
    return None


def _caller(value: JsonObject) -> dict[str, str]:
    """Who called, and where: an AWS principal is not the application's user."""
    identity = value.get("identity")
    told = {
        "identity_arn": identity.get("arn") if isinstance(identity, dict) else None,
        "account_id": value.get("accountId"),
        "region": value.get("region"),
        "inference_region": value.get("inferenceRegion"),
    }
    return {name: item for name, item in told.items() if isinstance(item, str)}


SHAPE = Shape("bedrock", _matches, _read, about="a model invocation log of Amazon Bedrock")

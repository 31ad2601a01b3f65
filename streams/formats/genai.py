"""OpenTelemetry's GenAI conventions on spans: today's, and the two generations before (JSON text, events of the span).

Names: https://github.com/open-telemetry/semantic-conventions/blob/main/docs/gen-ai/gen-ai-spans.md
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tunemill.schemas.records import Message, Usage
from tunemill.streams.formats.attributes import Reader, given
from tunemill.streams.formats.ending import error_name, finish_reason
from tunemill.streams.formats.genai_messages import (
    Answers,
    Choice,
    event_data,
    read_answers,
    read_choice,
    read_event_message,
    read_instructions,
    read_messages,
    read_tools,
)
from tunemill.streams.formats.langfuse_content import read_input, read_output
from tunemill.streams.formats.shape import JsonObject, as_extra
from tunemill.streams.formats.span import Dialect, Span, SpanEvent, Told

DETAILS = "gen_ai.client.inference.operation.details"  # the event that holds the whole content
CHOICE = "gen_ai.choice"
MESSAGES = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
_PROMPT, _COMPLETION = "gen_ai.content.prompt", "gen_ai.content.completion"
_CHUNKS = ("gen_ai.content.completion.chunk", "llm.content.completion.chunk")  # say that one came, and nothing of it
CONTENT_EVENTS = frozenset((DETAILS, CHOICE, *MESSAGES, _PROMPT, _COMPLETION, *_CHUNKS))

_CALLS = frozenset(("chat", "text_completion", "generate_content"))
_CALLS_OF_OPENLLMETRY = ("chat", "completion")  # which spelled these conventions so before there was an operation
NOT_CALLS = {
    "embeddings": "embeddings",
    "retrieval": "retrieval",
    "execute_tool": "tool",
    "create_agent": "agent",
    "invoke_agent": "agent",
    "plan": "agent",
    "invoke_workflow": "chain",
}  # of the operations that are no call of a model, as the counter names them
_PARAMETERS = {
    "choice.count": "n",
    "stop_sequences": "stop",
    "reasoning.level": "reasoning_effort",
}  # in OpenAI's words
_NO_ERRORS = ("unnamed", "_OTHER")  # say only that there was one
_CLASS = ("<class '", "'>")  # around the name of an exception where an instrumentation wrote the class itself


class _Told(NamedTuple):
    """The content of a call, wherever it stood."""

    messages: tuple[Message, ...]
    message_rests: JsonObject
    answers: Answers


def _matches(span: Span) -> bool:
    return any(name.startswith("gen_ai.") for name in span.attributes)


def _read(span: Span) -> Told:
    details = [event.attributes for event in span.events if event.name == DETAILS]
    attributes = {name: value for told in (*details, span.attributes) for name, value in told.items()}
    reader = Reader(attributes)
    operation = reader.text("gen_ai.operation.name")
    if operation in NOT_CALLS or not (operation in _CALLS or _looks_like_a_call(attributes)):
        session_id = reader.text("gen_ai.conversation.id")
        note = {"session_id": session_id} if session_id else {}
        return Told(False, note, frozenset(reader.used), note, NOT_CALLS.get(operation or "", "span"))
    return Told(True, read_call(reader, span.events), frozenset(reader.used))


def _looks_like_a_call(attributes: Mapping[str, Any]) -> bool:
    """Whether a span without a known operation tells a call: it names a model, and tokens that were written, or content."""
    if attributes.get("llm.request.type") in _CALLS_OF_OPENLLMETRY:
        return True
    return ("gen_ai.request.model" in attributes or "gen_ai.response.model" in attributes) and any(
        name in attributes
        for name in (
            *("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "gen_ai.output.messages"),
            *("gen_ai.completion", "gen_ai.response.finish_reasons"),
        )
    )


def read_call(reader: Reader, events: Iterable[SpanEvent] = ()) -> JsonObject:
    """The fields of a log that these attributes, and events of the span, say something about."""
    told = _read_content(reader, events)
    asked_model, model = reader.text("gen_ai.request.model"), reader.text("gen_ai.response.model")
    response_id, words = reader.text("gen_ai.response.id"), _finish_words(reader)
    reasons = [finish_reason(word) for word in words]
    error_type, cost_usd = reader.text("error.type"), reader.number("gen_ai.usage.cost")
    usage, usage_rest = _read_usage(reader)
    instructions, instruction_rests = read_instructions(reader.value("gen_ai.system_instructions"))
    extra = {
        "request": {"model": asked_model} if model and asked_model not in (None, model) else None,
        "response": {
            **reader.left("gen_ai.response.", "openai.response.", "gen_ai.openai.response."),
            **({"finish_reasons": words} if words != reasons else {}),
        },
        "system": instruction_rests,
        "messages": told.message_rests,
        "choices": _with_reasons(told.answers.rests, reasons),
        "usage": usage_rest,
    }
    operation = reader.text("gen_ai.operation.name")
    return given(
        {
            "messages": (*instructions, *told.messages),
            "output": told.answers.messages,
            "model": model or asked_model,
            "provider": reader.text("gen_ai.provider.name", "gen_ai.system"),
            "operation": "text_completion" if operation == "text_completion" else None,
            "tools": read_tools(reader.value("gen_ai.tool.definitions")),
            "params": _read_parameters(reader),
            "usage": usage,
            "cost_usd": cost_usd,
            "finish_reason": reasons[0] if reasons else told.answers.finish_reason,
            "response_id": response_id,
            "session_id": reader.text("gen_ai.conversation.id"),
            **({"status": "error", "error": error_of(error_type)} if error_type else {}),
            "extra": as_extra(extra),
        }
    )


def error_of(told: Any) -> str | None:
    """The name of an error in an attribute, where it is one: an exception's, also as its class was written out, or a code."""
    if not isinstance(told, str):
        return None
    before, after = _CLASS
    name = error_name(told.removeprefix(before).removesuffix(after))
    return None if name in _NO_ERRORS else name


def _read_content(reader: Reader, events: Iterable[SpanEvent]) -> _Told:
    """The messages and the answers, each from the newest convention that tells it."""
    by_events = _read_events(events)
    asked, rests = read_messages(reader.value("gen_ai.input.messages"))
    answers = read_answers(reader.value("gen_ai.output.messages"))
    if not asked:
        asked, rests = by_events.messages, by_events.message_rests
    if not asked:
        asked, _, rests = read_input(reader.value("gen_ai.prompt"))
    if not answers.messages:
        answers = by_events.answers
    if not answers.messages:
        answers = Answers(*read_output(reader.value("gen_ai.completion")))
    return _Told(asked, rests, answers)


def _read_events(events: Iterable[SpanEvent]) -> _Told:
    messages: list[Message] = []
    rests: JsonObject = {}
    choices = []
    for event in events:
        if event.name in MESSAGES:
            message, rest = read_event_message(MESSAGES[event.name], event_data(None, event.attributes))
            if rest:
                rests[str(len(messages))] = rest
            messages.append(message)
        elif event.name == CHOICE:
            choices.append(read_choice(event_data(None, event.attributes)))
        elif event.name == _PROMPT:
            found, _, _ = read_input(event.attributes.get("gen_ai.prompt"))
            messages += found
        elif event.name == _COMPLETION:
            found, reason, _ = read_output(event.attributes.get("gen_ai.completion"))
            choices += [Choice(len(choices) + place, message, reason, {}) for place, message in enumerate(found)]
    choices.sort(key=lambda choice: choice.index)
    answers = tuple(choice.message for choice in choices)
    choice_rests = {str(place): choice.rest for place, choice in enumerate(choices) if choice.rest}
    return _Told(tuple(messages), rests, Answers(answers, choices[0].finish_reason if choices else None, choice_rests))


def _finish_words(reader: Reader) -> list[str]:
    """Why each choice ended, in the provider's words."""
    name = "gen_ai.response.finish_reasons"
    found = reader.texts(name)
    alone = None if found else reader.text(name)
    return list(found) or ([alone] if alone else [])


def _with_reasons(rests: JsonObject, reasons: list[str | None]) -> JsonObject:
    """What was left over of each choice, and why it ended if not for the reason of the first."""
    told = {str(place): {"finish_reason": reason} for place, reason in enumerate(reasons) if reason != reasons[0]}
    return {place: {**told.get(place, {}), **rests.get(place, {})} for place in sorted({*told, *rests})}


def _read_parameters(reader: Reader) -> JsonObject:
    found = reader.left("gen_ai.request.", "openai.request.", "gen_ai.openai.request.")
    if output_type := reader.text("gen_ai.output.type"):
        found["output_type"] = output_type
    return {_PARAMETERS.get(name, name): value for name, value in found.items()}


def _read_usage(reader: Reader) -> tuple[Usage, JsonObject]:
    usage = Usage(
        input_tokens=reader.count("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        output_tokens=reader.count("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    )
    reader.drop("gen_ai.usage.total_tokens")  # the sum of the two
    return usage, reader.left("gen_ai.usage.")


DIALECT = Dialect("genai", _matches, _read)

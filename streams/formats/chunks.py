"""`{request, response: [chunk, ...]}`: an OpenAI pair whose answer was streamed and is logged as the chunks it came in."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tunemill.schemas.chunks import assemble
from tunemill.schemas.records import Json, LogRecord
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.fields import read_object
from tunemill.streams.formats.openai_pair import read_request, read_response
from tunemill.streams.formats.pair import Half, join
from tunemill.streams.formats.shape import Arrival, JsonObject, Shape, read_envelope


class _Call(msgspec.Struct):
    index: int | None = None


class _Delta(msgspec.Struct):
    tool_calls: list[_Call] | None = None
    content: str | None = None


class _Choice(msgspec.Struct):
    index: int | None = None
    delta: _Delta | None = None
    message: _Delta | None = None  # some servers' word for it
    text: str | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    """What has to hold of a chunk before it can be put together with others; fields that are not named may be anything."""

    choices: list[_Choice] | None = None
    error: Json = None


def _matches(value: Mapping[str, Any]) -> bool:
    return "request" in value and ("chunks" in value or isinstance(value.get("response"), list))


def _read(value: JsonObject, arrival: Arrival) -> LogRecord:
    name = "chunks" if "chunks" in value else "response"
    return join(
        read_request(read_object(value, "request")),
        read_chunks(value[name], name),
        envelope=read_envelope(value),
        arrival=arrival,
        source=SHAPE.name,
        beside={key: item for key, item in value.items() if key != name},
    )


def read_chunks(chunks: Any, where: str) -> Half:
    """What a streamed response says. Of one that was cut off, what came is kept.

    Raises:
        Undecodable: they are not chunks of a completion.
    """
    try:
        checked = msgspec.convert(chunks, list[_Chunk])
    except msgspec.ValidationError as error:
        raise Undecodable("invalid", f"{where}: {error}") from error
    answered = read_response(assemble(chunks))
    ended = any(choice.finish_reason for chunk in checked for choice in chunk.choices or ())
    return answered if ended else Half(answered.fields, {**answered.rests, "stream": "cut"}, answered.error)


SHAPE = Shape(
    "openai_chunks",
    _matches,
    _read,
    about="a request to OpenAI's completions API and the chunks of the streamed answer",
)

"""Every shape that is accepted. A shape is recognised by its field names; the more telling one comes first."""

from tunemill.streams.errors import Undecodable
from tunemill.streams.formats import (
    anthropic,
    bedrock,
    chunks,
    flywheel,
    langfuse,
    litellm,
    openai_pair,
    otlp,
    responses,
    tunemill_record,
)
from tunemill.streams.formats.shape import Arrival, JsonObject, Reading, Shape

SHAPES = (
    otlp.SHAPE,
    langfuse.SHAPE,
    litellm.SHAPE,
    bedrock.SHAPE,
    flywheel.SHAPE,
    responses.SHAPE,
    anthropic.SHAPE,
    chunks.SHAPE,
    openai_pair.SHAPE,
    tunemill_record.SHAPE,
)


def read(value: JsonObject, arrival: Arrival) -> Reading:
    """What this JSON object tells, by the first shape that recognises it.

    Raises:
        Undecodable: no shape does, or the one that did cannot read it.
    """
    return shape_of(value).read(value, arrival)


def shape_of(value: JsonObject) -> Shape:
    """The first shape that recognises this JSON object.

    Raises:
        Undecodable: no shape does.
    """
    for shape in SHAPES:
        if shape.matches(value):
            return shape
    names = ", ".join(shape.name for shape in SHAPES)
    raise Undecodable("unknown_shape", f"the fields are those of no known shape ({names})")

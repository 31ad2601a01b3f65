"""Samples of JSON with something odd in one place or a few: what a client's next version, or somebody hostile, may send."""

import json
from typing import Any

from hypothesis import strategies as st

from tunemill.schemas import wire
from tunemill.schemas.records import LogRecord
from tunemill.streams.decode import decode
from tunemill.streams.errors import Undecodable

_ODD = st.sampled_from(
    [
        *(None, True, -1, 0, 2**70, 1.5, 1e308, "", "x", "9" * 200, [], {}, [None], [[]], [{}], ["x"]),
        *({"type": "x"}, {"type": None}, {"type": "text"}, {"text": 5}, {"": {}}, {"role": "user", "content": [5]}),
    ]
)
Path = tuple[str | int, ...]


@st.composite
def odd(draw: st.DrawFn, samples: list[Any]) -> Any:
    """One of these samples, in which up to three values are replaced or left out."""
    value = json.loads(json.dumps(draw(st.sampled_from(samples))))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_paths(value) or [()]))
        replacement = json.loads(json.dumps(draw(_ODD)))  # it may be changed in its turn
        if not path:
            return replacement
        holder = value
        for step in path[:-1]:
            holder = holder[step]
        if draw(st.booleans()):
            holder[path[-1]] = replacement
        else:
            del holder[path[-1]]
    return value


def _paths(value: Any, at: Path = ()) -> list[Path]:
    """The way to each value inside this one."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for name, item in items for path in ((*at, name), *_paths(item, (*at, name)))]


def check(value: Any) -> None:
    """The record tells something that the later hops can write down, or it is refused with a code."""
    try:
        reading = decode(json.dumps(value).encode(), ts_ms=1)
    except Undecodable as error:
        assert error.code
        return
    if isinstance(reading, LogRecord):
        assert wire.decode(wire.encode(reading), LogRecord).log_id == reading.log_id

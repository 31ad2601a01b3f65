"""Which held-out rows belong together, and how each such slice fared.

A version's sources files say application, model, language and the slices of the dataset's recipe; the rest is seen in the rows.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import fsspec
import msgspec
import numpy as np

from tunemill.schemas.bootstrap import SURE_ROWS, paired
from tunemill.schemas.manifest import DatasetManifest, SourcesManifest, sources_file
from tunemill.schemas.origin import Origin, read_origins

OTHERS = "(others)"
_VALUES = 12  # of a slice that are shown; the rest is one

Slices = dict[str, str]  # slice -> value, of one row


class SliceChange(msgspec.Struct, frozen=True, kw_only=True):
    """The loss of a slice's rows before and after, in nats per trained token; `low` and `high` are of the rise, 95 %."""

    slice: str
    value: str
    rows: int
    loss_before: float
    loss_after: float
    low: float
    high: float


def from_sources(manifest_url: str, sources_url: str, *, split: str) -> dict[str, Slices]:
    """By row id what a version's sources say of the rows of a split; nothing of a version without sources.

    Raises:
        OSError: a file is not there.
        ValueError: a file is something else than it should be.
    """
    if not sources_url:
        return {}
    manifest = msgspec.json.decode(_read(manifest_url), type=DatasetManifest)
    named = msgspec.json.decode(_read(sources_url), type=SourcesManifest)
    folder = manifest_url.rsplit("/manifests/", 1)[0]
    beside = [sha256 for part, sha256 in zip(manifest.parts, named.sources, strict=True) if part.split == split]
    return {
        origin.row_id: _of_origin(origin)
        for sha256 in beside
        for origin in read_origins(_read(f"{folder}/{sources_file(sha256)}"))
    }


def seen(rows: Sequence[Mapping[str, Any]]) -> list[Slices]:
    """What the rows themselves show: the kind of the last answer, the number of questions, and the third by length."""
    lengths = [sum(len(message.get("content") or "") for message in row["messages"]) for row in rows]
    cuts = np.quantile(lengths, (1 / 3, 2 / 3)) if rows else ()
    return [
        {
            "answer": _answer_kind(row["messages"]),
            "turns": _turns(row["messages"]),
            "length": ("short", "middle", "long")[int(np.searchsorted(cuts, length, side="left"))],
        }
        for row, length in zip(rows, lengths, strict=True)
    ]


def changes(
    of_rows: Sequence[Slices],
    before: Sequence[float],
    after: Sequence[float],
    tokens: Sequence[int],
    *,
    seed: int,
) -> list[SliceChange]:
    """Every slice that does not hold all rows alike, its values by their number of rows; one of a few rows is not told.

    Nothing is sure over so few, and a rare value, such as of metadata, may name a person.
    """
    rows = list(zip(before, after, tokens, strict=True))
    found = []
    for name in sorted({name for slices in of_rows for name in slices}):
        values = largest([slices.get(name, "") for slices in of_rows])
        for value, count in Counter(value for value in values if value).most_common():
            if SURE_ROWS <= count < len(of_rows):
                chosen = [row for row, one in zip(rows, values, strict=True) if one == value]
                found.append(_change(name, value, chosen, seed))
    return [change for change in found if change is not None]


def _change(name: str, value: str, rows: Sequence[tuple[float, float, int]], seed: int) -> SliceChange | None:
    before, after, tokens = zip(*rows, strict=True)
    change = paired(before, after, weights=tokens, seed=seed)
    if change is None:
        return None
    return SliceChange(
        slice=name,
        value=value,
        rows=change.rows,
        loss_before=change.before,
        loss_after=change.after,
        low=change.low,
        high=change.high,
    )


def largest(values: Sequence[str]) -> list[str]:
    """The values with `OTHERS` for those that are rarer than the twelve most frequent, or too rare to tell; "" stays."""
    frequent = Counter(value for value in values if value).most_common(_VALUES)
    shown = {value for value, count in frequent if count >= SURE_ROWS}
    return [value if value in shown or not value else OTHERS for value in values]


def _of_origin(origin: Origin) -> Slices:
    named = {"app": origin.app, "model": origin.model, "language": origin.language}
    return {**origin.slices, **{name: value for name, value in named.items() if value}}


def _answer_kind(messages: Sequence[Mapping[str, Any]]) -> str:
    last: Mapping[str, Any] = next((one for one in reversed(messages) if one["role"] == "assistant"), {})
    if last.get("tool_calls"):
        return "call"
    try:
        return "json" if isinstance(json.loads(last.get("content") or ""), dict | list) else "text"
    except (ValueError, RecursionError):
        return "text"


def _turns(messages: Iterable[Mapping[str, Any]]) -> str:
    asked = sum(message["role"] == "user" for message in messages)
    if asked >= 5:
        return "5+"
    return "2-4" if asked > 1 else "1"


def _read(url: str) -> bytes:
    with fsspec.open(url, "rb") as file:
        return bytes(file.read())

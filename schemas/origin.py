"""Where a row of a version came from, as it lies beside the row: written by curator_api, read by trainer."""

from typing import Literal

import msgspec
import zstandard

Trainable = Literal["yes", "no", "unknown"]


class Origin(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Where a row came from: a line of JSON."""

    row_id: str
    row_keys: tuple[str, ...]
    log_ids: tuple[str, ...] = ()
    conversation: str
    ts_ms: int | None = None
    app: str | None = None
    model: str | None = None
    language: str | None = None
    finish_reason: str | None = None
    tags: tuple[str, ...] = ()
    slices: dict[str, str] = {}
    licence: Trainable = "unknown"  # whether what its model said may be trained on
    source: str = ""
    terms: str | None = None
    tokens: int | None = None
    edited: bool = False
    corrected: bool = False
    masked: tuple[str, ...] = ()
    ingredient: int = 0
    joined: tuple[str, ...] = ()
    held_out: bool = False  # by the set that it was imported from


_decode_lines = msgspec.json.Decoder(Origin).decode_lines


def read_origins(sources: bytes) -> list[Origin]:
    """The lines of a sources file, in the order of its part's rows.

    Raises:
        ValueError: this is something else.
    """
    try:
        reader = zstandard.ZstdDecompressor().decompressobj()
        lines = reader.decompress(sources)
    except zstandard.ZstdError as error:
        raise ValueError("not compressed by zstd") from error
    if not reader.eof:
        raise ValueError("cut off")
    return _decode_lines(lines)

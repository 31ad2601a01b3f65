"""A compressed body, inflated step by step: a small one may stand for more than the memory holds. Pure."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import zstandard

from tunemill.curator_api.errors import BadRequest, TooLarge, UnknownEncoding

STEP_BYTES = 1024  # what goes in at once; at most 32 MiB come out (zstd: 128 KiB for each 4 bytes)
ZSTD_WINDOW_BYTES = 8 * 2**20  # RFC 9659: what every sender of `Content-Encoding: zstd` keeps within
_WITH_HEADER, _RAW, _GZIP = zlib.MAX_WBITS, -zlib.MAX_WBITS, 16 + zlib.MAX_WBITS


class _Stream(Protocol):
    """One gzip member, one zstd frame or one deflate stream."""

    def decompress(self, data: bytes, /) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


def inflate(body: bytes, encoding: str, *, max_bytes: int, max_ratio: int, any_ratio_bytes: int) -> bytes:
    """The body that was compressed as `Content-Encoding` says.

    Args:
        max_bytes: what may come out at most.
        max_ratio: how many times its own size.
        any_ratio_bytes: so much may come out whatever the ratio.

    Raises:
        UnknownEncoding: the encoding is none of ours, or several one after another.
        TooLarge: more comes out than a limit allows; the limit is named, and the rest is not inflated.
        BadRequest: the bytes are torn, or of another encoding.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    start = _STARTS.get(name)
    if start is None:
        raise UnknownEncoding("the body is compressed in a way that is not known here: send gzip, zstd or deflate")
    limit = min(max_bytes, max(any_ratio_bytes, len(body) * max_ratio))
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in _pieces(body, start(body)):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise _too_large(size > max_bytes, max_bytes, max_ratio)
    except (zlib.error, zstandard.ZstdError) as error:
        raise BadRequest(f"the body is not whole {name}") from error
    return b"".join(pieces)


def _pieces(body: bytes, start: Callable[[], _Stream]) -> Iterator[bytes]:
    """What comes out, step by step. Several members or frames after one another are one body."""
    stream = start()
    for place in range(0, len(body), STEP_BYTES):
        data = body[place : place + STEP_BYTES]
        while data:
            if stream.eof:
                stream = start()
            yield stream.decompress(data)
            data = stream.unused_data if stream.eof else b""
    if not stream.eof:
        raise zlib.error


def _too_large(is_absolute: bool, max_bytes: int, max_ratio: int) -> TooLarge:
    if is_absolute:
        return TooLarge(
            f"inflated, the body is larger than {max_bytes} bytes: send it in several requests", limit=max_bytes
        )
    return TooLarge(
        f"inflated, the body is over {max_ratio} times as large as it came: send it in several requests, or uncompressed",
        limit=max_ratio,
    )


def _gzip(_body: bytes) -> Callable[[], _Stream]:
    return lambda: zlib.decompressobj(_GZIP)


def _zstd(_body: bytes) -> Callable[[], _Stream]:
    return zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj


def _deflate(body: bytes) -> Callable[[], _Stream]:
    """HTTP means deflate with zlib's header; some senders leave that out."""
    has_header = len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2]) % 31 == 0
    return lambda: zlib.decompressobj(_WITH_HEADER if has_header else _RAW)


_STARTS: Mapping[str, Callable[[bytes], Callable[[], _Stream]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "zstd": _zstd,
    "deflate": _deflate,
}

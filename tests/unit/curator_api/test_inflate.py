"""Compressed bodies: every encoding, and what is refused before it fills the memory."""

import contextlib
import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from fakes.curator_api import running_api
from hypothesis import given
from hypothesis import strategies as st

from tunemill.curator_api.errors import BadRequest, ClientError, TooLarge, UnknownEncoding
from tunemill.curator_api.inflate import inflate
from tunemill.curator_api.settings import Settings
from tunemill.schemas.topics import LOGS

LINE = b'{"log_id":"a","ts_ms":1,"messages":[{"role":"user","content":"hi"}]}'
LIMIT = 2**20


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def zstd_stream(data: bytes) -> bytes:
    """As a writer of streams makes it, which does not state the size in advance."""
    stream = zstandard.ZstdCompressor().compressobj()
    return stream.compress(data) + stream.flush()


PACKED: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("GZIP ", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("zstd", zstandard.compress),
    ("zstd", zstd_stream),
    ("identity", bytes),
    ("", bytes),
]


def inflated(body: bytes, encoding: str, *, max_bytes: int = LIMIT, any_ratio_bytes: int = LIMIT) -> bytes:
    return inflate(body, encoding, max_bytes=max_bytes, max_ratio=100, any_ratio_bytes=any_ratio_bytes)


@pytest.mark.parametrize(("encoding", "pack"), PACKED)
@given(data=st.binary(max_size=300) | st.binary(min_size=1, max_size=4).map(lambda some: some * 20_000))
def test_what_was_compressed_comes_out(encoding: str, pack: Callable[[bytes], bytes], data: bytes) -> None:
    assert inflated(pack(data), encoding) == data


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_several_members_after_one_another_are_one_body(pack: Callable[[bytes], bytes]) -> None:
    encoding = "gzip" if pack is gzip.compress else "zstd"
    parts = [LINE * 500, b"", b"\n", LINE]
    assert inflated(b"".join(pack(part) for part in parts), encoding) == b"".join(parts)


@pytest.mark.parametrize(("encoding", "pack"), PACKED[:7])
def test_torn_or_foreign_bytes_are_the_clients_fault(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    whole = pack(LINE * 100)
    for broken in (whole[:-1], whole[:5], whole + b"more", LINE):
        with pytest.raises(BadRequest, match="not whole"):
            inflated(broken, encoding)


@pytest.mark.parametrize("encoding", ["br", "gzip, zstd", "gzip,gzip", "compress", "snappy", "\x00"])
def test_an_encoding_that_is_not_known_is_said_to_be(encoding: str) -> None:
    with pytest.raises(UnknownEncoding, match="gzip, zstd or deflate"):
        inflated(LINE, encoding)


@pytest.mark.parametrize(("encoding", "pack"), PACKED[:7])
def test_more_than_the_limit_does_not_come_out(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    assert len(inflated(pack(LINE * 10), encoding, max_bytes=len(LINE) * 10)) == len(LINE) * 10
    with pytest.raises(TooLarge) as caught:
        inflated(pack(LINE * 10), encoding, max_bytes=len(LINE) * 10 - 1)
    assert caught.value.more["limit"] == len(LINE) * 10 - 1


@pytest.mark.parametrize(("encoding", "pack"), PACKED[:7])
def test_a_bomb_goes_off_early(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(b"\0" * LIMIT)
    with pytest.raises(TooLarge) as caught:
        inflated(bomb, encoding, any_ratio_bytes=LIMIT - 1)
    assert caught.value.more["limit"] == 100
    assert len(inflated(bomb, encoding)) == LIMIT, "what may come uncompressed may come as small as it can be made"


def test_a_window_that_no_sender_over_http_may_ask_for_is_refused() -> None:
    wide = zstandard.ZstdCompressionParameters(window_log=27)
    stream = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    with pytest.raises(BadRequest):
        inflated(stream.compress(LINE) + stream.flush(), "zstd")


@given(data=st.binary(max_size=200), encoding=st.sampled_from(["gzip", "zstd", "deflate"]))
def test_no_bytes_raise_anything_else(data: bytes, encoding: str) -> None:
    with contextlib.suppress(ClientError):
        inflated(data, encoding)


@pytest.mark.parametrize(("encoding", "pack"), PACKED)
async def test_a_compressed_request_is_read_like_any_other(
    tmp_path: Path, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.post("/v1/logs", content=pack(LINE), headers={"content-encoding": encoding})
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
        assert [message.value for message in await api.bus.tail(LOGS, limit=9)] == [LINE]


async def test_every_limit_of_a_compressed_request_is_named(tmp_path: Path) -> None:
    settings = Settings(max_body_bytes=20_000, max_inflated_bytes=100_000)
    bodies = [
        (b"\0" * 20_001, "gzip", 413, "larger than 20000 bytes"),
        (gzip.compress(os.urandom(1500) * 80), "gzip", 413, "larger than 100000 bytes"),
        (zstandard.compress(b"\0" * 90_000), "zstd", 413, "over 100 times"),
        (gzip.compress(LINE)[:-4], "gzip", 400, "not whole gzip"),
        (LINE, "br", 415, "gzip, zstd or deflate"),
    ]
    async with running_api(tmp_path, settings=settings) as api:
        for body, encoding, status, said in bodies:
            answer = await api.client.post("/v1/logs", content=body, headers={"content-encoding": encoding})
            assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
        assert answer.headers["accept-encoding"] == "gzip, zstd, deflate"
        assert await api.bus.tail(LOGS, limit=9) == []


async def test_nothing_is_inflated_for_a_stranger(tmp_path: Path) -> None:
    """Forms and uploads come as they are."""
    async with running_api(tmp_path) as api:
        form = f"key={api.key}".encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        plain = await api.client.post("/sign-in", content=form, headers=headers)
        packed = await api.client.post(
            "/sign-in", content=gzip.compress(form), headers={**headers, "content-encoding": "gzip"}
        )
    assert (plain.status_code, packed.status_code) == (303, 400)

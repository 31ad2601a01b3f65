"""Splitting and decoding: every odd input is a record, several, or a WireError with a code; never another exception."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunemill.schemas import wire
from tunemill.schemas.ids import digest, new_id, payload_log_id
from tunemill.schemas.manifest import valid_name
from tunemill.schemas.packing import pack, split
from tunemill.schemas.records import LogBatch, LogRecord, Message

LOG = LogRecord(log_id="a", ts_ms=1, messages=(Message(role="user", content="hi"),))


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        (b'{"a": 1}', 1),
        (b'{\n  "a": {\n    "b": 1\n  }\n}', 1),  # pretty-printed
        (b'[{"a": 1}, {"b": 2}]', 2),
        (b'{"a": 1}\n{"b": 2}\n\n{"c": 3}\n', 3),
        (b"[]", 0),
        (b"not json", 1),
        (b"", 1),
        (b"[1, 2", 1),
        (b'no JSON\n{"a": 1}\n{"b": 2}', 3),
        (b'{"a": 1}\r\nnull\r\n[2]\r\n', 3),
        (b'{"a": 1}\n{"b": \n{"c": 3}', 3),
        (b'{\n  "a": [\n    {"b": 1}\n  ],\n  "c": \n}', 1),  # pretty-printed and broken: still one
    ],
)
def test_messages_split_into_their_values(payload: bytes, count: int) -> None:
    assert len(split(payload)) == count


def test_packed_logs_come_out_as_they_went_in() -> None:
    items = wire.unpack(pack([LOG, LOG]))
    assert [wire.decode(item, LogRecord) for item in items if isinstance(item, bytes)] == [LOG, LOG]


def test_an_avro_batch_is_unpacked() -> None:
    assert tuple(wire.unpack(wire.encode(LogBatch((LOG, LOG))))) == (LOG, LOG)


@pytest.mark.parametrize("text", ["no JSON", '{"n": 1e999}', "[" * 100_000 + "]" * 100_000, '"\\ud800"'])
def test_a_field_that_is_no_json_spoils_no_neighbour(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = msgspec.structs.replace(LOG, log_id="odd", extra=text)
    with monkeypatch.context() as another_writer:
        another_writer.setitem(wire.LOGICAL_WRITERS, "string-tunemill-json", lambda value, _schema: value)
        payload = wire.encode(LogBatch((LOG, odd)))
    assert tuple(wire.unpack(payload)) == (LOG, odd)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "empty"),
        (b"hello", "not_json"),
        (b'{"log_id": "a"}', "invalid"),
        (b'{"log_id": "a", "ts_ms": "soon", "messages": []}', "invalid"),
        (b"\xc3\x01" + b"12345678" + b"x", "unknown_schema"),
        (wire.encode(LOG)[:-3], "not_avro"),
        (wire.encode(LOG) + b"x", "not_avro"),
        (b"[" * 100_000, "invalid"),
    ],
)
def test_what_is_no_record_is_named(payload: bytes, code: str) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.decode(payload, LogRecord)
    assert caught.value.code == code


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: wire.encode(LOG)[:20] + tail))
def test_no_bytes_raise_anything_else(payload: bytes) -> None:
    try:
        for item in wire.unpack(payload):
            if isinstance(item, bytes):
                wire.decode(item, LogRecord)
    except wire.WireError as error:
        assert error.code


def test_ids_are_unique_and_digests_do_not_depend_on_key_order() -> None:
    assert new_id() != new_id()
    assert payload_log_id(b"x") == payload_log_id(b"x") != payload_log_id(b"y")
    assert digest({"a": 1, "b": [msgspec.UNSET is None]}) == digest({"b": [False], "a": 1})


@pytest.mark.parametrize("name", ["../x", "a/b", "", "A", ".", "-a", "a" * 64, "a\n"])
def test_dataset_names_are_never_paths(name: str) -> None:
    assert not valid_name(name)

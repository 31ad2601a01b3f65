"""A secret in any value, or in any field's name, of the examples of docs/sources is in nothing that the stream hands on."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from fakes.places import EXAMPLES, leaves, objects, put

from tunemill.bus.port import Message
from tunemill.schemas.records import RejectedLog, TaggedLog
from tunemill.schemas.topics import LOGS
from tunemill.streams.formats.shape import NotACall
from tunemill.streams.mask import MaskedPiece
from tunemill.streams.process import Result, process
from tunemill.streams.rules import load_rules

SECRET = "sk-" + "a1B2" * 8
RULES = load_rules()


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_secret_passes(name: str):
    found = 0
    for spoilt in secrets_in(EXAMPLES[name]):
        handed_on = list(handed(json.dumps(spoilt).encode()))
        assert not [item for item in handed_on if SECRET in item]
        found += any("[SECRET:api-key]" in item for item in handed_on)
    assert found


def secrets_in(example: Any) -> Iterator[Any]:
    """The example with a secret in one place; so each place in turn."""
    for path, value in leaves(example):
        if isinstance(value, str):
            yield put(example, path, f"{value} {SECRET}")
            yield put(example, path, SECRET)
    for path, value in objects(example):
        if isinstance(value, list):
            yield put(example, path, [*value, {"key": SECRET, "value": {"stringValue": SECRET}}])
        else:
            yield put(example, path, {**value, SECRET: {SECRET: [SECRET]}})


def handed(payload: bytes) -> Iterator[str]:
    """What the next hops see of each record: what is stored, what is published, and the reason of a rejection."""
    for result in process([Message(LOGS.name, 0, 0, None, payload, 1)], RULES, now_ms=1)[0]:
        yield from (json_of(part) for part in parts_of(result))


def parts_of(result: Result) -> tuple[Any, ...]:
    match result:
        case TaggedLog() | NotACall():
            return (result,)
        case MaskedPiece(piece, kinds):
            return (piece.log, piece.note, kinds)
        case RejectedLog():
            return (result, result.payload.decode())
    return (result,)


def json_of(value: Any) -> str:
    return msgspec.json.encode(value).decode()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"密钥{SECRET}", "密钥[SECRET:api-key]"),
        ("postgres://u:hunter2@h/db", "postgres://u:[SECRET:url-password]@h/db"),
    ],
)
def test_an_escape_hides_no_secret_in_a_dead_letter(text: str, left: str):
    payload = json.dumps({"text": text}).replace("/", "\\/").encode()
    (letter,) = process([Message(LOGS.name, 0, 0, None, payload, 1)], RULES, now_ms=1)[0]
    assert isinstance(letter, RejectedLog)
    assert msgspec.json.decode(letter.payload) == {"text": left}
    (letter,) = process([Message(LOGS.name, 0, 0, None, payload[:-1], 1)], RULES, now_ms=1)[
        0
    ]  # torn: no escape is certain
    assert isinstance(letter, RejectedLog)
    assert letter.payload == b""


@pytest.mark.parametrize("payload", [rf'{{"key":"\u5bc6{SECRET}"}}', r'{"url":"postgres:\/\/u:hunter2@h\/db"}'])
def test_an_escape_in_json_in_a_string_hides_no_secret(payload: str):
    given = {"log_id": "l", "ts_ms": 1, "messages": [], "output": [{"role": "assistant", "content": payload}]}
    assert not [item for item in handed(json.dumps(given).encode()) if SECRET in item or "hunter2" in item]


def test_a_length_before_it_hides_no_secret_in_a_dead_letter():
    payload = b"\x00\x02" + bytes([2 * len(SECRET)]) + SECRET.encode() + b"\xff\x00"  # as Avro writes a string
    (letter,) = process([Message(LOGS.name, 0, 0, None, payload, 1)], RULES, now_ms=1)[0]
    assert isinstance(letter, RejectedLog)
    assert SECRET.encode() not in letter.payload

"""Under the policy `ingest` private data in any value, or in any field's name, of the examples of docs/sources is in nothing that
the stream hands on, whatever its kind; under the others it is handed on as it came, tagged."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from fakes.places import EXAMPLES, leaves, objects, put

from tunemill.bus.port import Message as BusMessage
from tunemill.privacy.pii import KINDS
from tunemill.schemas import wire
from tunemill.schemas.records import Feedback, LogRecord, Message, RejectedLog, Tag, TaggedLog, ToolCall
from tunemill.schemas.topics import LOGS
from tunemill.schemas.trace import TraceNote
from tunemill.streams import mask as masking
from tunemill.streams.dead_letter import dead_letter
from tunemill.streams.formats.shape import NotACall, Piece
from tunemill.streams.mask import MaskedPiece, mask, mask_beside, mask_piece
from tunemill.streams.process import Result, process
from tunemill.streams.rules import Rules
from tunemill.streams.tag import retag, tag

PRIVATE = {
    "email": "ada.lovelace@work.co",
    "iban": "DE89370400440532013000",
    "card": "4111 1111 1111 1111",
    "national-id": "536-90-4399",
    "ip": "81.2.69.142",
    "phone": "+49 30 901820",
}
VERSIONS = ("release", "version", "anthropic_version")  # there four numbers are no address
INGEST = Rules((), private_data="ingest")


def test_every_kind_is_tried_here():
    assert set(PRIVATE) == set(KINDS)


@pytest.mark.parametrize("kind", PRIVATE)
@pytest.mark.parametrize("name", EXAMPLES)
def test_no_private_data_passes(name: str, kind: str):
    found = 0
    for spoilt in planted(EXAMPLES[name], PRIVATE[kind]):
        handed_on = list(handed(json.dumps(spoilt).encode(), INGEST))
        assert not [item for item in handed_on if PRIVATE[kind] in item]
        found += any(f"[PII:{kind}]" in item for item in handed_on)
    assert found


@pytest.mark.parametrize("kind", PRIVATE)
def test_no_string_of_a_log_is_left_out(kind: str):
    value = PRIVATE[kind]
    spots = full_log(value)
    masked = mask(spots, private=True)
    assert value.encode() not in msgspec.json.encode(masked.log)
    assert masked.private == (kind,)
    assert mask(spots).log is spots
    assert mask(masked.log, private=True).log is masked.log or mask(masked.log, private=True).log == masked.log


def test_what_links_records_links_them_still():
    one = mask(full_log(PRIVATE["email"]), private=True).log
    other = mask(full_log("grace@work.co"), private=True).log
    assert one.session_id == one.user_id != other.user_id
    said = mask_beside(
        Feedback(feedback_id="f", ts_ms=1, name="n", log_id="l", trace_id=PRIVATE["email"]), private=True
    )
    note = mask_beside(TraceNote(trace_id=PRIVATE["email"], tags=(PRIVATE["email"],)), private=True)
    assert said.trace_id == note.trace_id == one.trace_id
    assert note.tags == ("[PII:email]",)


def test_a_part_and_its_note_are_masked_alike():
    value = PRIVATE["email"]
    piece = Piece(full_log(value), rank=0, note=TraceNote(trace_id="t", metadata={value: value}))
    masked = mask_piece(piece, private=True)
    assert value.encode() not in msgspec.json.encode([masked.piece.log, masked.piece.note])
    assert masked.private == ("email",)


def test_what_was_replaced_is_tagged_and_stays_so_whatever_rules_come():
    (result,) = process([message(msgspec.json.encode(full_log(PRIVATE["card"])))], INGEST, now_ms=1)[0]
    assert isinstance(result, TaggedLog)
    assert Tag("pii:card", "pii.masked@2") in result.tags
    assert retag(result, Rules(())) == result
    grown = mask(full_log(PRIVATE["email"]), private=True)
    kept = {entry.tag for entry in retag(result, INGEST, grown=grown).tags}
    assert {"pii:card", "pii:email"} <= kept


def test_under_the_other_policies_it_is_stored_as_it_came_and_tagged():
    for policy in ("snapshot", "never"):
        rules = Rules((), private_data=policy)
        (result,) = process([message(msgspec.json.encode(full_log(PRIVATE["card"])))], rules, now_ms=1)[0]
        assert isinstance(result, TaggedLog)
        assert result == tag(mask(full_log(PRIVATE["card"])), rules)
        assert Tag("pii:card", "pii@2") in result.tags
        assert result.log.user_id == PRIVATE["card"]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_dead_letter_holds_none(encoding: str):
    payload = f'{{"broken": "é {PRIVATE["email"]}'.encode(encoding)
    (letter,) = process([message(payload)], INGEST, now_ms=1)[0]
    assert isinstance(letter, RejectedLog)
    assert letter.payload == '{"broken": "é [PII:email]'.encode(encoding)
    (letter,) = process([message(payload)], Rules(()), now_ms=1)[0]
    assert isinstance(letter, RejectedLog)
    assert letter.payload == payload


def test_a_number_in_free_form_json_is_masked_as_a_string_is_and_no_other_number_is_touched():
    given = {"card": 4111111111111111, "seed": 1234567, "at": [1700000000000]}
    log = LogRecord(log_id="l", ts_ms=4111111111111111, messages=(), params=given, extra={"nested": [given]})
    masked = mask(log, private=True)
    cleaned = {"card": "[PII:card]", "seed": 1234567, "at": [1700000000000]}
    assert (masked.log.params, masked.log.extra) == (cleaned, {"nested": [cleaned]})
    assert masked.log.ts_ms == log.ts_ms
    assert masked.private == ("card",)


def test_fields_whose_names_are_masked_alike_stay_two():
    log = LogRecord(log_id="l", ts_ms=1, messages=(), metadata={"a@work.co": "1", "b@work.co": "2", "c@work.co": "3"})
    masked = mask(log, private=True).log
    assert masked.metadata == {"[PII:email]": "1", "[PII:email] 2": "2", "[PII:email] 3": "3"}
    assert mask(masked, private=True).log == masked


def test_neither_an_escape_nor_a_length_hides_any_in_a_dead_letter():
    iban = "ES9121000418450200051332"
    for payload in (
        json.dumps({"text": f"卡{iban}"}).encode(),
        json.dumps({"text": f"卡{iban}"}).encode()[:-1],
        rb'{"text": "ada.lovelace\u0040work.co"}',
        b"\x00\x02" + bytes([2 * len(iban)]) + iban.encode() + b"\xff\x00",
    ):
        (letter,) = process([message(payload)], INGEST, now_ms=1)[0]
        assert isinstance(letter, RejectedLog)
        assert not any(value in letter.payload for value in (iban.encode(), b"lovelace"))


def test_a_dead_letter_of_whom_nobody_knows_the_policy_holds_none():
    letter = dead_letter(message(b""), 0, PRIVATE["email"].encode(), stage="decode", code="c", reason="r", now_ms=1)
    assert letter.payload == b"[PII:email]"


def test_when_masking_fails_the_log_is_rejected_and_its_bytes_are_not_kept(monkeypatch: pytest.MonkeyPatch):
    def broken(_text: str, **_: Any) -> Any:
        raise ZeroDivisionError("with the log's own text")

    monkeypatch.setattr(masking.pii, "without_private", broken)
    (letter,) = process([message(msgspec.json.encode(full_log(PRIVATE["email"])))], INGEST, now_ms=1)[0]
    assert isinstance(letter, RejectedLog)
    assert (letter.stage, letter.error_code, letter.payload) == ("mask", "internal", b"")


def full_log(value: str) -> LogRecord:
    """A log with this value in each of its strings but its id."""
    return LogRecord(
        log_id="one",
        ts_ms=1,
        messages=(Message(role="user", content=value, parts=[{"text": value}], name=value, tool_call_id=value),),
        output=(
            Message(
                role="assistant",
                refusal=value,
                reasoning=value,
                tool_calls=(ToolCall(name=value, arguments=f'{{"k":"a\\n{value}"}}', id=value),),
            ),
        ),
        **dict.fromkeys(("app", "model", "provider", "finish_reason", "error", "response_id"), value),
        **dict.fromkeys(("trace_id", "session_id", "user_id"), value),
        tools=[{"function": {"description": value}}],
        params={"stop": [value], value: 1},
        tags=(value,),
        metadata={value: value},
        extra={"deep": [[{"er": value}]]},
    )


def message(payload: bytes) -> BusMessage:
    return BusMessage(LOGS.name, 0, 0, None, payload, 1)


def planted(example: Any, value: str) -> Iterator[Any]:
    """The example with the value in one place; so each place in turn."""
    for path, before in leaves(example):
        if isinstance(before, str) and path[-1] not in VERSIONS:
            yield put(example, path, f"{before} {value} ")
            yield put(example, path, f" {value} ")
    for path, before in objects(example):
        if isinstance(before, list):
            yield put(example, path, [*before, {"key": value, "value": {"stringValue": value}}])
        else:
            yield put(example, path, {**before, value: {value: [value]}})


def handed(payload: bytes, rules: Rules) -> Iterator[str]:
    """What the next hops see of each record: what is stored, what is published, and the reason of a rejection."""
    for result in process([message(payload)], rules, now_ms=1)[0]:
        yield from (msgspec.json.encode(part).decode() for part in parts_of(result))


def parts_of(result: Result) -> tuple[Any, ...]:
    match result:
        case TaggedLog() | NotACall():
            return (result,)
        case MaskedPiece(piece, kinds, private):
            return (piece.log, piece.note, kinds, private)
        case RejectedLog():
            return (result, result.payload.decode())
    return (wire.encode(result).decode("latin-1"),) if isinstance(result, Feedback) else (result,)

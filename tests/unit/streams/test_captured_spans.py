"""Whole requests of real clients, decoded: each call is one log, and it says what the case expects but for what is named here."""

import copy
from typing import Any

import msgspec
import pytest
from clients.case import Case, model_of
from clients.chat_cases import TABLE
from clients.compare import differences
from fakes.spans import CAPTURES, attribute_values
from hypothesis import given
from hypothesis import strategies as st

from tunemill.schemas import otlp
from tunemill.schemas.records import LogRecord
from tunemill.schemas.trace import TraceNote
from tunemill.streams.decode import decode
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.shape import NotACall, Piece, Reading
from tunemill.streams.merge import begun, with_note
from tunemill.streams.unpack import unpack

UNTOLD_BY_LANGFUSE = {"response_id", "finish_reason"}  # of a stream the latter is told
UNTOLD = {
    ("openllmetry_old", "streaming"): {"usage"},
    ("openllmetry_old", "choices"): {"params"},  # the number of choices
    ("openllmetry", "choices"): {"params"},
    ("openllmetry", "tools"): {"arguments"},  # sent as values: the model's spaces are lost
    **{(f"langfuse{version}", "image"): {"messages", "parts"} for version in (3, 4, 5)},  # the image was uploaded
}
CLIENTS = ("openinference", "openllmetry", "openllmetry_old", "langfuse3", "langfuse4", "langfuse5")


def readings(client: str, case: Case) -> list[Reading]:
    records = unpack((CAPTURES / client / f"traces-{case.name}.json").read_bytes())
    return [decode(record, ts_ms=1) for record in records]


def log_of(found: list[Reading]) -> LogRecord:
    """The one log of these readings, with what its trace says."""
    (piece,) = [reading for reading in found if isinstance(reading, Piece)]
    log = begun(piece)
    for reading in found:
        if isinstance(reading, TraceNote):
            log = with_note(log, reading)
    return log


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_a_request_of_a_real_client_is_one_log_of_its_call(case: Case, client: str) -> None:
    found = readings(client, case)
    model = model_of(case.name, client)
    log = log_of(found)
    may_differ = UNTOLD.get((client, case.name), set())
    if not client.startswith("openllmetry"):
        assert (log.user_id, log.session_id) == (f"user of {model}", f"session of {model}")
        assert (log.tags, log.metadata["tier"]) == (("beta", "team:shop"), "gold")
    if client.startswith("langfuse"):
        may_differ = may_differ | UNTOLD_BY_LANGFUSE
        assert log.app is None, "the application names no service"
    else:
        assert log.app == "shop"
        assert {type(reading) for reading in found} == {Piece, NotACall}
    assert set(differences(case, log, model=model)) <= may_differ
    assert (log.error is None) == (case.name != "error")
    assert log.latency_ms is not None
    assert log.latency_ms > 0
    assert not {"input.value", "llm.headers", "langfuse.observation.input"} & set(log.extra.get("attributes", ()))


ITEMS = [
    item
    for client in CLIENTS
    for case in TABLE
    for item in otlp.items((CAPTURES / client / f"traces-{case.name}.json").read_bytes())
]


@given(st.sampled_from(ITEMS), st.data())
def test_a_real_span_with_something_else_in_it_is_read_or_rejected(item: dict[str, Any], data: st.DataObject) -> None:
    changed = copy.deepcopy(item)
    span = changed["span"]
    for place in (span, span["attributes"]):
        name = data.draw(st.sampled_from([*place, "llm.input_messages.0", "gen_ai.prompt.0.content"]))
        place[name] = data.draw(attribute_values)
    try:
        reading = decode(changed, ts_ms=1)
    except Undecodable:
        return
    assert msgspec.json.encode(reading.log if isinstance(reading, Piece) else "")


@pytest.mark.parametrize("end_ns", [0, 2**64, 10**400])
def test_a_span_that_never_ended_took_no_known_time(end_ns: int) -> None:
    item = copy.deepcopy(ITEMS[0])
    item["span"]["end_ns"] = end_ns
    reading = decode(item, ts_ms=1)
    assert isinstance(reading, Piece)
    assert reading.log.latency_ms is None

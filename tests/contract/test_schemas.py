"""The wire contract: schema files, Python records and bytes that were written before must go on agreeing."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse

from tunemill.schemas import wire
from tunemill.schemas.records import (
    DatasetReady,
    DatasetRedacted,
    Edit,
    Erasure,
    Feedback,
    LogBatch,
    LogRecord,
    Message,
    RejectedLog,
    RunFinished,
    RunStatus,
    Said,
    Tag,
    TaggedLog,
    ToolCall,
    Usage,
)

GOLDEN = Path(__file__).parent / "golden"  # written once with each version of a schema; never rewritten

LOG = LogRecord(
    log_id="01JZZZZZZZZZZZZZZZZZZZZZZZ",
    ts_ms=1_790_000_000_123,
    messages=(
        Message(role="system", content="Be brief."),
        Message(role="user", content="Wie spät ist es in 東京? 🕰", parts=[{"type": "text", "text": "Wie spät …"}]),
        Message(role="assistant", tool_calls=(ToolCall(name="clock", arguments='{"city": "Tokyo"', id="call_1"),)),
        Message(role="tool", content="12:30", tool_call_id="call_1"),
    ),
    output=(Message(role="assistant", content="Half past noon.", reasoning="the tool says so"),),
    project="default",
    source="openai_pair",
    app="clock",
    model="atlas-mini-1",
    provider="openai",
    tools=[{"type": "function", "function": {"name": "clock"}}],
    params={"temperature": 0.5},
    usage=Usage(input_tokens=41, output_tokens=5),
    cost_usd=0.00012,
    latency_ms=812.5,
    finish_reason="stop",
    response_id="chatcmpl-1",
    trace_id="t-1",
    session_id="s-1",
    user_id="u-1",
    tags=("team:blue",),
    metadata={"region": "eu"},
    consent="train",
    extra={"system_fingerprint": "fp", "nested": [1, {"a": None}]},
)

RECORDS: dict[str, msgspec.Struct] = {
    "log_record": LOG,
    "log_batch": LogBatch(logs=(LOG, LogRecord(log_id="b", ts_ms=0, messages=()))),
    "tagged_log": TaggedLog(log=LOG, content_digest="ab" * 32, tags=(Tag("lang:de", "language@1"),), language="de"),
    "feedback": Feedback(
        feedback_id="f", ts_ms=1, name="correct", response_id="chatcmpl-1", score=1.0, correction="12:30"
    ),
    "rejected_log": RejectedLog(
        rejected_id="llm.logs:0:7:0",
        ts_ms=1,
        topic="llm.logs",
        partition=0,
        offset=7,
        stage="decode",
        error_code="not_json",
        reason="the message is neither Avro nor JSON",
        payload=b"\x00\xff",
        payload_bytes=2,
    ),
    "dataset_ready": DatasetReady(
        event_id="e",
        ts_ms=1,
        name="d",
        version=1,
        digest="cd" * 32,
        manifest_url="/m.json",
        rows=3,
        recipe={"method": "lora"},
    ),
    "dataset_redacted": DatasetRedacted(event_id="e", ts_ms=1, name="d", version=1, digest="a", replaces_digest="b"),
    "run_status": RunStatus(
        event_id="r:1",
        ts_ms=1,
        run_id="r",
        run_key="k",
        status="queued",
        attempt=1,
        name="d",
        version=1,
        digest="a",
        data=None,
    ),
    "run_finished": RunFinished(
        event_id="r:finished:1",
        ts_ms=1,
        run_id="r",
        run_key="k",
        status="succeeded",
        name="d",
        version=1,
        digest="a",
        method="lora",
        base="/models/x",
        artefact_url="/files/runs/default/r",
        manifest_sha256="ef" * 32,
        scores={"before": {"loss": 2.5}, "gates": []},
    ),
    "erasure": Erasure(erasure_id="x", ts_ms=1, log_id="b"),
}


def test_every_record_that_travels_is_covered() -> None:
    nested = {"tool_call", "message", "usage", "tag", "edit", "said"}
    assert set(RECORDS) == set(wire.SCHEMAS) - nested


@pytest.mark.parametrize("name", wire.SCHEMAS)
def test_schema_file_and_python_record_have_the_same_fields(name: str) -> None:
    schema = json.loads(wire.schema_text(name))
    fields = {field.name: field for field in msgspec.structs.fields(wire.SCHEMAS[name])}
    assert {field["name"] for field in schema["fields"]} == set(fields)
    for field in schema["fields"]:
        assert field["doc"], f"{name}.{field['name']} says nothing of its meaning"
        assert ("default" in field) != fields[field["name"]].required, (
            f"{name}.{field['name']}: default in one place only"
        )


# The same with the fields of later versions, for the records that have them.
SECOND: dict[str, msgspec.Struct] = {
    "tagged_log": msgspec.structs.replace(
        RECORDS["tagged_log"], removed=("topic:math", "pii:email"), fingerprint="0123456789abcdef"
    ),
    "rejected_log": msgspec.structs.replace(
        RECORDS["rejected_log"], attempts=3, first_ts_ms=0, redriven_ms=1_790_000_000_456
    ),
    "dataset_ready": msgspec.structs.replace(RECORDS["dataset_ready"], priority=-3, sources_url="/sources/ab.json"),
}
THIRD: dict[str, msgspec.Struct] = {
    "tagged_log": msgspec.structs.replace(
        SECOND["tagged_log"],
        revision=7,
        edit=Edit(
            messages=(Message(role="user", content="Wie spät ist es in 東京?"),),
            output=(Message(role="assistant", tool_calls=(ToolCall(name="clock", arguments="{}"),)),),
        ),
        consent="eval_only",
        feedback=(
            Said(name="correct", score=0.5, corrected=True),
            Said(name="mood", label="angry 😠", commented=True),
        ),
    ),
}
LATER = {(name, version): record for version, records in ((2, SECOND), (3, THIRD)) for name, record in records.items()}


@pytest.mark.parametrize("record", [*RECORDS.values(), *LATER.values()], ids=lambda record: type(record).__name__)
def test_a_record_survives_both_encodings(record: msgspec.Struct) -> None:
    assert wire.decode(wire.encode(record), type(record)) == record
    assert wire.decode(msgspec.json.encode(record), type(record)) == record


@pytest.mark.parametrize("name", RECORDS)
def test_bytes_written_by_the_first_version_are_still_read(name: str) -> None:
    record = RECORDS[name]
    assert wire.decode((GOLDEN / f"{name}.v1.avro").read_bytes(), type(record)) == record


def test_every_later_version_is_covered() -> None:
    assert set(LATER) == {(name, version) for name, last in wire.VERSIONS.items() for version in range(2, last + 1)}


@pytest.mark.parametrize(("name", "version"), LATER)
def test_bytes_written_by_a_later_version_are_still_read(name: str, version: int) -> None:
    record = LATER[name, version]
    assert wire.decode((GOLDEN / f"{name}.v{version}.avro").read_bytes(), type(record)) == record


# `tunemill-json` is our logical type; to others it is a string, as the specification has it.
@pytest.mark.filterwarnings("ignore::avro.errors.IgnoredLogicalType")
@pytest.mark.parametrize("name", wire.SCHEMAS)
def test_schemas_stay_compatible_both_ways_with_the_first_version(name: str) -> None:
    """FULL_TRANSITIVE: producers are other people's applications, and topics are replayed."""
    first = parse((GOLDEN / f"{name}.v1.first.avsc").read_text(encoding="utf-8"))
    now = parse(json.dumps(_inlined(name)))
    checker = ReaderWriterCompatibilityChecker()
    for reader, writer in ((now, first), (first, now)):
        result = checker.get_compatibility(reader, writer)
        assert result.compatibility is SchemaCompatibilityType.compatible, result.messages


def test_the_fingerprint_is_the_one_of_the_specification() -> None:
    # CRC-64-AVRO of the parsing canonical form "null" is 63dd24e7cc258f8a (the specification's own example tables).
    from fastavro.schema import fingerprint

    assert bytes.fromhex(fingerprint('"null"', "CRC-64-AVRO")) == (0x63DD24E7CC258F8A).to_bytes(8, "little")


def _inlined(name: str) -> Any:
    """A schema with each name it uses defined at its first use, as a parser that reads one file wants it."""
    seen: set[str] = set()

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if isinstance(node, str) and node.startswith("tunemill.v1."):
            return node if node in seen else walk(_named(node))
        if isinstance(node, dict) and node.get("type") == "record":
            seen.add(f"{node['namespace']}.{node['name']}")
            return {**node, "fields": [{**field, "type": walk(field["type"])} for field in node["fields"]]}
        if isinstance(node, dict) and "items" in node:
            return {**node, "items": walk(node["items"])}
        return node

    return walk(json.loads(wire.schema_text(name)))


def _named(full_name: str) -> Any:
    return next(
        schema
        for schema in (json.loads(wire.schema_text(name)) for name in wire.SCHEMAS)
        if f"{schema['namespace']}.{schema['name']}" == full_name
    )

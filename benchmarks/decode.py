"""Decoding alone: the bytes of every wire to normalised logs, against the bare parser of those bytes, in turns.

    python -m benchmarks.decode --input logs.jsonl.gz --json

The same calls are written on each wire. The bare parser is `orjson.loads` for JSON, the protobuf parser for OTLP and
fastavro for Avro: it names, maps and checks nothing, so the ratio is the price of a log that says the same whatever sent it.
"""

import gzip
import json as json_module
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from benchmarks.batches import SAMPLE
from benchmarks.harness import Figure, ratio, report, take_turns
from benchmarks.wires import WIRES
from tunemill.schemas import wire
from tunemill.schemas.packing import pack
from tunemill.schemas.records import LogRecord
from tunemill.streams.decode import decode
from tunemill.streams.formats.shape import Piece
from tunemill.streams.unpack import unpack

Parser = Callable[[bytes], Any]


def main(
    input: Annotated[
        Path, typer.Option(help="OpenAI request and response pairs: JSON lines, gzipped or not.")
    ] = SAMPLE,
    logs: Annotated[int, typer.Option(help="Logs per round; the input is repeated.")] = 2_000,
    rounds: Annotated[int, typer.Option(help="Rounds that count.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Measure logs and megabytes per second, per wire."""
    figures: dict[str, Figure] = {}
    ratios: dict[str, float] = {}
    formats: dict[str, dict[str, float]] = {}
    for name, (payloads, parser) in wires(pairs(input), logs).items():
        size_mb = sum(map(len, payloads)) / 1e6
        sides = {
            name: lambda payloads=payloads: len(payloads) / _seconds(_read, payloads),
            f"{name}, bare parser": lambda payloads=payloads, parser=parser: len(payloads) / _seconds(parser, payloads),
        }
        taken = take_turns(sides, unit="logs/s", rounds=rounds)
        ours, bare = taken.values()
        figures |= taken
        figures[f"{name}, bytes"] = Figure("MB/s", tuple(value * size_mb / len(payloads) for value in ours.values))
        ratios[name] = ratio(ours, bare)
        formats[name] = {
            "logs_per_s": round(ours.median),
            "mb_per_s": round(figures[f"{name}, bytes"].median, 1),
            "ratio_bare_parser": round(ratios[name], 4),
        }
    settings = {"input": input.name, "logs_per_round": logs}
    report("decode", figures, ratios, settings, as_json=json, also={"formats": formats})


def pairs(path: Path) -> list[dict[str, Any]]:
    """The calls in a file that are told as an answered request with messages."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    values = [json_module.loads(line) for line in raw.splitlines() if line.strip()]
    found = [value for value in values if (value.get("response") or {}).get("choices")]
    return [value for value in found if value["request"].get("messages") and value["response"].get("id")]


def wires(calls: Sequence[Mapping[str, Any]], count: int) -> dict[str, tuple[list[bytes], Parser]]:
    """By name, so many messages of one log, and the bare parser of their bytes."""
    chosen = [calls[place % len(calls)] for place in range(count)]
    found: dict[str, tuple[list[bytes], Parser]] = {}
    for name, written in WIRES.items():
        found[name] = [written(call) for call in chosen], _protobuf if name.startswith("otlp") else orjson.loads
    records = [_read(payload) for payload in found["openai_pair"][0]]
    found["tunemill_record"] = [pack([record]) for record in records], orjson.loads
    found["tunemill_record, Avro"] = (
        [wire.encode(record) for record in records],
        lambda one: wire.decode(one, LogRecord),
    )
    return found


def _read(payload: bytes) -> LogRecord:
    """The one log in these bytes, as the stream reads it.

    Raises:
        ValueError: it reads something else: the wire was written wrongly.
    """
    (item,) = unpack(payload)
    reading = decode(item, ts_ms=0)
    log = reading.log if isinstance(reading, Piece) else reading
    if not isinstance(log, LogRecord) or not log.messages:
        raise ValueError(f"these bytes were read as a {type(reading).__name__} without messages")
    return log


def _protobuf(payload: bytes) -> TracesData:
    return TracesData.FromString(payload)


def _seconds(work: Callable[[bytes], Any], payloads: Sequence[bytes]) -> float:
    started = time.perf_counter()
    for payload in payloads:
        work(payload)
    return time.perf_counter() - started


if __name__ == "__main__":
    typer.run(main)

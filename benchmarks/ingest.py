"""From a bus to searchable: our stream against writing the same documents by hand, in turns.

    python -m benchmarks.ingest --engine elasticsearch --input logs.jsonl.gz --json

`elasticsearch`: the Faust worker from Kafka, against raw `_bulk` requests whose bytes are built beforehand.
`embedded`: the loop from SQLite, against a bare loop that gives documents that are built beforehand to tantivy.
The other side decodes, masks and tags nothing, and promises nothing: the ratio is the price of what we add.
"""

import gzip
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from benchmarks import ingest_elasticsearch, ingest_embedded
from benchmarks.harness import ratio, report
from tunemill.bus.port import Message, Outgoing
from tunemill.schemas.ids import new_id
from tunemill.schemas.packing import pack
from tunemill.schemas.records import LogRecord, TaggedLog
from tunemill.schemas.topics import LOGS
from tunemill.streams.decode import decode
from tunemill.streams.process import process
from tunemill.streams.rules import Rules, load_rules

SAMPLE = Path(__file__).parent.parent / "examples" / "logs.jsonl"
PACKED_LOGS = 64  # per message, as the SDK packs them
ENGINES = {"elasticsearch": ingest_elasticsearch, "embedded": ingest_embedded}


def main(
    engine: Annotated[str, typer.Option(help="elasticsearch or embedded.")] = "embedded",
    input: Annotated[Path, typer.Option(help="Logs of any accepted shape: JSON lines, gzipped or not.")] = SAMPLE,
    logs: Annotated[int, typer.Option(help="Logs per round; the input is repeated under fresh ids.")] = 12_000,
    rounds: Annotated[int, typer.Option(help="Rounds that count.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Measure logs per second."""
    if engine not in ENGINES:
        raise typer.BadParameter(f"--engine is one of {', '.join(ENGINES)}")
    batches = Batches(read(input), logs, load_rules())
    figures = ENGINES[engine].measure(batches, rounds=rounds)
    (ours, our_figure), (theirs, their_figure) = figures.items()
    settings = {"input": input.name, "input_logs": len(batches.records), "logs_per_round": logs}
    settings |= {"logs_per_message": PACKED_LOGS, "mean_log_bytes": batches.mean_log_bytes}
    ratios = {f"{ours} / {theirs}": ratio(our_figure, their_figure)}
    report(f"ingest-{engine}", figures, ratios, settings, as_json=json)


def read(path: Path) -> list[LogRecord]:
    """The logs in a file, as the stream decodes them."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [decode(line, ts_ms=0) for line in raw.splitlines() if line.strip()]


class Batches:
    """As many logs as a round takes, each time under fresh ids: an index must not have seen them."""

    def __init__(self, records: list[LogRecord], count: int, rules: Rules) -> None:
        self.records = records
        self.count = count
        self.rules = rules
        self.mean_log_bytes = round(sum(len(msgspec.json.encode(record)) for record in records) / len(records))

    def messages(self) -> list[Outgoing]:
        """Packed for the bus, as the SDK sends them."""
        fresh = [
            msgspec.structs.replace(self.records[place % len(self.records)], log_id=new_id())
            for place in range(self.count)
        ]
        chunks = [fresh[start : start + PACKED_LOGS] for start in range(0, self.count, PACKED_LOGS)]
        return [Outgoing(pack(chunk), key=chunk[0].log_id) for chunk in chunks]

    def tagged(self) -> list[TaggedLog]:
        """What the stream makes of them: masked and tagged.

        Raises:
            ValueError: the stream rejects one, so that the two sides would not write the same.
        """
        found = []
        for place, message in enumerate(self.messages()):
            received = Message(LOGS.name, 0, place, message.key, message.value, 0)
            for result in process(received, self.rules, now_ms=0):
                if not isinstance(result, TaggedLog):
                    raise ValueError(f"the input has a record that is rejected: {result.reason}")
                found.append(result)
        return found


if __name__ == "__main__":
    typer.run(main)

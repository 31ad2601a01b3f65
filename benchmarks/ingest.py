"""From a bus to searchable: our stream against what one would use or write instead, in turns.

    python -m benchmarks.ingest --engine elasticsearch --input logs.jsonl.gz --json

`elasticsearch`: the Faust worker from Kafka; the sides are those of `benchmarks/ingest_elasticsearch.py`.
`embedded`: the loop from SQLite; the sides are those of `benchmarks/ingest_embedded.py`.
`stub`: the worker's own CPU, against an index that takes everything at once (`benchmarks/ingest_stub.py`).
The other sides mask and tag nothing and promise less: a ratio is the price of what we add, or what we save.
"""

from typing import Annotated

import typer

from benchmarks import ingest_elasticsearch, ingest_embedded, ingest_stub
from benchmarks.batches import PACKED_LOGS, SAMPLE, Batches, read
from benchmarks.harness import report
from benchmarks.options import Input, Json, Rounds
from tunemill.streams.rules import load_rules

ENGINES = {"elasticsearch": ingest_elasticsearch, "embedded": ingest_embedded, "stub": ingest_stub}
LOGS = {"elasticsearch": 200_000, "embedded": 20_000, "stub": 10_000}  # fewer are over before the engines are warm


def main(
    engine: Annotated[str, typer.Option(help="elasticsearch, embedded or stub.")] = "embedded",
    input: Input = SAMPLE,
    logs: Annotated[
        int | None,
        typer.Option(
            help="Logs per round; the input is repeated under fresh ids.",
            show_default="200000 for elasticsearch, 20000 for embedded, 10000 for stub",
        ),
    ] = None,
    rounds: Rounds = 5,
    json: Json = False,
) -> None:
    """Measure logs per second."""
    if engine not in ENGINES:
        raise typer.BadParameter(f"--engine is one of {', '.join(ENGINES)}")
    rules = load_rules()
    count = LOGS[engine] if logs is None else logs
    batches = Batches(read(input), count, rules)
    figures, ratios, also = ENGINES[engine].measure(batches, rounds=rounds)
    settings = {"input": input.name, "input_logs": len(batches.records), "logs_per_round": count}
    settings |= {"logs_per_message": PACKED_LOGS, "mean_log_bytes": batches.mean_log_bytes, "rules": len(rules.rules)}
    report(f"ingest-{engine}", figures, ratios, settings, as_json=json, also=also | ratios)


if __name__ == "__main__":
    typer.run(main)

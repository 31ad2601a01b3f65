"""What a learned tag promises on held-out labels, what it keeps on logs that it has never seen, and what it costs.

    python -m benchmarks.learned_tags --labels benchmarks/labels/topics.dev.jsonl --fresh benchmarks/labels/topics.test.jsonl --json

Every tag that has enough labels in the first file is learned from it and set on the second. The files are as for `benchmarks.rules`.
The tags are trained as if each line were a conversation of its own.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from benchmarks.harness import Figure, report, take_turns
from benchmarks.rules import read, tagged
from tunemill.schemas.learned import LearnedTag, Lesson
from tunemill.schemas.records import LogRecord
from tunemill.streams.learn import learn, share
from tunemill.streams.learned import matching
from tunemill.streams.rules import Rules
from tunemill.streams.text import Texts, texts_of

Labelled = list[tuple[LogRecord, frozenset[str]]]


def main(
    labels: Annotated[Path, typer.Option(help="Labelled lines to learn from.")],
    fresh: Annotated[Path, typer.Option(help="Labelled lines to judge by.")],
    precision: Annotated[float, typer.Option(help="What the thresholds should reach.")] = 0.9,
    rounds: Annotated[int, typer.Option(help="How often each cost is measured.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="End with the result as one line of JSON.")] = False,
) -> None:
    """Learn, judge and print a table."""
    known, unknown = _logs(labels), _logs(fresh)
    rows = {name: row for name in _names(known) if (row := judged(name, known, unknown, precision)) is not None}
    for line in table(rows):
        print(line)
    settings = {"labels": labels.name, "lines": len(known), "fresh": fresh.name, "fresh_lines": len(unknown)}
    models = [row["learned"] for row in rows.values()]
    told = {name: {key: value for key, value in row.items() if key != "learned"} for name, row in rows.items()}
    figures = timings(models, [log for log, _ in unknown], rounds)
    report("learned-tags", figures, {}, {**settings, "precision": precision}, as_json=json, also={"tags": told})


def judged(name: str, known: Labelled, unknown: Labelled, precision: float) -> dict[str, Any] | None:
    """What was promised of a tag and what it keeps; None: it has too few labels."""
    started = time.process_time()
    lesson = learn([(log, name in tags) for log, tags in known], precision=precision)
    seconds = time.process_time() - started
    if not isinstance(lesson, Lesson):
        return None
    one = LearnedTag(name, 1, lesson.model)
    hits = [(bool(matching([one], texts_of(log))), name in tags) for log, tags in unknown]
    right = sum(tag and wanted for tag, wanted in hits)
    given, wanted = sum(tag for tag, _ in hits), sum(label for _, label in hits)
    held_out = lesson.report.held_out
    return {
        "learned": one,
        "yes": lesson.report.yes,
        "threshold_by": lesson.report.threshold_by,
        "promised": {
            "precision": msgspec.to_builtins(held_out.precision),
            "recall": msgspec.to_builtins(held_out.recall),
        },
        "kept": {
            "precision": msgspec.to_builtins(share(right, given)) if given else None,
            "recall": msgspec.to_builtins(share(right, wanted)) if wanted else None,
        },
        "words": sum(map(len, lesson.model.weights.values())),
        "learned_in_s": round(seconds, 2),
    }


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """In Markdown: per tag what was promised and what was kept."""
    head = "| tag | labelled with it | promised precision | recall | kept precision | recall | threshold by |"
    return [head, "|---|---|---|---|---|---|---|", *(_row(name, row) for name, row in rows.items())]


def timings(models: Sequence[LearnedTag], logs: Sequence[LogRecord], rounds: int) -> dict[str, Figure]:
    """CPU time per log of the fresh file, for none, one and all of the learned tags."""
    texts = [texts_of(log) for log in logs]
    sides: dict[str, Callable[[], float]] = {
        f"{count} learned tags": _side(models[:count], texts) for count in (0, 1, len(models))
    }
    return take_turns(sides, unit="us/log", rounds=rounds, warmups=2)


def _side(models: Sequence[LearnedTag], texts: Sequence[Texts]) -> Callable[[], float]:
    def measure() -> float:
        started = time.process_time()
        for one in texts:
            matching(models, one)
        return (time.process_time() - started) / len(texts) * 1e6

    return measure


def _logs(path: Path) -> Labelled:
    """As the stream reads and masks them."""
    samples = read(path)
    return [(one.log, sample.tags) for sample, one in zip(samples, tagged(samples, Rules([])), strict=True)]


def _names(known: Labelled) -> list[str]:
    return sorted({name for _, tags in known for name in tags})


def _row(name: str, row: dict[str, Any]) -> str:
    promised, kept = row["promised"], row["kept"]
    cells = [_cell(part[what]) for part in (promised, kept) for what in ("precision", "recall")]
    return f"| `{name}` | {row['yes']} | {' | '.join(cells)} | {row['threshold_by']} |"


def _cell(one: dict[str, Any] | None) -> str:
    return "-" if one is None else f"{one['share']:.2f} ({one['low']:.2f} to {one['high']:.2f})"


if __name__ == "__main__":
    typer.run(main)

"""What tags are worth: precision and recall on labelled samples, and what setting them costs.

    python -m benchmarks.rules --labels benchmarks/labels/topics.dev.jsonl --json

A line of a file of labels is a record as the stream takes it, or `{"text": ...}` for one message of a user, with its `tags`: those
that a person would set. The stream's own functions read, mask and tag it. A tag that they set and the line lacks is wrong; only those
namespaces count (`topic:`, `lang:`, ...) that the labels of the file use. What no file has labels for is listed apart.
"""

import gzip
import json as json_module
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.harness import Figure, report, take_turns
from tunemill.bus.port import Message
from tunemill.privacy.pii import KINDS as PII_KINDS
from tunemill.privacy.secrets import KINDS
from tunemill.schemas.records import LogRecord, TaggedLog
from tunemill.schemas.topics import LOGS
from tunemill.streams.mask import Masked
from tunemill.streams.process import process
from tunemill.streams.rules import Rules, load_rules
from tunemill.streams.tag import tag
from tunemill.streams.text import Texts, texts_of


@dataclass(frozen=True)
class Sample:
    """A record, and the tags that a person gave it."""

    record: Mapping[str, Any]
    tags: frozenset[str]


@dataclass
class Score:
    """How often a tag was set rightly, wrongly, and not set."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    @property
    def precision(self) -> float | None:
        """Of those set, the part that is right; None when it was never set."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        """Of those labelled, the part that was set; None when it was never labelled."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    def as_json(self) -> dict[str, Any]:
        """Counts, and their two ratios."""
        return {**vars(self), "precision": _rounded(self.precision), "recall": _rounded(self.recall)}


@dataclass
class Scores:
    """Of every tag in some files of labels."""

    lines: int = 0
    namespaces: set[str] = field(default_factory=set)
    tags: dict[str, Score] = field(default_factory=dict)

    def add(self, samples: Sequence[Sample], rules: Rules) -> None:
        """Count one file."""
        namespaces = {namespace_of(name) for sample in samples for name in sample.tags}
        for sample in samples:
            found = {entry.tag for entry in tagged(sample.record, rules).tags}
            for name in found | sample.tags:
                if namespace_of(name) in namespaces:
                    self._count(name, name in found, name in sample.tags)
        self.lines += len(samples)
        self.namespaces |= namespaces

    def _count(self, name: str, found: bool, labelled: bool) -> None:
        score = self.tags.setdefault(name, Score())
        score.tp += found and labelled
        score.fp += found and not labelled
        score.fn += labelled and not found


def main(
    labels: Annotated[
        list[Path], typer.Option(help="JSON lines with `tags`, gzipped or not. May be given several times.")
    ],
    rounds: Annotated[int, typer.Option(help="Rounds of the timing that count.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Measure precision and recall per tag, and microseconds per log and rule."""
    rules = load_rules()
    samples = {path: read(path) for path in labels}
    whole, splits = scored(samples, rules)
    for line in table(splits, rules):
        print(line)
    unlabelled = sorted(name for name in settable(rules) if namespace_of(name) not in whole.namespaces)
    print(f"no labels for: {', '.join(unlabelled) or 'none'}")
    logs = [tagged(sample.record, rules).log for lines in samples.values() for sample in lines]
    also = {
        "tags": {name: (whole.tags.get(name) or Score()).as_json() for name in _rows(whole, rules)},
        "splits": {
            split: {name: score.as_json() for name, score in sorted(scores.tags.items())}
            for split, scores in splits.items()
        },
        "unlabelled": unlabelled,
        "rules": costs(rules, logs),
    }
    settings = {"labels": [path.name for path in labels], "lines": whole.lines, "rules": len(rules.rules)}
    report("rules", timings(rules, logs, rounds), {}, settings, as_json=json, also=also)


def read(path: Path) -> list[Sample]:
    """The labelled lines of a file.

    Raises:
        ValueError: a line is no object with `tags`; the message names it.
    """
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    samples = []
    for number, line in enumerate(raw.splitlines(), start=1):
        if not line.strip():
            continue
        value = json_module.loads(line)
        if not isinstance(value, dict) or not isinstance(value.get("tags"), list):
            raise ValueError(f"{path}, line {number}: expected an object with `tags`, a list")
        given = frozenset(value.pop("tags"))
        if "text" in value:
            value["messages"] = [{"role": "user", "content": value.pop("text")}]
        samples.append(Sample(value, given))
    return samples


def scored(samples: Mapping[Path, Sequence[Sample]], rules: Rules) -> tuple[Scores, dict[str, Scores]]:
    """Of all files together, and of each split."""
    whole = Scores()
    splits: dict[str, Scores] = {}
    for path, lines in samples.items():
        whole.add(lines, rules)
        splits.setdefault(split_of(path), Scores()).add(lines, rules)
    return whole, splits


def tagged(record: Mapping[str, Any], rules: Rules) -> TaggedLog:
    """The record as the stream reads, masks and tags it.

    Raises:
        ValueError: the stream does not take it.
    """
    message = Message(LOGS.name, 0, 0, None, json_module.dumps(record).encode(), 0)
    (result,) = process([message], rules, now_ms=0)[0]
    if not isinstance(result, TaggedLog) or result.tag_status != "ok":
        raise ValueError(f"a labelled line became a {type(result).__name__}: {getattr(result, 'reason', '')}")
    return result


def namespace_of(name: str) -> str:
    """What stands before a tag's colon."""
    return name.partition(":")[0]


def split_of(path: Path) -> str:
    """`topics.dev.jsonl` is of the split `dev`; a file without such a name is one of its own."""
    return path.name.removesuffix(".gz").removesuffix(".jsonl").rpartition(".")[2]


def settable(rules: Rules) -> set[str]:
    """The tags that are set here, but for those of languages, of which there are too many."""
    detected = {f"pii:{kind}" for kind in PII_KINDS} | {f"secret:{kind}" for kind in KINDS}
    return {rule.tag for rule in rules.rules} | detected


def table(splits: Mapping[str, Scores], rules: Rules) -> list[str]:
    """In Markdown: per tag its precision, recall and number of labels, in each split."""
    heads = "".join(f" precision, {split} | recall | labelled |" for split in splits)
    rule = "---|" * (1 + 3 * len(splits))
    rows = sorted({name for scores in splits.values() for name in _rows(scores, rules)})
    return [f"| tag |{heads}", f"|{rule}", *(_row(name, splits.values()) for name in rows)]


def _rows(scores: Scores, rules: Rules) -> list[str]:
    """The tags that there are labels for or against."""
    names = scores.tags.keys() | settable(rules)
    return sorted(name for name in names if namespace_of(name) in scores.namespaces)


def _row(name: str, splits: Iterable[Scores]) -> str:
    cells = []
    for scores in splits:
        score = scores.tags.get(name) or Score()
        cells += [_cell(score.precision), _cell(score.recall), str(score.tp + score.fn)]
    return f"| `{name}` | {' | '.join(cells)} |"


def timings(rules: Rules, logs: Sequence[LogRecord], rounds: int) -> dict[str, Figure]:
    """CPU time per log: of the rules with the gates of private data, and of all that sets tags."""
    texts = [texts_of(log) for log in logs]
    masked = [Masked(log, ()) for log in logs]
    sides = {
        "rules": lambda: _us_each(lambda pair: rules.find(*pair), list(zip(logs, texts, strict=True))),
        "tag": lambda: _us_each(lambda one: tag(one, rules), masked),
    }
    return take_turns(sides, unit="us/log", rounds=rounds, warmups=2)


def costs(rules: Rules, logs: Sequence[LogRecord]) -> dict[str, dict[str, Any]]:
    """By rule, how many of the logs it matches and what it costs alone, in us per log beside what no rules cost.

    They share one automaton, so that all together cost much less than the sum.
    """
    pairs = [(log, texts_of(log)) for log in logs]
    nothing = _best(Rules([]), pairs)
    matched = Counter(rule.name for pair in pairs for rule in rules.find(*pair).rules)
    return {
        rule.name: {
            "tag": rule.tag,
            "matched": matched[rule.name],
            "us_alone": round(max(0.0, _best(Rules([rule]), pairs) - nothing), 2),
        }
        for rule in rules.rules
    }


def _best(rules: Rules, pairs: Sequence[tuple[LogRecord, Texts]]) -> float:
    return min(_us_each(lambda pair: rules.find(*pair), pairs) for _ in range(4))


def _us_each(work: Callable[[Any], Any], values: Sequence[Any]) -> float:
    started = time.process_time()
    for value in values:
        work(value)
    return (time.process_time() - started) / len(values) * 1e6


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    typer.run(main)

"""What tags are worth: precision and recall on labelled samples, and what setting them costs.

    python -m benchmarks.rules --labels benchmarks/labels/topics.dev.jsonl --json

A line of a file of labels is a record as the stream takes it, or `{"text": ...}` for one message of a user, with its `tags`: those
that a person would set. The stream's own functions read, mask and tag it. A tag that they set and the line lacks is wrong; only those
namespaces count (`topic:`, `lang:`, ...) that the labels of the file use. Every tag that is on has its entry in the JSON; those of
other namespaces count nothing there, and are listed apart. `{"sha256": ...}` in place of a text is a log of `--corpus`, by the first
16 digits of the digest of its first user message, for texts that are not ours to give away.
"""

import gzip
import json as json_module
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
import typer

from benchmarks import batches, tag_costs
from benchmarks.harness import report
from tunemill.bus.port import Message
from tunemill.privacy.pii import KINDS as PII_KINDS
from tunemill.privacy.secrets import KINDS
from tunemill.schemas.records import RejectedLog, TaggedLog
from tunemill.schemas.topics import LOGS
from tunemill.streams.process import Result, process
from tunemill.streams.rules import Rules, load_rules

DIGITS = 16  # of a digest: enough to tell texts apart


class WrongLabels(Exception):
    """A file of labels cannot be used; the message names the file, the line and what is wrong."""


@dataclass(frozen=True)
class Sample:
    """A record, and the tags that a person gave it."""

    place: str  # its file and line
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

    def add(self, samples: Sequence[Sample], logs: Sequence[TaggedLog]) -> None:
        """Count one file: its samples, and what the stream made of them."""
        namespaces = {namespace_of(name) for sample in samples for name in sample.tags}
        for sample, log in zip(samples, logs, strict=True):
            found = {entry.tag for entry in log.tags}
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
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="Logs of any accepted shape, of which lines with `sha256` speak: JSON lines, gzipped or not."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of the timing that count.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Measure precision and recall per tag, and microseconds per log and rule."""
    rules = load_rules()
    try:
        known = texts_by_digest(corpus) if corpus else {}
        samples = {path: read(path, known) for path in labels}
        whole, splits = scored(samples, rules)
    except WrongLabels as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    for line in table(splits, rules):
        print(line)
    unlabelled = sorted(name for name in settable(rules) if namespace_of(name) not in whole.namespaces)
    print(f"no labels for: {', '.join(unlabelled) or 'none'}")
    logs = [one.log for lines in samples.values() for one in tagged(lines, rules)]
    us_per_log = tag_costs.by_tag(rules, logs)
    for line in tag_costs.table(us_per_log):
        print(line)
    also = {
        "tags": {
            name: (whole.tags.get(name) or Score()).as_json() for name in sorted(whole.tags.keys() | settable(rules))
        },
        "splits": {
            split: {name: score.as_json() for name, score in sorted(scores.tags.items())}
            for split, scores in splits.items()
        },
        "unlabelled": unlabelled,
        "us_per_log": us_per_log,
        "rules": tag_costs.by_rule(rules, logs),
    }
    settings = {"labels": [path.name for path in labels], "lines": whole.lines, "rules": len(rules.rules)}
    report("rules", tag_costs.timings(rules, logs, rounds), {}, settings, as_json=json, also=also)


def texts_by_digest(corpus: Path) -> dict[str, Mapping[str, Any]]:
    """The first log with each text, by the first digits of the text's digest.

    Raises:
        WrongLabels: the file cannot be read.
    """
    try:
        logs = batches.read(corpus)
    except (OSError, EOFError, zlib.error) as error:
        raise WrongLabels(f"{corpus}: {getattr(error, 'strerror', None) or error}") from error
    return {batches.digest(log)[:DIGITS]: msgspec.to_builtins(log) for log in reversed(logs)}


def read(path: Path, known: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> list[Sample]:
    """The labelled lines of a file.

    Args:
        known: records by digest, for lines that name theirs so.

    Raises:
        WrongLabels: it cannot be read, has no lines, or one of them is no object with `tags`.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise WrongLabels(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    lines = [(f"{path}, line {number}", line) for number, line in enumerate(raw.splitlines(), start=1) if line.strip()]
    if not lines:
        raise WrongLabels(f"{path}: it has no lines")
    return [_sample(place, line, known) for place, line in lines]


def _sample(place: str, line: bytes, known: Mapping[str, Mapping[str, Any]]) -> Sample:
    try:
        value = json_module.loads(line)
    except ValueError as error:
        raise WrongLabels(f"{place}: no JSON: {error}") from error
    given = value.pop("tags", None) if isinstance(value, dict) else None
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise WrongLabels(f"{place}: expected an object with `tags`, a list of strings")
    if "sha256" in value:
        if value["sha256"] not in known:
            raise WrongLabels(f"{place}: no log of --corpus has this `sha256`")
        return Sample(place, known[value["sha256"]], frozenset(given))
    if "text" in value:
        value["messages"] = [{"role": "user", "content": value.pop("text")}]
    return Sample(place, value, frozenset(given))


def scored(samples: Mapping[Path, Sequence[Sample]], rules: Rules) -> tuple[Scores, dict[str, Scores]]:
    """Of all files together, and of each split."""
    whole = Scores()
    splits: dict[str, Scores] = {}
    for path, lines in samples.items():
        logs = tagged(lines, rules)
        whole.add(lines, logs)
        splits.setdefault(split_of(path), Scores()).add(lines, logs)
    return whole, splits


def tagged(samples: Sequence[Sample], rules: Rules) -> list[TaggedLog]:
    """The records as the stream reads, masks and tags them.

    Raises:
        WrongLabels: the stream does not take one as a log.
    """
    messages = [Message(LOGS.name, 0, 0, None, json_module.dumps(sample.record).encode(), 0) for sample in samples]
    return [
        _only_log(sample.place, results)
        for sample, results in zip(samples, process(messages, rules, now_ms=0), strict=True)
    ]


def _only_log(place: str, results: Sequence[Result]) -> TaggedLog:
    match results:
        case [TaggedLog(tag_status="ok") as log]:
            return log
        case [RejectedLog(reason=reason)]:
            raise WrongLabels(f"{place}: {reason}")
    raise WrongLabels(f"{place}: the stream does not read it as one log")


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


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    typer.run(main)

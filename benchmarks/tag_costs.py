"""What setting tags costs: all together, tag by tag and rule by rule, in microseconds of CPU per log."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from benchmarks.harness import Figure, take_turns
from tunemill.schemas.records import LogRecord
from tunemill.streams.fingerprint import fingerprints
from tunemill.streams.flow import PART_MESSAGES
from tunemill.streams.language import language_of
from tunemill.streams.mask import Masked, mask
from tunemill.streams.rules import Rules
from tunemill.streams.tag import tag_all
from tunemill.streams.text import texts_of

T = TypeVar("T")
TURNS = 15  # of which the cheapest counts: what is added by others on the machine is no cost of ours
MOST_LOGS = 500  # that a single tag or rule is timed on, spread over all

Work = Callable[[], float]  # one measurement, in us per log


def timings(rules: Rules, logs: Sequence[LogRecord], rounds: int) -> dict[str, Figure]:
    """Of the rules with the gates of private data, and of all that sets tags."""
    pairs = [(log, texts_of(log)) for log in logs]
    masked = [Masked(log, ()) for log in logs]
    sides = {"rules": _timed(rules.find, pairs), "tag": _timed(lambda part: tag_all(part, rules), masked)}
    return take_turns(sides, unit="us/log", rounds=rounds, warmups=2)


def by_tag(rules: Rules, logs: Sequence[LogRecord]) -> dict[str, float]:
    """What all that sets a tag costs alone.

    Of rules, beside what no rules cost, which is `pii:*`: reading the text for the gates of private data. These
    costs do not add up: rules share automata, whose tables share the processor's cache.
    """
    some = _spread(logs)
    pairs = [(log, texts_of(log)) for log in some]
    encoded = [(log, msgspec.json.encode(log, order="deterministic")) for log in some]
    alike = {name: Rules([rule for rule in rules.rules if rule.tag == name]) for name in _tags(rules)}
    sides = {
        "secret:*": _timed(lambda part: [mask(log, json=json) for log, json in part], encoded),
        "lang:*": _timed(lambda part: [language_of(text.user) for _, text in part], pairs),
        "quality:near-duplicate": _timed(fingerprints, some),
        "pii:*": _timed(Rules([]).find, pairs),
        **{name: _timed(one.find, pairs) for name, one in alike.items()},
        "all rules together": _timed(rules.find, pairs),
    }
    us = _lowest(sides)
    beside = us["pii:*"]
    return {
        name: _rounded(value - beside if name in alike or name == "all rules together" else value)
        for name, value in us.items()
    }


def by_rule(rules: Rules, logs: Sequence[LogRecord]) -> dict[str, dict[str, Any]]:
    """Its tag, how many of the logs it matches, and what it costs alone beside what no rules cost."""
    pairs = [(log, texts_of(log)) for log in logs]
    alone = {rule.name: Rules([rule]) for rule in rules.rules}
    nothing = "no rules"  # a rule's name has no space
    us = _lowest({name: _timed(one.find, _spread(pairs)) for name, one in {nothing: Rules([]), **alone}.items()})
    return {
        rule.name: {
            "tag": rule.tag,
            "matched": sum(bool(found.tags) for part in _parts(pairs) for found in alone[rule.name].find(part)),
            "us_alone": _rounded(us[rule.name] - us[nothing]),
        }
        for rule in rules.rules
    }


def table(us: Mapping[str, float]) -> list[str]:
    """In Markdown."""
    return ["| tag | us a log |", "|---|---|", *(f"| `{name}` | {value:.1f} |" for name, value in us.items())]


def _tags(rules: Rules) -> list[str]:
    return sorted({rule.tag for rule in rules.rules})


def _lowest(sides: Mapping[str, Work]) -> dict[str, float]:
    """Of each side its cheapest measurement; they take turns, so that what slows the machine down slows each."""
    rounds = [{name: side() for name, side in sides.items()} for _ in range(TURNS)]
    return {name: min(values[name] for values in rounds) for name in sides}


def _timed(work: Callable[[Sequence[T]], object], values: Sequence[T]) -> Work:
    parts = _parts(values)

    def measure() -> float:
        started = time.process_time()
        for part in parts:
            work(part)
        return (time.process_time() - started) / len(values) * 1e6

    return measure


def _parts(values: Sequence[T]) -> list[Sequence[T]]:
    """As many at once as the stream takes."""
    return [values[start : start + PART_MESSAGES] for start in range(0, len(values), PART_MESSAGES)]


def _spread(values: Sequence[T]) -> Sequence[T]:
    return values[:: -(-len(values) // MOST_LOGS)]


def _rounded(us: float) -> float:
    return round(max(0.0, us), 2)

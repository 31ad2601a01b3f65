"""What is in a dataset and what is left out, counted so that counts of parts add up to those of the whole. Pure.

Memory and what is stored grow with the number of different languages, tags and values of slices up to a limit, and not with the rows.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Self

import msgspec

from tunemill.curator_api.facts import ABSENT
from tunemill.curator_api.rows import Left, Reason, Row

Counts = dict[str, int]
UNNAMED = "(unnamed)"  # the source of rows that were imported without one
OTHERS = "(others)"  # tags and values of a slice that are counted together, for they are too rare to be named
MOST_NAMED = 1_000  # tags, and values of each slice, in a tally that is kept
MOST_COUNTED = (
    50_000  # while rows are counted; with twice as many different ones, counts of the named may become a little too low
)
_STEPS = 4  # buckets in each doubling
_COUNTED = ("splits", "excluded", "languages", "tags", "masked", "licences", "terms", "sources", "flags")
_SPREADS = ("characters", "messages", "tokens")


class Spread(msgspec.Struct, frozen=True, omit_defaults=True):
    """How large numbers are: how many lie in each bucket, and their sum."""

    buckets: Counts = {}  # by bucket, see `bucket`
    total: int = 0


class Slice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One value of a slice."""

    rows: int = 0  # in the dataset
    out: Counts = {}  # left out, by Reason


_NO_SLICE = Slice()


class Tally(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Counts of rows, and of what is left out. `a + b - b` is `a`."""

    splits: Counts = {}
    excluded: Counts = {}  # by Reason
    languages: Counts = {}
    tags: Counts = {}
    masked: Counts = {}  # rows in which private data was replaced, by its kind
    licences: Counts = {}
    terms: Counts = {}  # imported rows by the licence of their set
    sources: Counts = {}  # imported rows by the file or set that they came from
    flags: Counts = {}  # rows that are imported, edited, corrected
    characters: Spread = Spread()
    messages: Spread = Spread()
    tokens: Spread = Spread()
    slices: dict[str, dict[str, Slice]] = {}

    @classmethod
    def of(cls, names: Sequence[str], rows: Iterable[tuple[Row, str]], left: Sequence[Left] = ()) -> "Tally":
        """The tally of these rows, each with its split, and of what is left out, by the slices of these names."""
        counting = Counting(names)
        by_split: dict[str, list[Row]] = {}
        for row, split in rows:
            by_split.setdefault(split, []).append(row)
        for split, its in by_split.items():
            counting.keep(its, split)
        counting.leave(left)
        return counting.tally()

    @property
    def rows(self) -> int:
        """How many are in the dataset."""
        return sum(self.splits.values())

    @property
    def matched(self) -> int:
        """How many were looked at."""
        return self.rows + sum(self.excluded.values())

    def __add__(self, other: Self) -> "Tally":
        return _sum(self, other, 1)

    def __sub__(self, other: Self) -> "Tally":
        return _sum(self, other, -1)


class Counting:
    """A tally in the making, a page of rows at a time."""

    def __init__(self, names: Sequence[str]) -> None:
        """Begin with nothing.

        Args:
            names: of the slices to count by, as `recipe.slice_names` gives them.
        """
        self._names = tuple(names)
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in _COUNTED}
        self._buckets: dict[str, Counter[int]] = {name: Counter() for name in _SPREADS}
        self._totals: Counter[str] = Counter()
        self._in: dict[str, Counter[str]] = {name: Counter() for name in names}
        self._out: dict[str, defaultdict[Reason, Counter[str]]] = {name: defaultdict(Counter) for name in names}

    def keep(self, rows: Sequence[Row], split: str) -> None:
        """Count rows that are in the dataset."""
        counts = self._counts
        counts["splits"][split] += len(rows)
        counts["languages"].update([row.language or "unknown" for row in rows])
        counts["tags"].update([tag for row in rows for tag in row.tags])
        _fold(counts["tags"])
        counts["masked"].update([kind for row in rows for kind in row.masked])
        counts["licences"].update([row.licence for row in rows])
        counts["terms"].update([row.terms for row in rows if row.terms is not None])
        counts["sources"].update([row.source or UNNAMED for row in rows if row.log_id is None])
        _fold(counts["sources"])
        counts["flags"]["imported"] += sum([row.log_id is None for row in rows])
        counts["flags"]["edited"] += sum([row.edited for row in rows])
        counts["flags"]["corrected"] += sum([row.corrected for row in rows])
        self._spread("characters", [row.characters() for row in rows])
        self._spread("messages", [len(row.messages) for row in rows])
        self._spread("tokens", [row.tokens for row in rows if row.tokens is not None])
        for name in self._names:
            self._in[name].update([row.slices.get(name, ABSENT) for row in rows])
            _fold(self._in[name])

    def leave(self, left: Sequence[Left]) -> None:
        """Count what is left out."""
        self._counts["excluded"].update([str(one.reason) for one in left])
        for name in self._names:
            for (value, reason), count in Counter([(one.slices.get(name, ABSENT), one.reason) for one in left]).items():
                self._out[name][reason][value] += count
            for counter in self._out[name].values():
                _fold(counter)

    def tally(self) -> Tally:
        """What was counted."""
        fields: dict[str, Any] = {name: _present(counter) for name, counter in self._counts.items()}
        for name, counter in self._buckets.items():
            buckets = {str(place): count for place, count in sorted(counter.items())}
            fields[name] = Spread(buckets, self._totals[name])
        return Tally(**fields, slices={name: values for name in self._names if (values := self._slice(name))})

    def _spread(self, name: str, numbers: Sequence[int]) -> None:
        buckets = self._buckets[name]
        for number, count in Counter(numbers).items():
            buckets[bucket(number)] += count
        self._totals[name] += sum(numbers)

    def _slice(self, name: str) -> dict[str, Slice]:
        out: dict[str, Counts] = {}
        for reason, counter in sorted(self._out[name].items()):
            for value, count in counter.items():
                out.setdefault(value, {})[reason.value] = count
        kept = self._in[name]
        return {value: Slice(kept[value], out.get(value, {})) for value in sorted({*kept, *out})}


def bounded(tally: Tally) -> Tally:
    """The tally as it is kept: of tags, sources and each slice's values the most frequent by name, all others together."""
    tags, sources = (_named(some, first_of(some, MOST_NAMED)) for some in (tally.tags, tally.sources))
    slices = {name: with_others(values, MOST_NAMED) for name, values in tally.slices.items()}
    return msgspec.structs.replace(tally, tags=tags, sources=sources, slices=slices)


def with_others(values: dict[str, Slice], most: int) -> dict[str, Slice]:
    """So many values by name, the most frequent first, and then all others together, if there are any."""
    named = first_of({value: logs_of(its) for value, its in values.items()}, most)
    others = _slices({}, _named_slices({value: its for value, its in values.items() if value not in named}, ()), 1)
    return {value: values[value] for value in named} | others


def first_of(counts: Mapping[str, int], most: int) -> Counts:
    """The most frequent ones that are named, the most frequent first."""
    named = [(name, count) for name, count in counts.items() if name != OTHERS]
    return dict(sorted(named, key=lambda item: (-item[1], item[0]))[:most])


def logs_of(its: Slice) -> int:
    """How many were looked at."""
    return its.rows + sum(its.out.values())


def left_out_alone(tally: Tally, values: Collection[str]) -> set[tuple[str, str]]:
    """Those of these values, each with its slice, that no row has: by them only what is left out is counted."""
    return {
        (name, value)
        for name, its in tally.slices.items()
        for value in its.keys() & values
        if its[value].rows <= 0 and value != ABSENT
    }


def without_values(tally: Tally, gone: Collection[tuple[str, str]]) -> Tally:
    """The tally without these values that no row has; what they counted is counted as having none."""
    slices = {
        name: _merged(values, {value for one, value in gone if one == name}) for name, values in tally.slices.items()
    }
    return msgspec.structs.replace(tally, slices=slices)


def without_erased_values(tally: Tally) -> Tally:
    """The tally without the values of slices that erased logs had and no row has: such a value may say whose they were."""
    gone = {
        (name, value)
        for name, values in tally.slices.items()
        for value, its in values.items()
        if its.rows <= 0 and Reason.ERASED in its.out
    }
    return without_values(tally, gone)


def bucket(number: int) -> int:
    """The bucket that a number lies in: four in each doubling, so that a number is known within a quarter."""
    if number < _STEPS:
        return max(number, 0)
    octave = number.bit_length() - 3
    return _STEPS * octave + (number >> octave)


def smallest_in(place: int) -> int:
    """The smallest number of a bucket."""
    if place < 2 * _STEPS:
        return place
    octave = place // _STEPS - 1
    return (place - _STEPS * octave) << octave


def _merged(values: Mapping[str, Slice], gone: AbstractSet[str]) -> dict[str, Slice]:
    out: Counter[str] = Counter()
    rows = 0  # or fewer, of a value of which some were counted with the others
    for value in values.keys() & gone:
        out.update(values[value].out)
        rows += values[value].rows
    found = {value: its for value, its in values.items() if value not in gone}
    return _slices(_slices(found, {ABSENT: Slice(0, dict(out))}, 1), {OTHERS: Slice(rows)}, 1) if out else found


def _fold(counter: Counter[str]) -> None:
    """Count the rarest ones together where there are too many."""
    if len(counter) > 2 * MOST_COUNTED:
        counts = _named(counter, first_of(counter, MOST_COUNTED))
        counter.clear()
        counter.update(counts)


def _named(counts: Mapping[str, int], names: Collection[str]) -> Counts:
    """These counts by these names alone, those of all others together."""
    found: Counter[str] = Counter()
    for name, count in counts.items():
        found[name if name in names else OTHERS] += count
    return dict(found)


def _named_slices(values: Mapping[str, Slice], names: Collection[str]) -> dict[str, Slice]:
    """Likewise of a slice."""
    rows = _named({value: its.rows for value, its in values.items()}, names)
    out: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for value, its in values.items():
        out[value if value in names else OTHERS].update(its.out)
    return {value: Slice(count, dict(out[value])) for value, count in rows.items()}


def _present(counts: Mapping[str, int]) -> Counts:
    return {key: count for key, count in sorted(counts.items()) if count}


def _sum(one: Tally, other: Tally, sign: int) -> Tally:
    fields: dict[str, Any] = {}
    for name in _COUNTED:
        fields[name] = _counts(getattr(one, name), getattr(other, name), sign)
    for name in _SPREADS:
        fields[name] = _spreads(getattr(one, name), getattr(other, name), sign)
    names = sorted(one.slices.keys() | other.slices.keys())
    slices = {name: _slices(one.slices.get(name, {}), other.slices.get(name, {}), sign) for name in names}
    return Tally(**fields, slices={name: values for name, values in slices.items() if values})


def _counts(one: Counts, other: Counts, sign: int) -> Counts:
    if OTHERS in one:
        other = _named(other, one)
    return _present({key: one.get(key, 0) + sign * other.get(key, 0) for key in one.keys() | other.keys()})


def _spreads(one: Spread, other: Spread, sign: int) -> Spread:
    return Spread(_counts(one.buckets, other.buckets, sign), one.total + sign * other.total)


def _slices(one: dict[str, Slice], other: dict[str, Slice], sign: int) -> dict[str, Slice]:
    if OTHERS in one:
        other = _named_slices(other, one)
    found = {}
    for value in sorted(one.keys() | other.keys()):
        here, there = one.get(value, _NO_SLICE), other.get(value, _NO_SLICE)
        added = Slice(here.rows + sign * there.rows, _counts(here.out, there.out, sign))
        if added != _NO_SLICE:
            found[value] = added
    return found

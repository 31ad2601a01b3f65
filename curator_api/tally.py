"""What is in a dataset and what is left out, counted so that counts of parts add up to those of the whole. Pure.

Memory grows with the number of different languages, tags and values of slices, and not with the rows.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import msgspec

from tunemill.curator_api.facts import ABSENT
from tunemill.curator_api.rows import Left, Reason, Row

Counts = dict[str, int]
_STEPS = 4  # buckets in each doubling
_COUNTED = ("splits", "excluded", "languages", "tags", "masked", "licences", "terms", "flags")
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
        self._out: dict[str, Counter[tuple[str, Reason]]] = {name: Counter() for name in names}

    def keep(self, rows: Sequence[Row], split: str) -> None:
        """Count rows that are in the dataset."""
        counts = self._counts
        counts["splits"][split] += len(rows)
        counts["languages"].update([row.language or "unknown" for row in rows])
        counts["tags"].update([tag for row in rows for tag in row.tags])
        counts["masked"].update([kind for row in rows for kind in row.masked])
        counts["licences"].update([row.licence for row in rows])
        counts["terms"].update([row.terms for row in rows if row.terms is not None])
        counts["flags"]["imported"] += sum([row.log_id is None for row in rows])
        counts["flags"]["edited"] += sum([row.edited for row in rows])
        counts["flags"]["corrected"] += sum([row.corrected for row in rows])
        self._spread("characters", [row.characters() for row in rows])
        self._spread("messages", [len(row.messages) for row in rows])
        self._spread("tokens", [row.tokens for row in rows if row.tokens is not None])
        for name in self._names:
            self._in[name].update([row.slices.get(name, ABSENT) for row in rows])

    def leave(self, left: Sequence[Left]) -> None:
        """Count what is left out."""
        self._counts["excluded"].update([str(one.reason) for one in left])
        for name in self._names:
            self._out[name].update([(one.slices.get(name, ABSENT), one.reason) for one in left])

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
        for (value, reason), count in sorted(self._out[name].items()):
            out.setdefault(value, {})[reason.value] = count
        kept = self._in[name]
        return {value: Slice(kept[value], out.get(value, {})) for value in sorted({*kept, *out})}


def without_erased_values(tally: Tally) -> Tally:
    """The tally without the values of slices that erased logs had and no row has: such a value may say whose they were."""
    return msgspec.structs.replace(tally, slices={name: _merged(values) for name, values in tally.slices.items()})


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


def _merged(values: Mapping[str, Slice]) -> dict[str, Slice]:
    gone = {value: its for value, its in values.items() if not its.rows and Reason.ERASED in its.out}
    out: Counter[str] = Counter()
    for its in gone.values():
        out.update(its.out)
    found = {value: its for value, its in values.items() if value not in gone}
    return _slices(found, {ABSENT: Slice(0, dict(out))}, 1) if gone else found


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
    return _present({key: one.get(key, 0) + sign * other.get(key, 0) for key in one.keys() | other.keys()})


def _spreads(one: Spread, other: Spread, sign: int) -> Spread:
    return Spread(_counts(one.buckets, other.buckets, sign), one.total + sign * other.total)


def _slices(one: dict[str, Slice], other: dict[str, Slice], sign: int) -> dict[str, Slice]:
    found = {}
    for value in sorted(one.keys() | other.keys()):
        here, there = one.get(value, _NO_SLICE), other.get(value, _NO_SLICE)
        added = Slice(here.rows + sign * there.rows, _counts(here.out, there.out, sign))
        if added != _NO_SLICE:
            found[value] = added
    return found

"""What a person should know about a dataset version: rows in and out by reason and by slice, splits, tags, lengths. Pure."""

import math
from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from tunemill.curator_api.recipe import FromVersion, Ingredient, Pairs, Recipe, Search
from tunemill.curator_api.rows import BAD, Reason
from tunemill.curator_api.select import NearDuplicates
from tunemill.curator_api.tally import OTHERS, Counts, Slice, Spread, Tally, first_of, logs_of, smallest_in, with_others
from tunemill.privacy.pii import PrivateData
from tunemill.schemas.manifest import SPLITS

MOST_TAGS = 100  # the most frequent ones, and as many values of a slice; a report is for reading
MOST_WARNINGS = 20
LEAST_LOGS = 20  # of a value, for a warning about it
LEAST_DIFFERENCE, LEAST_RATIO, LEAST_Z = 0.2, 1.5, 3.0  # of what a reason leaves out of a value, against the rest
ALLOW = (
    "where logs may be trained on, say so: `tunemill bulk consent QUERY train`; of all logs that say nothing, the server's "
    "--default-consent does"
)
_DUPLICATES = (Reason.DUPLICATE_CONTENT, Reason.NEAR_DUPLICATE)
_DECLARED = frozenset({Reason.CAPPED, Reason.WEIGHTED_OUT})  # the recipe itself says which slice they are to hit


class Lengths(msgspec.Struct, frozen=True):
    """A distribution, in the unit that the report names; from 8 on within a quarter, but for the total."""

    min: int
    median: int
    p90: int
    max: int
    total: int


class SliceShare(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a slice: how much of what was looked at, and how much of the dataset."""

    logs: int
    share_logs: float
    rows: int
    share_rows: float
    duplicates: int  # near ones, too
    out: Counts  # what is left out, by Reason


class Contamination(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that repeat an evaluation set."""

    against: tuple[str, ...]
    words: int
    rows: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a dataset, and what is not and why. `matched` = `rows` + the sum of `excluded`."""

    matched: int
    rows: int
    excluded: dict[str, int]
    splits: dict[str, int]
    languages: dict[str, int]
    tags: dict[str, int]
    imported: int
    edited: int
    characters_per_row: Lengths
    messages_per_row: Lengths
    warnings: tuple[str, ...]
    private_data: PrivateData | None = None  # the policy when it was published; None: there was none yet
    masked: dict[str, int] = {}  # rows in which private data was replaced, by its kind
    corrected: int = 0  # rows whose answer a person gave
    bad: dict[str, int] = {}  # of `excluded`, what is no training row at all
    tokens_per_row: Lengths | None = None  # None: the recipe names no tokenizer
    licences: dict[str, int] = {}  # rows by whether the output of their model may be trained on: yes, no, unknown
    terms: dict[str, int] = {}  # imported rows by the licence of their set, where somebody named it
    sources: dict[str, int] = {}  # imported rows by the file or set that they came from
    slices: dict[str, dict[str, SliceShare]] = {}  # the most frequent values of each, and all others together
    near_duplicates: NearDuplicates | None = None
    contamination: Contamination | None = None
    balance: dict[str, Any] = {}  # caps and weights as the recipe declares them
    point_ms: int = 0  # the point in time
    default_consent: str | None = None  # what held for logs that say nothing


def report_on(
    tally: Tally,
    recipe: Recipe,
    *,
    private_data: PrivateData,
    point_ms: int,
    default_consent: str | None = None,
    near: NearDuplicates | None = None,
) -> Report:
    """The report on what was counted."""
    splits = {split: tally.splits.get(split, 0) for split in SPLITS}
    against = recipe.filters.decontaminate
    refused = tally.excluded.get(Reason.CONSENT, 0)
    consent = [f"consent leaves out {refused} of {tally.matched}: {ALLOW}"] if 2 * refused > tally.matched else []
    empty = [f"the {split} split is empty" for split, count in splits.items() if not count]
    return Report(
        matched=tally.matched,
        rows=tally.rows,
        excluded=tally.excluded,
        splits=splits,
        languages=_first(tally.languages),
        tags=_first(tally.tags),
        imported=tally.flags.get("imported", 0),
        edited=tally.flags.get("edited", 0),
        characters_per_row=_spread(tally.characters) or _NO_LENGTHS,
        messages_per_row=_spread(tally.messages) or _NO_LENGTHS,
        warnings=(*empty, *consent, *_hard_filters(tally, recipe)),
        private_data=private_data,
        masked=_first(tally.masked),
        corrected=tally.flags.get("corrected", 0),
        bad={reason: count for reason, count in tally.excluded.items() if reason in BAD},
        tokens_per_row=_spread(tally.tokens),
        licences=tally.licences,
        terms=_first(tally.terms),
        # A version that is amended may be from before they were counted.
        sources=_first({source: rows for source, rows in tally.sources.items() if rows > 0}),
        slices={name: _shares(values, tally) for name, values in tally.slices.items()},
        near_duplicates=near,
        contamination=None
        if against is None
        else Contamination(
            against=against.against, words=against.words, rows=tally.excluded.get(Reason.CONTAMINATED, 0)
        ),
        balance=declared(recipe),
        point_ms=point_ms,
        default_consent=default_consent,
    )


def declared(recipe: Recipe) -> dict[str, Any]:
    """The caps and weights of a recipe that has any, as plain values."""
    parts = {"caps": recipe.caps, "weights": recipe.weights}
    return {name: [msgspec.to_builtins(one) for one in some] for name, some in parts.items() if some}


class _Hit(NamedTuple):
    """A filter that hits a value of a slice harder than the rest."""

    difference: float
    text: str


def _hard_filters(tally: Tally, recipe: Recipe) -> list[str]:
    """A warning for each, the hardest first."""
    silent = _DECLARED | ({Reason.NOT_SAMPLED} if any(map(_is_shared_out, recipe.ingredients)) else set())
    hits = [
        hit
        for name, values in tally.slices.items()
        for value, its in values.items()
        for reason, out in its.out.items()
        if value != OTHERS and reason not in silent and (hit := _hit(tally, f"{name} {value}", its, reason, out))
    ]
    hits.sort(key=lambda hit: (-hit.difference, hit.text))
    rest = len(hits) - MOST_WARNINGS
    more = [f"{rest} more such differences stand in the slices"] if rest > 0 else []
    return [hit.text for hit in hits[:MOST_WARNINGS]] + more


def _is_shared_out(one: Ingredient) -> bool:
    """Whether the recipe says which slices an ingredient's rows are to come from, or how many they are to be beside others."""
    if isinstance(one, Search | Pairs):
        return one.take in {"balanced", "diverse"}
    return isinstance(one, FromVersion) and one.share is not None


def _hit(tally: Tally, told: str, its: Slice, reason: str, out: int) -> _Hit | None:
    logs, rest = logs_of(its), tally.matched - logs_of(its)
    if logs < LEAST_LOGS or rest <= 0:
        return None
    rest_out = tally.excluded.get(reason, 0) - out
    share, rest_share = out / logs, rest_out / rest
    pooled = (out + rest_out) / (logs + rest)
    error = math.sqrt(pooled * (1 - pooled) * (1 / logs + 1 / rest))
    difference = share - rest_share
    hard = difference >= LEAST_DIFFERENCE and share >= LEAST_RATIO * rest_share and difference > LEAST_Z * error
    said = f"{reason} leaves out {100 * share:.0f} % of {told}, {100 * rest_share:.0f} % of the rest"
    return _Hit(difference, said) if hard else None


def _shares(values: dict[str, Slice], tally: Tally) -> dict[str, SliceShare]:
    return {
        value: SliceShare(
            logs=logs_of(its),
            share_logs=round(logs_of(its) / tally.matched, 4),
            rows=its.rows,
            share_rows=round(its.rows / tally.rows, 4) if tally.rows else 0.0,
            duplicates=sum(its.out.get(reason, 0) for reason in _DUPLICATES),
            out=its.out,
        )
        for value, its in with_others(values, MOST_TAGS).items()
    }


_NO_LENGTHS = Lengths(0, 0, 0, 0, 0)


def _spread(spread: Spread) -> Lengths | None:
    """The distribution, each number the middle of its bucket; None where there is no number."""
    buckets = sorted((int(place), count) for place, count in spread.buckets.items())
    if not buckets:
        return None
    passed = list(accumulate(count for _, count in buckets))

    def at(share: float) -> int:
        place = buckets[bisect_left(passed, share * passed[-1])][0]
        return (smallest_in(place) + smallest_in(place + 1) - 1) // 2

    largest = smallest_in(buckets[-1][0] + 1) - 1
    return Lengths(smallest_in(buckets[0][0]), at(0.5), at(0.9), largest, spread.total)


def _first(counts: Mapping[str, int]) -> Counts:
    """The most frequent ones."""
    return first_of(counts, MOST_TAGS)

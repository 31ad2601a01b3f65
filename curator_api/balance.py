"""Which rows stay so that each part of a dataset has the share that its recipe gives it: replay, weights, caps. Pure."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from tunemill.curator_api.facts import Columns
from tunemill.curator_api.recipe import Cap, Weight
from tunemill.curator_api.sampling import Rows, drawn, draws, ranks


def weighted(facts: Columns, rows: Rows, weights: Sequence[Weight]) -> Rows:
    """The rows whose own draw is below the share that their value keeps. What other rows there are makes no difference."""
    if not weights:
        return rows
    stays = np.ones(len(rows), bool)
    for weight in weights:
        keep = np.array([weight.keep.get(value, 1.0) for value in facts.values[weight.by]] or [1.0])
        drawn_shares = (draws(facts, rows, f"weight:{weight.by}") >> np.uint64(11)) / 2.0**53  # 0 to 1, without 1
        stays &= drawn_shares < keep[facts.slices[weight.by][rows]]
    return rows[stays]


def replayed(facts: Columns, rows: Rows, shares: Mapping[int, float]) -> Rows:
    """As many rows of some ingredients as make them these shares of all rows; fewer where an ingredient has not as many.

    Args:
        shares: by the ingredient's place; together less than 1.
    """
    if not shares:
        return rows
    exact = {place: _fraction(share) for place, share in shares.items()}
    replay = np.isin(facts.ingredient[rows], list(exact))
    rest = 1 - sum(exact.values())
    stays = ~replay
    others = int(stays.sum())
    for place, share in exact.items():
        its = np.flatnonzero(facts.ingredient[rows] == place)
        wanted = int(share * others / rest)
        order = np.argsort(draws(facts, rows[its], "replay"), kind="stable")
        stays[its[order[:wanted]]] = True
    return rows[stays]


def capped(facts: Columns, rows: Rows, caps: Sequence[Cap]) -> Rows:
    """As many rows as may stay for every cap to hold. The order of the caps makes no difference.

    Where the caps hold already, all stay. Several caps cut at once, each by itself, until all hold.
    """
    rows = drawn(facts, rows, "cap") if caps else rows
    while caps:
        stays = np.ones(len(rows), bool)
        for cap in caps:
            values = facts.slices[cap.by][rows].astype(np.int64)
            stays &= ranks(values) < most_of(np.bincount(values), cap)
        if stays.all():
            break
        rows = rows[stays]
    return rows


def most_of(counts: NDArray[np.int64], cap: Cap) -> int:
    """How many rows of a value may stay, where a slice's values have so many: the most with which the cap holds."""
    if cap.share is None:
        return cap.most if cap.most is not None else int(counts.sum())
    share = _fraction(cap.share)
    total = _bound(counts, share)
    while True:  # from above, so that the first total that its own caps leave whole is the largest
        most = int(share * total)
        left = int(np.minimum(counts, most).sum())
        if left >= total:
            return most
        total = left


def _bound(counts: NDArray[np.int64], share: Fraction) -> int:
    """No total above it holds: the largest one that would, if rows could be divided."""
    descending = np.sort(counts)[::-1]
    rest = int(descending.sum())
    for place, count in enumerate(descending.tolist()):
        if 1 - place * share <= 0:
            return 0
        total = rest / (1 - place * share)  # as many values as are before it have their whole share
        if count <= share * total:
            return int(total)
        rest -= count
    return 0


def _fraction(share: float) -> Fraction:
    """The share as a person wrote it: 0.29 of 100 is 29."""
    return Fraction(str(share))

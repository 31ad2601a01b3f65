"""Which rows of an ingredient are taken, where there are more than its limit. Pure."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from tunemill.curator_api.facts import Columns
from tunemill.curator_api.recipe import Take

Rows = NDArray[np.int64]  # places in the columns
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # of splitmix64


def draws(facts: Columns, rows: Rows, purpose: str) -> NDArray[np.uint64]:
    """A number for each row, evenly spread, from the seed, the row's key and what it is drawn for."""
    salt = np.uint64(int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8])) ^ facts.seed
    mixed = facts.draw[rows] ^ salt
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[0]
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[1]
    return mixed ^ (mixed >> np.uint64(31))


def drawn(facts: Columns, rows: Rows, purpose: str) -> Rows:
    """The rows in an order that the seed and their keys decide."""
    return rows[np.argsort(draws(facts, rows, purpose), kind="stable")]


def sample(facts: Columns, rows: Rows, *, limit: int, take: Take, by: str | None, clusters: Rows | None) -> Rows:
    """At most so many of these rows. More rows to choose from put others in their place, and move nothing else.

    Args:
        rows: in order of row_id, so that ties go by it.
        by: the slice whose values have equal shares, of `balanced`.
        clusters: a number for each row there is, the same for rows that are alike, of `diverse`.
    """
    if len(rows) <= limit:
        return rows
    rows = drawn(facts, rows, "sample")
    if take == "balanced" and by is not None:
        groups = ranked_values(facts, by)[facts.slices[by][rows]]
        return rows[ranks(groups) < equal_shares(np.bincount(groups), limit)[groups]]
    if take == "oldest":
        rows = rows[np.argsort(facts.ts_ms[rows], kind="stable")]
    elif take == "newest":
        rows = rows[np.argsort(-facts.ts_ms[rows], kind="stable")]
    elif take == "diverse" and clusters is not None:
        rows = rows[np.argsort(ranks(clusters[rows]), kind="stable")]
    return rows[:limit]


def ranked_values(facts: Columns, by: str) -> Rows:
    """The place of each code's value among all values in order of their texts: codes depend on which row came first."""
    values = facts.values[by]
    places = np.empty(len(values), np.int64)
    places[sorted(range(len(values)), key=values.__getitem__)] = np.arange(len(values))
    return places


def ranks(groups: Rows) -> Rows:
    """How many of its group come before each."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    sizes = np.diff(np.append(starts, len(ordered)))
    found = np.empty(len(groups), np.int64)
    found[order] = np.arange(len(groups)) - np.repeat(starts, sizes)
    return found


def equal_shares(counts: Rows, limit: int) -> Rows:
    """How many each group gives: equal shares, what a group lacks goes to the others, and what is left over to the first."""
    level, most = 0, int(counts.max(initial=0))
    while level < most:
        middle = (level + most + 1) // 2
        if int(np.minimum(counts, middle).sum()) <= limit:
            level = middle
        else:
            most = middle - 1
    shares = np.minimum(counts, level)
    more = np.flatnonzero(counts > level)[: limit - int(shares.sum())]
    shares[more] += 1
    return shares

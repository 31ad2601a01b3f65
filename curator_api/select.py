"""Which rows of a draft are in the dataset, on which side, and why the others are not. Pure.

In this order: rows that say the same, rows that say nearly the same, each ingredient's limit, weights, replay, caps, splits.
"""

import hashlib
from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from tunemill.curator_api.balance import capped, replayed, weighted
from tunemill.curator_api.facts import SLOTS, Columns, begins, distinct
from tunemill.curator_api.joined import join
from tunemill.curator_api.near import DIVERSE, Clusters, clusters
from tunemill.curator_api.recipe import FromVersion, Pairs, Recipe, Search
from tunemill.curator_api.rows import Reason
from tunemill.curator_api.sampling import Rows, sample
from tunemill.schemas.manifest import SPLITS

REASONS = (
    None,  # kept
    Reason.DUPLICATE_CONTENT,
    Reason.NEAR_DUPLICATE,
    Reason.NOT_SAMPLED,
    Reason.WEIGHTED_OUT,
    Reason.CAPPED,
)
Same = NDArray[np.uint32]  # of each row one that stands for it, often itself
_NO_TIME = np.iinfo(np.int64).max  # of a conversation whose rows have none: it counts as the youngest
_AT_A_TIME = 2**16  # rows or conversations, of which more is made than is kept


class NearDuplicates(msgspec.Struct, frozen=True, kw_only=True):
    """How near-duplicates were found."""

    threshold: float  # the similarity from which two rows are alike
    clusters: int  # of two rows or more
    rows: int  # in them
    sketched: int  # rows that were compared: the others have too few words
    bands: int
    band_bytes: int
    modelled_recall: float  # of pairs that are just as alike as the threshold says: the share that is compared
    crowded: int  # buckets in which not all pairs were compared


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """One entry a row, in the order of the facts."""

    reason: NDArray[np.uint8]  # a place in REASONS; 0: it is in the dataset
    split: NDArray[np.uint8]  # a place in the manifest's SPLITS
    same: Same  # the row that stands for a duplicate or near-duplicate; of all others itself
    conversation: NDArray[np.uint64]  # the oldest of the conversations that are joined with its own
    held_out: NDArray[np.bool_]  # a set has a row of the same conversation for testing
    near: NearDuplicates | None = None  # None: not asked for


def wants_sketches(recipe: Recipe) -> bool:
    """Whether `select` needs sketches for this recipe."""
    return recipe.filters.near_duplicates is not None or _is_diverse(recipe)


def select(facts: Columns, recipe: Recipe) -> Selected:
    """What is in the dataset. The order in which the rows came makes no difference; ties go by the seed and the rows' keys.

    Args:
        facts: with sketches if `wants_sketches`.
    """
    reason = np.zeros(len(facts.key), np.uint8)
    same, rows = _unite(facts, recipe)
    facts = _drawn_alike(facts, same)
    conversation = _conversations(facts, same)
    reason[_twins(same)] = _code(Reason.DUPLICATE_CONTENT)
    near = None
    if recipe.filters.near_duplicates is not None:
        rows, near = _thin(facts, recipe, rows, same, recipe.filters.near_duplicates)
        twins = _twins(same)
        reason[twins[reason[twins] == 0]] = _code(Reason.NEAR_DUPLICATE)
    sampled = _sample(facts, recipe, rows)
    rows = _leave(reason, rows, sampled, Reason.NOT_SAMPLED)
    rows = _leave(reason, rows, weighted(facts, rows, recipe.weights), Reason.WEIGHTED_OUT)
    shares = {
        place: one.share
        for place, one in enumerate(recipe.ingredients)
        if isinstance(one, FromVersion) and one.share is not None
    }
    rows = _leave(reason, rows, replayed(facts, rows, shares), Reason.NOT_SAMPLED)
    _leave(reason, rows, capped(facts, rows, recipe.caps), Reason.CAPPED)
    held_out = np.isin(conversation, conversation[facts.held_out])
    split = _split(conversation, seed=recipe.seed, test_share=recipe.test_share)
    split[held_out] = SPLITS.index("test")
    return Selected(reason=reason, split=split, same=same, conversation=conversation, held_out=held_out, near=near)


def _is_diverse(recipe: Recipe) -> bool:
    return any(
        isinstance(one, Search | Pairs) and one.take == "diverse" and one.limit is not None
        for one in recipe.ingredients
    )


def _code(reason: Reason) -> int:
    return REASONS.index(reason)


def _leave(reason: NDArray[np.uint8], rows: Rows, stay: Rows, why: Reason) -> Rows:
    """Note why those of these rows are left out that do not stay; the others, in their order."""
    stays = np.zeros(len(reason), bool)
    stays[stay] = True
    reason[rows[~stays[rows]]] = _code(why)
    return rows[stays[rows]]


def _unite(facts: Columns, recipe: Recipe) -> tuple[Same, Rows]:
    """Of each row the one that stands for it, and those that stand for themselves, in order of row_id."""
    first, second = facts.row_id[:, 0], facts.row_id[:, 1]
    order = np.lexsort((facts.ingredient, facts.key, _precedence(facts, recipe), second, first))
    starts = np.flatnonzero(begins(first[order]) | begins(second[order]))
    rows = order[starts]
    same = np.empty(len(order), np.uint32)
    same[order] = np.repeat(rows, np.diff(starts, append=len(order)))
    return same, rows


def _twins(same: Same) -> Rows:
    """The rows for which others stand."""
    return np.flatnonzero(same != np.arange(len(same), dtype=np.uint32))


def _drawn_alike(facts: Columns, same: Same) -> Columns:
    """Rows that say the same have one draw, that of the smallest key, whichever of them stands for the others."""
    twins = _twins(same)
    draw = facts.draw.copy()
    np.minimum.at(draw, same[twins], facts.key[twins])
    draw[twins] = draw[same[twins]]
    return msgspec.structs.replace(facts, draw=draw)


def _precedence(facts: Columns, recipe: Recipe) -> NDArray[np.uint8]:
    """0 for rows of an ingredient that is taken whole, 1 for rows that may be left out for another."""
    partial = [
        (isinstance(one, Search | Pairs) and one.limit is not None)
        or (isinstance(one, FromVersion) and one.share is not None)
        for one in recipe.ingredients
    ]
    return np.array(partial or [False], np.uint8)[facts.ingredient]


def _thin(facts: Columns, recipe: Recipe, rows: Rows, same: Same, threshold: float) -> tuple[Rows, NearDuplicates]:
    """One row of each cluster; `same` is told which one."""
    sketched = rows[facts.has_sketch[rows]]
    sketched = sketched[np.lexsort((facts.key[sketched], _precedence(facts, recipe)[sketched]))]
    found = _clusters(facts, sketched, threshold)
    same[sketched] = sketched[found.firsts]
    sizes = np.bincount(found.firsts)
    near = NearDuplicates(
        threshold=threshold,
        clusters=int((sizes > 1).sum()),
        rows=int(sizes[sizes > 1].sum()),
        sketched=len(sketched),
        bands=found.bands.number,
        band_bytes=found.bands.width,
        modelled_recall=round(found.bands.recall, 4),
        crowded=found.crowded,
    )
    return rows[same[rows] == rows], near


def _clusters(facts: Columns, sketched: Rows, threshold: float) -> Clusters:
    if facts.sketch is not None:
        return clusters(facts.sketch, sketched, threshold)
    if len(facts.key):
        raise ValueError("near-duplicates are found by sketches, and there are none")
    return clusters(np.empty((0, SLOTS), np.uint8), sketched, threshold)


def _sample(facts: Columns, recipe: Recipe, rows: Rows) -> Rows:
    """The rows that the limits of the ingredients leave."""
    cluster = None
    if _is_diverse(recipe):
        cluster = np.arange(len(facts.key))
        sketched = rows[facts.has_sketch[rows]]
        cluster[sketched] = sketched[_clusters(facts, sketched, DIVERSE).firsts]
    taken = []
    for place, one in enumerate(recipe.ingredients):
        its = rows[facts.ingredient[rows] == place]
        if isinstance(one, Search | Pairs) and one.limit is not None:
            its = sample(facts, its, limit=one.limit, take=one.take, by=one.by, clusters=cluster)
        taken.append(its)
    return np.concatenate(taken) if taken else rows


def _conversations(facts: Columns, same: Same) -> NDArray[np.uint64]:
    """The conversation of each row. A row that was said in several joins them into the oldest: what comes later follows."""
    names = distinct(np.concatenate([facts.conversation, facts.joined]))
    own = np.empty(len(facts.conversation), np.uint32)
    begun = np.full(len(names), _NO_TIME)
    for some in _stretches(len(own)):
        ts_ms = facts.ts_ms[some]
        own[some] = np.searchsorted(names, facts.conversation[some])
        np.minimum.at(begun, own[some], np.where(ts_ms == 0, _NO_TIME, ts_ms))
    by_age = np.argsort(begun, kind="stable")
    age = np.empty(len(names), np.int64)
    age[by_age] = np.arange(len(names))
    firsts, twins = np.arange(len(names)), _twins(same)
    met = np.concatenate([own[same[twins]], np.searchsorted(names, facts.joined)])
    join(firsts, age[met], age[np.concatenate([own[twins], own[facts.joined_rows]])])
    return names[by_age[firsts[age]]][own]


def _split(conversation: NDArray[np.uint64], *, seed: int, test_share: float) -> NDArray[np.uint8]:
    names = distinct(conversation)
    is_test = np.fromiter((draw < test_share for draw in _draws(names, seed)), np.uint8, len(names))
    split = np.empty(len(conversation), np.uint8)
    for some in _stretches(len(split)):
        split[some] = is_test[np.searchsorted(names, conversation[some])]
    return split


def _draws(conversations: NDArray[np.uint64], seed: int) -> Iterator[float]:
    """A number in [0, 1) from the seed and the conversation alone: a conversation keeps its side in every version."""
    for some in _stretches(len(conversations)):
        for conversation in conversations[some].tolist():
            drawn = hashlib.sha256(f"{seed}:{conversation:016x}".encode()).digest()[:8]
            yield int.from_bytes(drawn) / 2**64


def _stretches(count: int) -> Iterator[slice]:
    return (slice(at, at + _AT_A_TIME) for at in range(0, count, _AT_A_TIME))

"""Which rows say nearly the same: what is found at which similarity, and which row stays."""

import hashlib
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.curator_api.facts import Facts
from tunemill.curator_api.near import MOST_COMPARED, bands, clusters, sketches
from tunemill.curator_api.recipe import Filters, Recipe, Search, slice_names
from tunemill.curator_api.rows import Row, RowMessage
from tunemill.curator_api.select import REASONS, Selected, select, wants_sketches
from tunemill.schemas.ids import digest
from tunemill.schemas.sketch import SLOTS, similarity

WORDS = 250


def text(draw: random.Random, words: int = WORDS) -> list[str]:
    return [f"word{draw.randrange(100_000)}" for _ in range(words)]


def alike(words: Sequence[str], jaccard: float, draw: random.Random) -> list[str]:
    """A text that has this share of all pairs of words in common with another: its beginning is the same."""
    own = round(len(words) * (1 - jaccard) / (1 + jaccard))
    return [*words[: len(words) - own], *text(draw, own)]


def row(key: str, words: Sequence[str], **more: Any) -> Row:
    messages = (
        RowMessage(role="system", content="Answer briefly."),
        RowMessage(role="user", content=" ".join(words[:20])),
        RowMessage(role="assistant", content=" ".join(words[20:])),
    )
    fields: dict[str, Any] = {"conversation": digest(key)[:32], "tools": None, **more}
    return Row(row_key=key, log_id=key, messages=messages, **fields)


def recipe(threshold: float | None, **more: Any) -> Recipe:
    return Recipe(ingredients=(Search(query="", **more),), filters=Filters(near_duplicates=threshold))


def selected(rows: Sequence[Row], of: Recipe) -> Selected:
    facts = Facts(seed=of.seed, slices=slice_names(of))
    for at in range(0, len(rows), 50):
        page = rows[at : at + 50]
        facts.add_page(page, sketches(page) if wants_sketches(of) else None)
    return select(facts.taken(), of)


def kept(rows: Sequence[Row], of: Recipe) -> set[str]:
    return {one.row_key for one, code in zip(rows, selected(rows, of).reason, strict=True) if REASONS[code] is None}


def planted(jaccard: float, pairs: int, seed: int = 1) -> list[Row]:
    draw = random.Random(seed)
    rows = []
    for n in range(pairs):
        words = text(draw)
        rows += [row(f"{n}-a", words), row(f"{n}-b", alike(words, jaccard, draw))]
    return rows


@pytest.mark.parametrize("threshold", [0.5, 0.54, 0.7, 0.8])
def test_pairs_well_over_the_threshold_are_found_and_those_well_below_are_not(threshold: float) -> None:
    found = selected(planted(threshold + 0.15, 100), recipe(threshold))
    assert sum(REASONS[code] == "near_duplicate" for code in found.reason) >= 97
    assert len(kept(planted(threshold - 0.2, 100), recipe(threshold))) == 200


def test_a_pair_at_09_is_found_at_03_not() -> None:
    assert len(kept(planted(0.9, 50), recipe(0.8))) == 50
    assert len(kept(planted(0.3, 50), recipe(0.8))) == 100


def test_without_a_threshold_nothing_is_near() -> None:
    found = selected(planted(0.95, 20), recipe(None))
    assert (set(found.reason.tolist()), found.near) == ({0}, None)


def test_the_row_that_stays_and_what_it_stands_for() -> None:
    rows = planted(0.9, 30)
    found = selected(rows, recipe(0.8))
    for i, one in enumerate(rows):
        stands = rows[found.same[i]]
        pair = (f"{one.row_key[:-1]}a", f"{one.row_key[:-1]}b")
        assert stands.row_key == min(pair, key=lambda key: hashlib.sha256(key.encode()).digest())
        assert (REASONS[found.reason[i]] is None) == (stands is one)
    assert found.near is not None
    assert (found.near.clusters, found.near.rows, found.near.sketched) == (30, 60, 60)
    assert (found.near.bands, found.near.band_bytes, found.near.crowded) == (16, 4, 0)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from((0.5, 0.7, 0.9)), st.randoms())
def test_any_order_keeps_the_same_rows_and_one_of_each_cluster(seed: int, threshold: float, shuffle: Any) -> None:
    draw = random.Random(seed)
    texts = [text(draw, 60) for _ in range(4)]
    rows = [row(f"k{n}", alike(draw.choice(texts), draw.choice((0.3, 0.6, 0.8, 0.95)), draw)) for n in range(40)]
    other = list(rows)
    shuffle.shuffle(other)
    assert kept(rows, recipe(threshold)) == kept(other, recipe(threshold))
    found = selected(rows, recipe(threshold))
    left = [one for one, code in zip(rows, found.reason, strict=True) if REASONS[code] is None]
    assert kept(left, recipe(threshold)) == {one.row_key for one in left}  # what is left holds no near-duplicate


def test_clusters_are_all_that_pairs_join() -> None:
    """Against every pair, one by one."""
    draw = np.random.default_rng(3)
    centres = draw.integers(0, 256, (6, SLOTS), dtype=np.uint8)
    sketch = centres[draw.integers(0, 6, 150)]
    noise = draw.random(sketch.shape) < draw.choice([0.1, 0.3, 0.45], (150, 1))
    sketch[noise] = draw.integers(0, 256, int(noise.sum()), dtype=np.uint8)
    wanted = list(range(150))
    for one in range(150):
        for other in range(one):
            if similarity(sketch[one].tobytes(), sketch[other].tobytes()) >= 0.55 and wanted[one] != wanted[other]:
                low, high = sorted((wanted[one], wanted[other]))
                wanted = [low if first == high else first for first in wanted]
    assert clusters(sketch, np.arange(150), 0.55).firsts.tolist() == wanted
    assert 10 < len(set(wanted)) < 140


def test_a_row_with_too_few_words_is_never_near() -> None:
    rows = [row("a", [f"w{n}" for n in range(12)]), row("b", [*(f"w{n}" for n in range(11)), "x"])]
    assert kept(rows, recipe(0.5)) == {"a", "b"}


def test_a_crowd_is_compared_in_part_and_that_is_counted() -> None:
    sketch = np.zeros((400, SLOTS), np.uint8)
    found = clusters(sketch, np.arange(400), 0.8)
    assert set(found.firsts.tolist()) == {0}
    assert found.crowded == found.bands.number
    assert MOST_COMPARED < 400


def test_in_a_crowd_each_is_compared_with_the_first() -> None:
    """Two that share one band of two bytes, with three times as many between them as are compared."""
    crowd = np.random.default_rng(1).integers(1, 255, (3 * MOST_COMPARED, SLOTS), dtype=np.uint8)
    crowd[:, :2] = 0
    first = np.zeros(SLOTS, np.uint8)
    last = np.where(np.arange(SLOTS) % 2 == 0, 255, 0).astype(np.uint8)
    last[:2] = 0
    found = clusters(np.array([*crowd, first, last]), np.arange(len(crowd) + 2), 0.5)
    assert found.firsts.tolist() == [*range(len(crowd) + 1), len(crowd)]
    assert found.crowded == 1


def test_what_is_compared_is_what_was_asked_last_and_answered() -> None:
    draw = random.Random(6)
    prompt, question = " ".join(text(draw, 400)), text(draw, 60)

    def chat(key: str, system: str, asked: str, answered: str) -> Row:
        said = (("system", system), ("user", "first"), ("assistant", "yes"), ("user", asked), ("assistant", answered))
        messages = tuple(RowMessage(role=role, content=content) for role, content in said)
        return Row(row_key=key, log_id=key, conversation=digest(key)[:32], messages=messages, tools=None)

    other = [chat(f"other {n}", prompt, " ".join(text(draw, 20)), " ".join(text(draw, 20))) for n in range(5)]
    same = [chat(f"same {n}", " ".join(text(draw, 100)), " ".join(question), "A short answer.") for n in range(5)]
    found = kept([*other, *same], recipe(0.7))
    assert {key.split()[0] for key in found} == {"other", "same"}
    assert len(found) == 6


def test_both_answers_of_a_preference_row_are_compared() -> None:
    draw = random.Random(7)
    words = text(draw)
    worse = [(RowMessage(role="assistant", content=" ".join(text(draw))),) for _ in range(3)]
    assert len(kept([row(f"{n}", words, rejected=one) for n, one in enumerate(worse)], recipe(0.7))) == 3


def test_nothing_is_in_no_cluster() -> None:
    assert clusters(np.empty((0, SLOTS), np.uint8), np.arange(0), 0.8).firsts.tolist() == []
    assert kept([], recipe(0.8)) == set()


@pytest.mark.parametrize(("threshold", "width"), [(0.5, 2), (0.54, 3), (0.6, 3), (0.7, 4), (0.8, 4), (0.95, 4)])
def test_bands_are_as_wide_as_the_recall_allows(threshold: float, width: int) -> None:
    cut = bands(threshold)
    assert (cut.width, cut.number) == (width, SLOTS // width)
    assert cut.recall >= 0.97


def test_diverse_takes_one_of_each_cluster_before_a_second() -> None:
    draw = random.Random(4)
    words = text(draw)
    rows = [row(f"same-{n}", alike(words, 0.95, draw)) for n in range(30)]
    rows += [row(f"own-{n}", text(draw)) for n in range(10)]
    found = kept(rows, recipe(None, limit=11, take="diverse"))
    assert sum(key.startswith("own") for key in found) == 10
    assert sum(key.startswith("own") for key in kept(rows, recipe(None, limit=11, take="random"))) < 8

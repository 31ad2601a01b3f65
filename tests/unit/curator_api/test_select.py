"""Which rows of a draft are in the dataset: duplicates, limits, splits, whatever order the rows come in."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.curator_api.facts import Facts
from tunemill.curator_api.recipe import Cap, FromVersion, Logs, Recipe, Search, Weight, slice_names
from tunemill.curator_api.rows import Row, RowMessage
from tunemill.curator_api.select import REASONS, Selected, select
from tunemill.schemas.ids import digest
from tunemill.schemas.manifest import SPLITS


def row(key: str, says: str | None = None, **more: Any) -> Row:
    messages = (
        RowMessage(role="user", content=says or f"question {key}"),
        RowMessage(role="assistant", content="answer"),
    )
    fields: dict[str, Any] = {"conversation": digest(f"session:{key}")[:32], "tools": None, **more}
    return Row(row_key=key, log_id=key, messages=messages, **fields)


def recipe(*ingredients: Any, **more: Any) -> Recipe:
    return Recipe(ingredients=ingredients or (Search(query=""),), slices=("language", "app"), **more)


def selected(rows: Sequence[Row], of: Recipe) -> Selected:
    facts = Facts(seed=of.seed, slices=slice_names(of))
    for at in range(0, len(rows), 7):
        facts.add_page(rows[at : at + 7])
    return select(facts.taken(), of)


def kept(rows: Sequence[Row], of: Recipe) -> dict[str, str]:
    """The split of each row that is in the dataset, by its key and its ingredient's place."""
    found = selected(rows, of)
    return {
        f"{one.row_key}/{one.ingredient}": SPLITS[found.split[i]]
        for i, one in enumerate(rows)
        if REASONS[found.reason[i]] is None
    }


def reasons(rows: Sequence[Row], of: Recipe) -> Counter[str]:
    return Counter(str(REASONS[code] or "kept") for code in selected(rows, of).reason)


def many(count: int, **more: Any) -> list[Row]:
    return [row(f"log-{n}", ts_ms=n + 1, **more) for n in range(count)]


def log(key: int, ingredient: int) -> Row:
    """What a log says depends on its key, and on whether an ingredient takes its correction."""
    says = (key * 7 + ingredient // 2) % 25
    slices = {"language": ("de", "en", "none")[key % 3], "app": f"app {says % 3}"}
    conversation = digest(f"session:{key % 12}")[:32]
    return row(
        f"k{key}", f"says {says}", conversation=conversation, ingredient=ingredient, ts_ms=key % 5, slices=slices
    )


made_rows = st.lists(st.builds(log, st.integers(0, 40), st.integers(0, 2)), max_size=60)
WHOLE = (Search(query=""), Logs(log_ids=()), FromVersion(of="other@v1"))
takes = st.sampled_from(("oldest", "newest", "random", "balanced"))


@settings(deadline=None, max_examples=150)
@given(made_rows, takes, st.integers(0, 20), st.integers(0, 9), st.randoms())
def test_any_order_of_the_rows_gives_the_same_dataset(
    rows: list[Row], take: Any, limit: int, seed: int, random: Any
) -> None:
    of = recipe(
        Search(query="", limit=limit, take=take, by="language"),
        Logs(log_ids=()),
        FromVersion(of="other@v1", share=0.25),
        weights=(Weight(by="app", keep={"app 1": 0.5}),),
        caps=(Cap(by="language", share=0.6), Cap(by="app", most=9)),
        seed=seed,
        test_share=0.5,
    )
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = selected(rows, of), selected(shuffled, of)

    def told(rows: Sequence[Row], found: Selected) -> list[Any]:
        return sorted(
            (one.row_key, one.row_id(), one.ingredient, found.split[i], found.reason[i], rows[found.same[i]].row_key)
            for i, one in enumerate(rows)
        )

    assert told(rows, one) == told(shuffled, other)


def test_of_rows_that_say_the_same_one_stands_for_all() -> None:
    rows = [row("a", "same"), row("b", "same"), row("c", "other"), row("d", "same")]
    found = selected(rows, recipe())
    stands = min("abd", key=lambda key: hashlib.sha256(key.encode()).digest())
    assert [rows[i].row_key for i in found.same] == [stands, stands, "c", stands]
    assert reasons(rows, recipe()) == {"kept": 2, "duplicate_content": 2}


def test_an_ingredient_that_is_taken_whole_stands_before_one_that_is_sampled() -> None:
    for n in range(20):
        rows = [
            *many(5),
            *(msgspec.structs.replace(row(f"picked {n}", f"question log-{i}"), ingredient=1) for i in range(5)),
        ]
        found = kept(rows, recipe(Search(query="", limit=1), Logs(log_ids=())))
        assert set(found) == {f"picked {n}/1"} if len(found) == 1 else len(found) == 5


def test_rows_that_say_the_same_are_drawn_alike_whichever_stands_for_them() -> None:
    """So that a version whose rows are selected again weighs them as before."""
    both = (Search(query="", limit=10**6), Logs(log_ids=()))
    weights = (Weight(by="language", keep={"none": 0.5}),)
    rows = many(200)
    copies = [row(f"copy-{n}", f"question log-{n}", ingredient=1) for n in range(200)]
    mixed, alone = recipe(*both, weights=weights), recipe(weights=weights)
    found = selected([*rows, *copies], mixed)
    left = {one.row_id() for one, code in zip([*rows, *copies], found.reason, strict=True) if REASONS[code] is None}
    again = [*rows, *(msgspec.structs.replace(one, ingredient=0) for one in copies)]
    found = selected(again, alone)
    assert left == {one.row_id() for one, code in zip(again, found.reason, strict=True) if REASONS[code] is None}
    assert 60 < len(left) < 140


def sides_by_name(rows: Sequence[Row], *, seed: int, test_share: float) -> dict[str, str]:
    """The split by row_id, found in a dictionary of texts."""
    parent: dict[str, str] = {}
    begun: dict[str, float] = {}
    for one in rows:
        name = one.conversation[:16]
        begun[name] = min(begun.get(name, math.inf), one.ts_ms or math.inf)

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    keys: dict[str, set[str]] = {}
    for one in rows:
        keys.setdefault(one.row_id(), set()).add(one.conversation[:16])
    for first, *others in map(sorted, keys.values()):
        for other in others:
            old, young = sorted((root(first), root(other)), key=lambda name: (begun[name], name))
            parent[young] = old

    def draw(conversation: str) -> float:
        return int.from_bytes(hashlib.sha256(f"{seed}:{conversation}".encode()).digest()[:8]) / 2**64

    return {row_id: "test" if draw(root(min(found))) < test_share else "train" for row_id, found in keys.items()}


@settings(deadline=None)
@given(made_rows, st.integers(0, 1000), st.sampled_from((0.0, 0.1, 0.5, 1.0)))
def test_a_conversation_stands_on_the_side_that_its_digest_says(rows: list[Row], seed: int, share: float) -> None:
    found = selected(rows, recipe(*WHOLE, seed=seed, test_share=share))
    wanted = sides_by_name(rows, seed=seed, test_share=share)
    assert [SPLITS[side] for side in found.split] == [wanted[one.row_id()] for one in rows]


@settings(deadline=None)
@given(made_rows, st.integers(0, 9))
def test_no_conversation_is_torn_apart_and_one_that_is_restored_keeps_its_side(rows: list[Row], seed: int) -> None:
    of = recipe(*WHOLE, seed=seed, test_share=0.5)
    found = selected(rows, of)
    sides: dict[str, set[int]] = {}
    for one, side in zip(rows, found.split, strict=True):
        sides.setdefault(one.conversation, set()).add(int(side))
    assert all(len(side) == 1 for side in sides.values())
    restored = [
        msgspec.structs.replace(one, conversation=f"{joined:016x}", joined=(one.conversation[:16],))
        for one, joined in zip(rows, found.conversation.tolist(), strict=True)
    ]
    assert selected(restored, of).split.tolist() == found.split.tolist()


def test_what_repeats_an_older_row_moves_it_to_no_other_side() -> None:
    of = recipe(test_share=0.5, seed=1)
    before = many(100)
    repeats = [row(f"new-{n}", before[n].messages[0].content, ts_ms=n + 1_000) for n in range(100)]
    imported = [row(f"imported-{n}", before[n].messages[0].content) for n in range(100)]
    sides = kept(before, of)
    assert len(set(sides.values())) == 2
    found = selected([*repeats, *imported, *before], of).split
    assert [SPLITS[side] for side in found] == [*sides.values()] * 3


@pytest.mark.parametrize("take", ["random", "oldest", "newest"])
def test_more_rows_move_no_row_to_the_other_side_and_keep_what_the_limit_allows(take: Any) -> None:
    of = recipe(Search(query="", limit=40, take=take), test_share=0.3, seed=5)
    few, more = kept(many(100), of), kept(many(130), of)
    both = few.keys() & more.keys()
    assert {key: few[key] for key in both} == {key: more[key] for key in both}
    assert (len(few), len(more)) == (40, 40)
    wide = recipe(Search(query="", limit=60, take=take), test_share=0.3, seed=5)
    assert few.items() <= kept(many(100), wide).items()  # a higher limit adds, and takes nothing
    if take == "random":
        assert len(both) >= 20


def test_oldest_and_newest_go_by_time_and_random_by_the_seed() -> None:
    rows = many(50)
    times = {f"{one.row_key}/0": one.ts_ms for one in rows}
    taken = {take: kept(rows, recipe(Search(query="", limit=10, take=take))) for take in ("oldest", "newest", "random")}
    assert sorted(times[key] or 0 for key in taken["oldest"]) == list(range(1, 11))
    assert sorted(times[key] or 0 for key in taken["newest"]) == list(range(41, 51))
    other = kept(rows, recipe(Search(query="", limit=10, take="random"), seed=1))
    assert other.keys() != taken["random"].keys() != taken["oldest"].keys()


def test_a_limit_counts_rows_that_are_left_of_its_own_ingredient() -> None:
    rows = [*many(30), *(row(f"copy-{n}", f"question log-{n}") for n in range(30)), *many(5)]
    rows += [row(f"second-{n}", ingredient=1) for n in range(20)]
    of = recipe(Search(query="", limit=25), Search(query="b", limit=3))
    assert Counter(key[-1] for key in kept(rows, of)) == {"0": 25, "1": 3}
    assert reasons(rows, of) == {"kept": 28, "duplicate_content": 35, "not_sampled": 5 + 17}


def test_nothing_is_made_of_nothing() -> None:
    found = selected(
        [], recipe(Search(query="", limit=3, take="balanced", by="language"), caps=(Cap(by="app", share=0.5),))
    )
    assert (len(found.reason), len(found.split), len(found.same)) == (0, 0, 0)


def test_a_version_keeps_its_rows_when_what_it_has_is_selected_again() -> None:
    of = recipe(
        Search(query="", limit=60, take="balanced", by="language"),
        weights=(Weight(by="language", keep={"de": 0.5}),),
        caps=(Cap(by="app", share=0.4),),
        test_share=0.5,
    )
    rows = [
        row(f"log-{n}", f"says {n % 90}", slices={"language": "de" if n % 3 else "en", "app": f"a{n % 4}"})
        for n in range(120)
    ]
    found = selected(rows, of)
    left = [
        msgspec.structs.replace(one, conversation=f"{joined:016x}", joined=(one.conversation[:16],))
        for one, reason, joined in zip(rows, found.reason, found.conversation.tolist(), strict=True)
        if REASONS[reason] is None
    ]
    again = msgspec.structs.replace(of, ingredients=(FromVersion(of="d@v1"),))
    assert 10 < len(left) < 60
    assert kept(left, again) == kept(rows, of)
    assert np.array_equal(selected(left, again).reason, np.zeros(len(left)))

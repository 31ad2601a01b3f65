"""Equal shares, caps, weights and replay: each number is what the recipe says, whatever order the rows come in."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.curator_api.balance import capped, most_of, replayed, weighted
from tunemill.curator_api.facts import Columns, Facts
from tunemill.curator_api.recipe import Cap, FromVersion, Recipe, Search, Weight, slice_names
from tunemill.curator_api.rows import Row, RowMessage
from tunemill.curator_api.sampling import equal_shares, sample
from tunemill.curator_api.select import REASONS, select
from tunemill.curator_api.slices import Described, is_slice, slice_of
from tunemill.schemas.ids import digest

SLICES = ("language", "app")


def row(key: str, language: str = "en", app: str = "shop", **more: Any) -> Row:
    messages = (RowMessage(role="user", content=f"question {key}"), RowMessage(role="assistant", content="answer"))
    fields: dict[str, Any] = {"slices": {"language": language, "app": app}, **more}
    return Row(row_key=key, log_id=key, conversation=digest(key)[:32], messages=messages, tools=None, **fields)


def columns(rows: Sequence[Row], seed: int = 0) -> Columns:
    facts = Facts(seed=seed, slices=SLICES)
    facts.add_page(rows)
    return facts.taken()


def spread(counts: dict[str, int], **more: Any) -> list[Row]:
    """So many rows of each language."""
    return [row(f"{language}-{n}", language, **more) for language, count in counts.items() for n in range(count)]


def every(rows: Sequence[Row]) -> Any:
    return np.arange(len(rows))


def languages(rows: Sequence[Row], stay: Any) -> Counter[str]:
    return Counter(rows[i].slices["language"] for i in stay.tolist())


counted = st.lists(st.integers(0, 40), min_size=1, max_size=7)
shares = st.sampled_from((0.05, 0.1, 0.2, 0.25, 0.29, 0.3, 1 / 3, 0.34, 0.5, 0.57, 0.6, 0.9, 1.0))


@given(counted, st.integers(0, 200))
def test_shares_are_as_equal_as_the_counts_allow(counts: list[int], limit: int) -> None:
    found = equal_shares(np.array(counts), limit).tolist()
    assert sum(found) == min(limit, sum(counts))
    assert all(had <= count for had, count in zip(found, counts, strict=True))
    short = [had for had, count in zip(found, counts, strict=True) if had < count]
    assert not short or max(found) <= min(short) + 1


def test_what_is_left_over_goes_to_the_first_in_order_of_the_values() -> None:
    rows = spread({"fr": 9, "de": 9, "en": 9})
    stay = sample(columns(rows), every(rows), limit=8, take="balanced", by="language", clusters=None)
    assert languages(rows, stay) == {"de": 3, "en": 3, "fr": 2}


def test_what_a_value_lacks_goes_to_the_others() -> None:
    rows = spread({"de": 2, "en": 50, "fr": 30})
    stay = sample(columns(rows), every(rows), limit=30, take="balanced", by="language", clusters=None)
    assert languages(rows, stay) == {"de": 2, "en": 14, "fr": 14}


@given(counted, shares)
def test_a_share_is_solved_to_the_largest_dataset_that_holds_it(counts: list[int], share: float) -> None:
    exact = Fraction(str(share))
    totals = [
        total for total in range(sum(counts) + 1) if sum(min(count, int(exact * total)) for count in counts) == total
    ]
    most = most_of(np.array(counts), Cap(by="language", share=share))
    assert sum(min(count, most) for count in counts) == max(totals)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz")), max_size=80),
    st.integers(1, 30),
    shares,
    st.randoms(),
)
def test_caps_hold_exactly_in_any_order(values: list[tuple[str, str]], most: int, share: float, shuffle: Any) -> None:
    rows = [row(f"k{n}", language, app) for n, (language, app) in enumerate(values)]
    caps = [Cap(by="language", share=share), Cap(by="app", most=most)]
    stay = capped(columns(rows), every(rows), caps).tolist()
    found = Counter(rows[i].slices["language"] for i in stay)
    assert all(count <= Fraction(str(share)) * len(stay) for count in found.values())
    assert all(count <= most for count in Counter(rows[i].slices["app"] for i in stay).values())
    other = list(rows)
    shuffle.shuffle(other)
    again = capped(columns(other), every(other), caps[::-1]).tolist()
    assert {rows[i].row_key for i in stay} == {other[i].row_key for i in again}
    left = [rows[i] for i in sorted(stay)]
    assert len(capped(columns(left), every(left), caps)) == len(left)  # what holds already stays


def test_a_cap_that_cannot_hold_leaves_nothing() -> None:
    rows = spread({"de": 10, "en": 10})
    assert len(capped(columns(rows), every(rows), [Cap(by="language", share=0.4)])) == 0


def test_a_share_is_what_a_person_wrote() -> None:
    """As a binary fraction 0.29 of 100 is a little less than 29."""
    assert most_of(np.array([29, 29, 29, 13]), Cap(by="language", share=0.29)) == 29


def test_large_counts_are_solved_as_small_ones() -> None:
    assert most_of(np.array([10**9, 999]), Cap(by="language", share=0.5)) == 999
    assert most_of(np.array([10**9, 10**9 + 1]), Cap(by="language", share=0.5)) == 10**9
    assert most_of(np.ones(200_000, np.int64), Cap(by="language", share=0.001)) == 200


def test_a_weight_keeps_its_share_and_no_other_row_makes_a_difference() -> None:
    rows = spread({"de": 1000, "en": 1000, "fr": 100})
    weights = [Weight(by="language", keep={"de": 0.3, "fr": 1.0})]
    stay = weighted(columns(rows), every(rows), weights)
    found = languages(rows, stay)
    assert 250 <= found["de"] <= 350
    assert (found["en"], found["fr"]) == (1000, 100)
    few = [one for n, one in enumerate(rows) if n % 3]
    again = {few[i].row_key for i in weighted(columns(few), every(few), weights).tolist()}
    assert again == {rows[i].row_key for i in stay.tolist()} & {one.row_key for one in few}
    more = weighted(columns(rows), every(rows), [Weight(by="language", keep={"de": 0.5})])
    assert set(stay.tolist()) <= set(more.tolist())


def test_weights_of_two_slices_multiply() -> None:
    rows = spread({"de": 4000})
    weights = [Weight(by="language", keep={"de": 0.5}), Weight(by="app", keep={"shop": 0.5})]
    assert 900 <= len(weighted(columns(rows), every(rows), weights)) <= 1100


@pytest.mark.parametrize(("share", "others", "wanted"), [(0.1, 900, 100), (0.5, 70, 70), (0.29, 71, 29), (0.2, 0, 0)])
def test_replay_is_its_share_of_all_rows(share: float, others: int, wanted: int) -> None:
    rows = [*spread({"en": others}), *spread({"de": 400}, ingredient=1)]
    assert languages(rows, replayed(columns(rows), every(rows), {1: share}))["de"] == wanted


def test_two_replays_have_each_its_share_and_a_small_one_gives_all_it_has() -> None:
    rows = [*spread({"en": 60}), *spread({"de": 400}, ingredient=1), *spread({"fr": 400}, ingredient=2)]
    found = languages(rows, replayed(columns(rows), every(rows), {1: 0.3, 2: 0.1}))
    assert found == {"en": 60, "de": 30, "fr": 10}
    rows = [*spread({"en": 600}), *spread({"de": 5}, ingredient=1)]
    assert languages(rows, replayed(columns(rows), every(rows), {1: 0.3}))["de"] == 5


def test_replay_is_of_what_the_weights_leave() -> None:
    recipe = Recipe(
        ingredients=(Search(query=""), FromVersion(of="d@v1", share=0.25)),
        slices=SLICES,
        weights=(Weight(by="language", keep={"en": 0.4}),),
    )
    rows = [*spread({"en": 300}), *spread({"de": 400}, ingredient=1)]
    facts = Facts(seed=0, slices=slice_names(recipe))
    facts.add_page(rows)
    found = select(facts.taken(), recipe)
    why = Counter((rows[i].ingredient, str(REASONS[code] or "kept")) for i, code in enumerate(found.reason))
    assert why[1, "kept"] == why[0, "kept"] // 3
    assert why[0, "weighted_out"] == 300 - why[0, "kept"]
    assert 80 <= why[0, "kept"] <= 160


def test_the_seed_decides_who_stays() -> None:
    rows = spread({"en": 100})
    cap = [Cap(by="language", most=20)]
    one, other = (set(capped(columns(rows, seed), every(rows), cap).tolist()) for seed in (0, 1))
    assert len(one) == len(other) == 20
    assert one != other


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("language", "de"),
        ("app", "shop"),
        ("model", "none"),
        ("finish", "stop"),
        ("topic", "billing"),
        ("length", "<1000"),
        ("meta:team", "blue"),
        ("meta:other", "none"),
        ("meta:empty", "none"),
    ],
)
def test_slices_of_a_log(name: str, value: str) -> None:
    log = Described(
        language="de",
        app="shop",
        finish_reason="stop",
        tags=("quality:ok", "topic:shipping", "topic:billing"),
        characters=200,
        metadata={"team": "blue", "empty": ""},
    )
    assert slice_of(log, name) == value
    assert is_slice(name)


def test_lengths_begin_where_the_last_ends() -> None:
    told = [slice_of(Described(characters=number), "length") for number in (0, 199, 200, 999, 1000, 3999, 4000, 10**6)]
    assert told == ["<200", "<200", "<1000", "<1000", "<4000", "<4000", ">=4000", ">=4000"]


def test_what_is_no_slice() -> None:
    assert not any(is_slice(name) for name in ("colour", "meta:", "", "tag"))
    assert slice_of(Described(), "topic") == "none"
    assert len(slice_of(Described(metadata={"k": "x" * 999}), "meta:k")) == 100

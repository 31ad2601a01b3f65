"""Rows on their way into a version: in order, those that say the same as one, and none of them kept in memory."""

import gc
import random
import weakref
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.curator_api import spill
from tunemill.curator_api.parts import StoredRow, order
from tunemill.curator_api.recipe import Recipe, Search
from tunemill.curator_api.rows import Row, RowMessage
from tunemill.curator_api.select import select
from tunemill.curator_api.spill import Spill

RECIPE = Recipe(ingredients=(Search(query=""),), test_share=0.5)


def row(number: int, question: int | None = None) -> Row:
    key = f"log-{number}"
    return Row(
        row_key=key,
        log_id=key,
        conversation=f"{number:016x}",
        messages=(
            RowMessage(role="user", content=f"question {number if question is None else question}"),
            RowMessage(role="assistant", content="yes"),
        ),
        tools=None,
        log_ids=(key,),
    )


def kept(pages: Sequence[Sequence[Row]]) -> list[StoredRow]:
    with Spill(RECIPE) as made:
        for page in pages:
            made.add(page)
        columns = made.columns()
        return [one for some in made.kept(select(columns, RECIPE)) for one in some]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(0, 9), st.integers(1, 9))
def test_rows_come_back_in_order_whichever_way_they_came(questions: list[int], seed: int, page: int) -> None:
    rows = [row(number, question) for number, question in enumerate(questions)]
    one = kept([rows])
    random.Random(seed).shuffle(rows)
    assert one == sorted(one, key=order)
    assert kept([rows[at : at + page] for at in range(0, len(rows), page)]) == one
    assert {one.row_id for one in one} == {row.row_id() for row in rows}
    assert sorted(key for one in one for key in one.row_keys) == sorted(row.row_key for row in rows)


def test_rows_are_the_same_however_many_are_written_and_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [[row(number, number % 70) for number in range(at, at + 7)] for at in range(0, 140, 7)]
    whole = kept(pages)
    monkeypatch.setattr(spill, "_HELD_BYTES", 2_000)
    monkeypatch.setattr(spill, "_READ_BYTES", 1_000)
    assert kept(pages) == whole
    assert len(whole) == 70


def test_rows_that_say_the_same_are_one_row_of_all_their_logs() -> None:
    (only,) = kept([[row(1, 7), row(2, 7)], [row(3, 7)]])
    assert only.row.row_key == only.row_keys[0]
    assert set(only.row_keys) == {"log-1", "log-2", "log-3"}
    assert only.row.log_ids == ("log-1", "log-2", "log-3")
    assert only.row.conversation == f"{1:016x}"


def test_no_row_is_held_once_it_was_taken_in(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(spill, "_HELD_BYTES", 1)

    class Watched(Row, frozen=True, weakref=True, gc=True, kw_only=True):
        """A row of which is known when it is gone."""

    page = [Watched(**{name: getattr(row(n), name) for name in Row.__struct_fields__}) for n in range(10)]
    watched = [weakref.ref(one) for one in page]
    with Spill(RECIPE) as made:
        made.add(page)
        del page
        gc.collect()
        assert [one() for one in watched] == [None] * 10
        columns = made.columns()
        found = [one for some in made.kept(select(columns, RECIPE)) for one in some]
    assert {one.row_keys[0] for one in found} == {f"log-{n}" for n in range(10)}
    assert msgspec.structs.asdict(found[0].row).keys() == set(Row.__struct_fields__)

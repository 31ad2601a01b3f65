"""What is decided by of each row, in columns."""

import msgspec
import numpy as np
import pytest

from tunemill.curator_api.facts import SLOTS, Facts
from tunemill.curator_api.recipe import Cap, Recipe, Search, slice_names
from tunemill.curator_api.rows import Row, RowMessage
from tunemill.schemas.ids import digest


def row(key: str, answer: str, **fields: object) -> Row:
    messages = (RowMessage(role="user", content="hi"), RowMessage(role="assistant", content=answer))
    given = {"log_id": key, "log_ids": (key,), "conversation": digest(key)[:32], "tools": None} | fields
    return Row(row_key=key, messages=messages, **given)  # type: ignore[arg-type]


def test_the_columns_do_not_depend_on_the_pages() -> None:
    rows = [
        row("a", "one", slices={"app": "web"}, ts_ms=5),
        row("b", "two", slices={"app": "none"}, ingredient=2, log_ids=("b", "a")),
        row("c", "three", slices={"app": "web"}, log_id=None, log_ids=()),
    ]
    sketches = np.arange(3 * SLOTS, dtype=np.uint8).reshape(3, SLOTS)
    has = np.array([True, False, True])
    whole, paged = (Facts(seed=7, slices=("app",)) for _ in range(2))
    whole.add_page(rows, (sketches, has))
    paged.add_page(rows[:2], (sketches[:2], has[:2]))
    paged.add_page(rows[2:], (sketches[2:], has[2:]))
    one, other = whole.taken(), paged.taken()
    for name in one.__struct_fields__:
        left, right = getattr(one, name), getattr(other, name)
        if name in ("slices", "values"):
            assert [list(part) for part in left.values()] == [list(part) for part in right.values()], name
        else:
            assert np.array_equal(left, right), name
    assert one.row_id.astype(">u8").tobytes() == b"".join(bytes.fromhex(one.row_id())[:16] for one in rows)
    assert [one.values["app"][code] for code in one.slices["app"]] == ["web", "none", "web"]
    assert (one.log_rows.tolist(), one.log_keys.tolist()) == ([1], [one.key[0]])
    assert one.of_log.tolist() == [True, True, False]
    assert one.ts_ms.tolist() == [5, 0, 0]


def test_what_a_row_is_decided_by_takes_less_than_fifty_bytes() -> None:
    facts = Facts(seed=0, slices=("language", "app", "topic", "length"))
    facts.add_page([row(str(number), "one", ts_ms=1, ingredient=3) for number in range(1_000)])
    columns = facts.taken()
    arrays = [
        getattr(columns, name) for name in columns.__struct_fields__ if name not in {"draw", "has_sketch", "seed"}
    ]
    plain = [array for array in (*arrays, *columns.slices.values()) if isinstance(array, np.ndarray)]
    assert columns.draw is columns.key
    assert sum(array.nbytes for array in plain) < 50 * 1_000


@pytest.mark.parametrize(("values", "width"), [(200, 1), (300, 2), (70_000, 4)])
def test_codes_of_slices_are_as_wide_as_there_are_values(values: int, width: int) -> None:
    facts = Facts(seed=0, slices=("app",))
    apps = [str(number) for number in range(values)] + ["0", str(values - 1)]
    shared = row("a", "one")
    for at in range(0, len(apps), 10_000):
        facts.add_page([msgspec.structs.replace(shared, slices={"app": app}) for app in apps[at : at + 10_000]])
    columns = facts.taken()
    assert columns.slices["app"].itemsize == width
    assert [columns.values["app"][code] for code in columns.slices["app"]] == apps


def test_facts_of_nothing_are_empty_columns() -> None:
    columns = Facts(seed=0, slices=("app",)).taken()
    assert (len(columns.key), len(columns.slices["app"]), columns.sketch) == (0, 0, None)


def test_every_slice_that_a_recipe_speaks_of_is_one_of_its_names() -> None:
    recipe = Recipe(
        ingredients=(Search(query="*", take="balanced", by="model"),),
        caps=(Cap(by="app", most=2),),
        slices=("app",),
        groups=("age",),
    )
    assert slice_names(recipe) == ("app", "meta:age", "model")

"""What is decided by of each row, in columns."""

import numpy as np

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
        row("c", "three", slices={"app": "web"}),
    ]
    sketches = np.arange(3 * SLOTS, dtype=np.uint8).reshape(3, SLOTS)
    has = np.array([True, False, True])
    whole, paged = (Facts(seed=7, slices=("app",)) for _ in range(2))
    whole.add_page(rows, (sketches, has))
    paged.add_page(rows[:2], (sketches[:2], has[:2]))
    paged.add_page(rows[2:], (sketches[2:], has[2:]))
    one, other = whole.freeze(), paged.freeze()
    for name in one.__struct_fields__:
        left, right = getattr(one, name), getattr(other, name)
        if name in ("slices", "values"):
            assert [list(part) for part in left.values()] == [list(part) for part in right.values()], name
        else:
            assert np.array_equal(left, right), name
    assert one.row_id[0] == bytes.fromhex(rows[0].row_id())
    assert [one.values["app"][code] for code in one.slices["app"]] == ["web", "none", "web"]
    assert (one.log_rows.tolist(), one.log_keys[2]) == ([0, 1, 1, 2], one.log_keys[0])
    assert one.ts_ms.tolist() == [5, 0, 0]
    assert len(set(one.place.tolist())) == 1


def test_facts_of_nothing_are_empty_columns() -> None:
    columns = Facts(seed=0, slices=("app",)).freeze()
    assert (len(columns.key), len(columns.slices["app"]), columns.sketch) == (0, 0, None)


def test_every_slice_that_a_recipe_speaks_of_is_one_of_its_names() -> None:
    recipe = Recipe(
        ingredients=(Search(query="*", take="balanced", by="model"),),
        caps=(Cap(by="app", most=2),),
        slices=("app",),
        groups=("age",),
    )
    assert slice_names(recipe) == ("app", "meta:age", "model")

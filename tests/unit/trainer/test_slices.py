"""Slices of the held-out rows: from the version's sources, and from the rows themselves."""

from pathlib import Path

import pytest
from fakes.tiny_model import chat, publish_dataset, sources_url, tickets

from tunemill.trainer.dataset import open_dataset
from tunemill.trainer.slices import OTHERS, changes, from_sources, seen

CALL = {"type": "function", "function": {"name": "look_up", "arguments": {}}}


def test_the_sources_of_a_version_say_slices_by_row(tmp_path: Path) -> None:
    said = [{"app": "shop", "language": "de", "slices": {"tier": str(i)}} for i in range(6)]
    manifest_url, digest = publish_dataset(
        tmp_path,
        "tickets",
        {"train": tickets(6), "test": tickets(6, start=10)},
        sources={"train": [{"app": "other"}] * 6, "test": said},
    )

    found = from_sources(manifest_url, sources_url(manifest_url), split="test")

    assert set(found) == {row["row_id"] for row in open_dataset(manifest_url, digest).test}
    assert {slices["tier"] for slices in found.values()} == {str(i) for i in range(6)}
    assert all((slices["app"], slices["language"]) == ("shop", "de") for slices in found.values())


def test_a_version_without_sources_says_nothing_and_a_lost_file_is_an_error(tmp_path: Path) -> None:
    manifest_url, _ = publish_dataset(tmp_path, "tickets", {"test": tickets(2)})

    assert from_sources(manifest_url, "", split="test") == {}
    with pytest.raises(OSError, match=r"none\.json"):
        from_sources(manifest_url, str(tmp_path / "none.json"), split="test")


def test_a_row_shows_what_it_answers_with_and_how_long_it_is() -> None:
    called = chat("q", "")
    called["messages"][-1]["tool_calls"] = [CALL]
    rows = [chat("q", '{"a": 1}'), chat("q" * 50, "a", "q", "a"), chat(*["q" * 100, "a"] * 5), called]

    assert [row["answer"] for row in seen(rows)] == ["json", "text", "text", "call"]
    assert [row["turns"] for row in seen(rows)] == ["1", "2-4", "5+", "1"]
    assert [row["length"] for row in seen(rows)] == ["short", "middle", "long", "short"]
    assert seen([]) == []


def test_each_value_of_a_slice_has_its_own_change() -> None:
    of_rows = [{"language": language, "app": "shop"} for language in ("de", "en", "de") for _ in range(5)]
    before, after = [10.0] * 10 + [30.0] * 5, [5.0] * 5 + [20.0] * 5 + [15.0] * 5
    found = changes(of_rows, before, after, [10] * 15, seed=0)

    assert [(one.slice, one.value, one.rows) for one in found] == [("language", "de", 10), ("language", "en", 5)]
    assert (found[0].loss_before, found[0].loss_after) == (2.0, 1.0)
    assert found[0].low <= -1.0 <= found[0].high < 0
    assert found[1].low == found[1].high == pytest.approx(1.0)


def test_many_values_are_one() -> None:
    of_rows = [{"customer": str(i // 5)} for i in range(200)]
    found = changes(of_rows, [1.0] * 200, [1.0] * 200, [1] * 200, seed=0)

    assert len(found) == 13
    assert {one.value: one.rows for one in found}[OTHERS] == 200 - 12 * 5


def test_a_value_of_a_few_rows_is_not_told() -> None:
    of_rows = [{"meta:user": "ada" if i < 4 else f"user {i}" if i < 8 else "nobody"} for i in range(30)]
    found = changes(of_rows, [1.0] * 30, [1.0] * 30, [1] * 30, seed=0)

    assert {one.value: one.rows for one in found} == {"nobody": 22, OTHERS: 8}
    assert [one.value for one in changes(of_rows[:26][4:], [1.0] * 22, [1.0] * 22, [1] * 22, seed=0)] == ["nobody"]

"""A version's card: what the hub reads of it, what a person reads, and that nothing in it is obeyed."""

import re
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from tunemill.curator_api.card import card

REPORT: dict[str, Any] = {
    "matched": 30,
    "rows": 25,
    "excluded": {"consent": 3, "near_duplicate": 2, "pii": 0},
    "languages": {"en": 20, "no": 4, "unknown": 1},
    "characters_per_row": {"min": 1, "median": 20, "p90": 80, "max": 99, "total": 700},
    "slices": {"app": {"tutor": {"logs": 20, "share_logs": 0.8, "rows": 19, "share_rows": 0.76, "duplicates": 1}}},
    "licences": {"yes": 20, "unknown": 5},
    "warnings": ["the test split is small"],
    "corrected": 7,
    "point_ms": 1_700_000_000_123,
    "default_consent": "none",
    "private_data": "snapshot",
}
RECIPE = {"ingredients": [{"kind": "search", "query": "tag:topic:math"}], "seed": 3}


def made(**more: Any) -> str:
    told: dict[str, Any] = {
        "name": "math",
        "digest": "d" * 64,
        "shape": "chat",
        "splits": {"train": 20, "test": 5},
        "report": REPORT,
        "recipe": RECIPE,
        "files": {"train": ["../../parts/a.parquet", "../../parts/b.parquet"], "test": ["../../parts/c.parquet"]},
    }
    return card(**(told | more))


def front(text: str) -> Any:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_front_matter_names_each_splits_files() -> None:
    assert front(made()) == {
        "language": ["en", "no"],
        "license": "unknown",
        "size_categories": ["n<1K"],
        "tags": ["tunemill", "chat"],
        "dataset_info": {
            "features": [
                {"name": "row_id", "dtype": "string"},
                {"name": "messages", "list": "json"},
                {"name": "tools", "dtype": "string"},
            ]
        },
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": ["../../parts/a.parquet", "../../parts/b.parquet"]},
                    {"split": "test", "path": ["../../parts/c.parquet"]},
                ],
            }
        ],
    }


def test_a_split_without_rows_is_not_offered() -> None:
    told = front(made(splits={"train": 1000, "test": 0}, files={"train": ["a"], "test": []}))
    assert [one["split"] for one in told["configs"][0]["data_files"]] == ["train"]
    assert told["size_categories"] == ["1K<n<10K"]


def test_a_licence_that_every_row_came_under_is_told_and_one_of_some_rows_does_not_stand_for_all() -> None:
    assert front(made(report={**REPORT, "terms": {"MIT": 25}}))["license_name"] == "MIT"
    some = made(report={**REPORT, "terms": {"MIT": 24}})
    assert front(some)["license"] == "unknown"
    assert "| MIT | 24 |" in some.splitlines()


def test_the_page_tells_recipe_slices_exclusions_and_warnings() -> None:
    text = made()
    recipe = text.split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(recipe) == RECIPE
    for line in (
        "| tutor | 20 | 80.0 % | 19 | 76.0 % | 1 |",
        "Of 30 that matched, 5:",
        "| near\\_duplicate | 2 |",
        "- the test split is small",
        "| yes | 20 |",
        "| answers that are corrections | 7 |",
        "| point in time | 2023-11-14T22\\:13\\:20.123+00\\:00 |",
        "| private data | snapshot |",
    ):
        assert line in text.splitlines()
    assert "pii" not in text
    assert text == made()


def test_a_value_is_text_and_a_recipe_stays_within_its_block() -> None:
    nasty = "[x](http://e.example) <script> | `a`\n# b"
    text = made(
        report={**REPORT, "slices": {"meta:team": {nasty: {"rows": 1}}}, "warnings": [nasty]},
        recipe={"ingredients": [{"kind": "search", "query": "a ```\n# not a heading"}]},
    )
    page = text.split("````yaml")[0] + text.split("````")[-1]
    assert re.search(r"(?<!\\)[<\[`]", page.split("---\n", 2)[2].split("## Reading it")[0]) is None
    assert [line for line in page.splitlines() if line.startswith("# ")] == ["# math"]
    assert all(line.endswith("|") for line in page.splitlines() if line.startswith("|"))


@given(st.text(), st.text())
def test_any_query_and_any_value_come_back_from_yaml(query: str, value: str) -> None:
    recipe = {"ingredients": [{"kind": "search", "query": query}], "weights": [{"by": "app", "keep": {value: 0.5}}]}
    text = made(recipe=recipe)
    fence = next(line for line in text.splitlines() if line.endswith("yaml") and line.startswith("```"))[:-4]
    assert yaml.safe_load(text.split(f"{fence}yaml\n")[1].split(f"\n{fence}\n")[0]) == recipe

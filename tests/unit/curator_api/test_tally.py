"""What is counted of a dataset, and what its report says: parts add up, and a filter that hits one slice is told."""

from pathlib import Path
from typing import Any

import jinja2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunemill.curator_api import charts, page_text
from tunemill.curator_api import tally as counted
from tunemill.curator_api.recipe import Cap, Decontaminate, Filters, FromVersion, Recipe, Search, Weight
from tunemill.curator_api.report import ALLOW, MOST_WARNINGS, Report, report_on
from tunemill.curator_api.rows import Left, Reason, Row, RowMessage
from tunemill.curator_api.select import NearDuplicates
from tunemill.curator_api.tally import (
    OTHERS,
    Counting,
    Tally,
    bounded,
    bucket,
    logs_of,
    smallest_in,
    without_erased_values,
)
from tunemill.schemas.ids import digest

TEMPLATES = Path(charts.__file__).parent / "templates"
NAMES = ("language", "app")
PLAIN = Recipe(ingredients=(Search(query=""),), slices=NAMES)


def row(key: str, characters: int = 10, **more: Any) -> Row:
    messages = (RowMessage(role="user", content="q"), RowMessage(role="assistant", content="a" * (characters - 1)))
    fields: dict[str, Any] = {"log_id": key, "slices": {"language": "en", "app": "shop"}, **more}
    return Row(row_key=key, conversation=digest(key)[:32], messages=messages, tools=None, **fields)


def left(reason: Reason, count: int = 1, **slices: str) -> list[Left]:
    return [Left("key", reason, {"language": "en", "app": "shop", **slices})] * count


def in_language(language: str, count: int) -> list[tuple[Row, str]]:
    return [
        (row(f"{language}{n}", language=language, slices={"language": language, "app": "shop"}), "train")
        for n in range(count)
    ]


def told(tally: Tally, recipe: Recipe = PLAIN, **more: Any) -> Report:
    return report_on(tally, recipe, private_data="snapshot", point_ms=1, **more)


languages = st.sampled_from(("en", "de", "none"))
tallies = st.builds(
    lambda rows, out: Tally.of(NAMES, rows, out),
    st.lists(
        st.builds(
            lambda key, split, language, size, tags, tokens, corrected: (
                row(
                    f"k{key}",
                    size,
                    slices={"language": language, "app": f"app {key % 3}"},
                    language=None if language == "none" else language,
                    tags=tuple(tags),
                    tokens=tokens,
                    corrected=corrected,
                    masked=("email",) if corrected else (),
                ),
                split,
            ),
            st.integers(0, 99),
            st.sampled_from(("train", "test")),
            languages,
            st.integers(1, 5000),
            st.sets(st.sampled_from(("topic:a", "topic:b"))),
            st.none() | st.integers(0, 10**6),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.lists(
        st.builds(
            lambda reason, language: left(reason, language=language)[0], st.sampled_from(list(Reason)), languages
        ),
        max_size=12,
    ),
)


@given(tallies, tallies)
def test_tallies_are_added_and_taken_off(one: Tally, other: Tally) -> None:
    assert one + other - other == one
    assert one + other == other + one
    assert (one + other).matched == one.matched + other.matched
    assert one - one == Tally()


@given(tallies, tallies)
def test_a_tally_that_names_few_is_added_to_and_taken_off_and_parts_add_up(one: Tally, other: Tally) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counted, "MOST_NAMED", 2)
        kept = bounded(one)
        assert kept + other - other == kept
        assert bounded(kept) == kept
        assert all(len(values) <= 3 for values in (kept.tags, *kept.slices.values()))
        for tally in (kept, bounded(kept + other)):
            for values in tally.slices.values():
                assert sum(its.rows for its in values.values()) == tally.rows
                assert sum(map(logs_of, values.values())) == tally.matched


def test_what_is_kept_does_not_grow_with_a_value_in_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "MOST_COUNTED", 100)
    monkeypatch.setattr(counted, "MOST_NAMED", 50)
    names, counting, sizes = ("user",), Counting(("user",)), []
    for page in range(20):
        users = [f"often {n}" if n < 3 else f"u{page}-{n}" for n in range(60)]
        counting.keep(
            [row(f"{page}-{n}", slices={"user": user}, tags=(user,)) for n, user in enumerate(users)], "train"
        )
        counting.leave([Left("key", Reason.CONSENT, {"user": f"no {user}"}) for user in users])
        sizes.append(len(msgspec.json.encode(bounded(counting.tally()))))
    assert sizes[-1] < 1.2 * sizes[2]
    kept = bounded(counting.tally())
    assert {len(kept.slices["user"]), len(kept.tags)} == {51}
    report = told(kept, Recipe(ingredients=(Search(query=""),), slices=names))
    shares = report.slices["user"]
    assert [shares[f"often {n}"].rows for n in range(3)] == [20, 20, 20]
    assert list(shares)[-1] == OTHERS
    assert (sum(one.logs for one in shares.values()), sum(one.rows for one in shares.values())) == (2400, 1200)
    assert len(report.tags) == 50
    assert not [warning for warning in report.warnings if OTHERS in warning]


def test_no_erased_value_stays_of_which_some_rows_were_counted_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "MOST_COUNTED", 2)
    users = ["ann", *["bob"] * 3, *["cid"] * 2, "dan", "eve", *["ann"] * 4]
    rows = [row(f"{n}", slices={"user": user}) for n, user in enumerate(users)]
    counting = Counting(("user",))
    for one in rows:
        counting.keep([one], "train")
    before = counting.tally()
    assert before.slices["user"]["ann"].rows == 4, "of five"
    hers = [one for one, user in zip(rows, users, strict=True) if user == "ann"]
    gone = [Left(one.row_key, Reason.ERASED, one.slices) for one in hers]
    after = before - Tally.of(("user",), [(one, "train") for one in hers]) + Tally.of(("user",), (), gone)
    slices = without_erased_values(after).slices["user"]
    assert {value: its.rows for value, its in slices.items()} == {"bob": 3, "cid": 2, OTHERS: 2}
    assert sum(map(logs_of, slices.values())) == after.matched == 12


@given(tallies)
def test_a_tally_is_stored_and_read_again(one: Tally) -> None:
    assert msgspec.json.decode(msgspec.json.encode(one), type=Tally) == one


@given(tallies)
def test_every_slice_adds_up_to_what_was_looked_at(one: Tally) -> None:
    for values in one.slices.values():
        assert sum(its.rows for its in values.values()) == one.rows
        assert sum(sum(its.out.values()) for its in values.values()) == one.matched - one.rows


def test_a_value_that_only_erased_logs_had_is_told_no_more() -> None:
    out = [
        *left(Reason.ERASED, app="Ann"),
        *left(Reason.CONSENT, 2, app="Ann"),
        *left(Reason.ERASED, app="shop"),
        *left(Reason.CONSENT, app="Bob"),
        *left(Reason.CONSENT, app="none"),
    ]
    before = Tally.of(NAMES, [(row("a"), "train")], out)
    after = without_erased_values(before)
    assert (after.matched, after.excluded) == (before.matched, before.excluded)
    assert {value: its.out for value, its in after.slices["app"].items()} == {
        "Bob": {"consent": 1},
        "none": {"consent": 3, "erased": 1},
        "shop": {"erased": 1},
    }
    assert after.slices["language"] == before.slices["language"]
    assert without_erased_values(after) == after


def test_pages_count_as_the_whole() -> None:
    rows = [(row(f"k{n}", n + 1, slices={"language": "abc"[n % 3], "app": "x"}), "train") for n in range(30)]
    counting = Counting(NAMES)
    for at in range(0, 30, 7):
        counting.keep([one for one, _ in rows[at : at + 7]], "train")
    counting.leave(left(Reason.CONSENT, 3))
    counting.leave(left(Reason.PRIVATE, 2))
    assert counting.tally() == Tally.of(NAMES, rows, left(Reason.CONSENT, 3) + left(Reason.PRIVATE, 2))


@given(st.integers(0, 10**9))
def test_a_bucket_knows_a_number_within_a_quarter(number: int) -> None:
    low, high = smallest_in(bucket(number)), smallest_in(bucket(number) + 1)
    assert low <= number < high
    assert high - low <= max(1, low // 4)
    assert bucket(low) == bucket(high - 1) == bucket(number)


def test_what_a_report_says() -> None:
    rows = [
        (row("a", 100, language="en", tags=("topic:x",), tokens=5, licence="yes"), "train"),
        (row("b", 400, edited=True, masked=("email",), tokens=9), "train"),
        (row("c", 3000, log_id=None, corrected=True, tokens=6), "test"),
    ]
    out = left(Reason.NO_ANSWER) + left(Reason.DUPLICATE_CONTENT, 2) + left(Reason.CONTAMINATED, 4, language="de")
    recipe = Recipe(
        ingredients=(Search(query=""),),
        filters=Filters(decontaminate=Decontaminate(against=("gsm8k@v1",))),
        caps=(Cap(by="app", most=9),),
        weights=(Weight(by="language", keep={"en": 0.5}),),
    )
    found = told(Tally.of(NAMES, rows, out), recipe, default_consent="train")
    assert (found.matched, found.rows, found.splits) == (10, 3, {"train": 2, "test": 1})
    assert found.excluded == {"no_answer": 1, "duplicate_content": 2, "contaminated": 4}
    assert (found.bad, found.imported, found.edited, found.corrected) == ({"no_answer": 1}, 1, 1, 1)
    assert (found.languages, found.tags) == ({"unknown": 2, "en": 1}, {"topic:x": 1})
    assert (found.masked, found.licences) == ({"email": 1}, {"unknown": 2, "yes": 1})
    assert found.characters_per_row.total == 3500
    assert 384 <= found.characters_per_row.median < 448
    assert found.tokens_per_row is not None
    assert (found.tokens_per_row.min, found.tokens_per_row.median) == (5, 6)
    assert found.contamination is not None
    assert (found.contamination.rows, found.contamination.words) == (4, 13)
    assert found.balance == {"caps": [{"by": "app", "most": 9}], "weights": [{"by": "language", "keep": {"en": 0.5}}]}
    en, de = found.slices["language"]["en"], found.slices["language"]["de"]
    assert (en.logs, en.share_logs, en.rows, en.share_rows, en.duplicates) == (6, 0.6, 3, 1.0, 2)
    assert (de.logs, de.rows, de.out) == (4, 0, {"contaminated": 4})
    assert found.warnings == ()


def test_a_report_on_nothing() -> None:
    found = told(Tally.of(NAMES, [], left(Reason.STATUS_ERROR)))
    assert (found.matched, found.rows, found.slices["app"]["shop"].share_rows) == (1, 0, 0.0)
    assert found.warnings == ("the train split is empty", "the test split is empty")


def hard(
    de_out: int, de_in: int, en_out: int, en_in: int, reason: Reason = Reason.CONSENT, recipe: Recipe = PLAIN
) -> list[str]:
    out = left(reason, de_out, language="de") + left(reason, en_out)
    found = told(Tally.of(NAMES, in_language("de", de_in) + in_language("en", en_in), out), recipe)
    return [warning for warning in found.warnings if "split" not in warning and ALLOW not in warning]


def test_a_filter_that_hits_one_slice_much_harder_is_told() -> None:
    assert hard(71, 29, 12, 88) == ["consent leaves out 71 % of language de, 12 % of the rest"]


@pytest.mark.parametrize(
    ("de_out", "de_in", "en_out", "en_in"),
    [
        (10, 9, 0, 1000),  # too few logs
        (30, 70, 12, 88),  # less than 0.2 apart
        (90, 10, 65, 35),  # less than half as hard again
        (12, 8, 3, 7),  # may be chance
        (50, 50, 0, 0),  # there is no rest
    ],
)
def test_a_small_difference_is_not_told(de_out: int, de_in: int, en_out: int, en_in: int) -> None:
    assert hard(de_out, de_in, en_out, en_in) == []


def test_what_the_recipe_declares_is_no_surprise() -> None:
    balanced = Recipe(ingredients=(Search(query="", limit=9, take="balanced", by="app"),), slices=NAMES)
    assert hard(71, 29, 12, 88, Reason.CAPPED) == []
    assert hard(71, 29, 12, 88, Reason.WEIGHTED_OUT) == []
    replayed = Recipe(ingredients=(Search(query=""), FromVersion(of="d@v1", share=0.1)), slices=NAMES)
    assert hard(71, 29, 12, 88, Reason.NOT_SAMPLED, balanced) == []
    assert hard(71, 29, 12, 88, Reason.NOT_SAMPLED, replayed) == []
    assert len(hard(71, 29, 12, 88, Reason.NOT_SAMPLED)) == 1


def test_of_many_warnings_the_hardest_are_told_and_the_others_counted() -> None:
    out = [one for n in range(30) for one in left(Reason.PRIVATE, 20 + n, app=f"app {n:02}")]
    kept = [
        (row(f"{n}-{i}", slices={"language": "en", "app": f"app {n:02}"}), "train") for n in range(30) for i in range(2)
    ]
    kept += [(row(f"s{n}"), "train") for n in range(3000)]
    warnings = [warning for warning in told(Tally.of(NAMES, kept, out)).warnings if "split" not in warning]
    assert len(warnings) == MOST_WARNINGS + 1
    assert warnings[0].startswith("private leaves out 96 % of app app 29, ")
    assert warnings[-1] == "10 more such differences stand in the slices"


def test_the_page_shows_the_report_and_escapes_what_logs_say() -> None:
    rows = [(row("a", slices={"language": "en", "app": "<b>shop</b>"}, tokens=5), "train")]
    near = NearDuplicates(
        threshold=0.8, clusters=3, rows=7, sketched=90, bands=16, band_bytes=4, modelled_recall=0.999, crowded=2
    )
    recipe = Recipe(
        ingredients=(Search(query=""),),
        filters=Filters(decontaminate=Decontaminate(against=("gsm8k@v1",))),
        caps=(Cap(by="app", share=0.25),),
        weights=(Weight(by="language", keep={"en": 0.5}),),
    )
    report = told(Tally.of(NAMES, rows, left(Reason.NO_ANSWER)), recipe, near=near)
    page = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    page.filters |= {"amount": page_text.amount, "moment": page_text.moment, "iso": page_text.iso}
    page.globals |= {"bar": charts.bar}
    shown = page.from_string("{% import 'report.html' as reports with context %}{{ reports.report(report) }}").render(
        report=msgspec.to_builtins(report)
    )
    assert "1 of 2 that were looked at" in shown
    assert "7 rows in 3 clusters at a similarity of 0.8" in shown
    assert "&lt;b&gt;shop&lt;/b&gt;" in shown
    assert "<b>" not in shown
    assert 'aria-label="50.0 % of the logs, 100.0 % of the dataset"' in shown
    assert "25.0 % of the rows a value" in shown
    assert "the test split is empty" in shown

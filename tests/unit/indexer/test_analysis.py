"""Text becomes the terms that Elasticsearch would make of it (held to a real one in `tests/live/test_index_live.py`)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunemill.indexer.analysis import spaced, stems_shorter_than, terms, tokens
from tunemill.indexer.ast import And, Not, WordPrefix, Words
from tunemill.indexer.errors import UnknownIndexUrl
from tunemill.indexer.highlight import AROUND, highlight
from tunemill.indexer.open import open_index


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Running, the DIVISIONS!", ["run", "the", "divis"]),
        (
            "don't foo.bar v1.2 3.14 1,000 gpt-4o _x_ ___",
            ["don't", "foo.bar", "v1.2", "3.14", "1,000", "gpt", "4o", "_x_"],
        ),
        ("Straße über naïve", ["strass", "uber", "naiv"]),
        ("数学问题", ["数学", "学问", "问题"]),
        ("3月 x", ["3", "月", "x"]),
        ("ビタミンC ﾀﾜｰ", ["ビタ", "タミ", "ミン", "c", "タワ", "ワー"]),
        ("한국어 API를", ["한국", "국어", "api를"]),
        ("ＡＢ", ["ab"]),
        ("🎉 👩‍👩‍👧 🇩🇪", ["🎉", "👩‍👩‍👧", "🇩🇪"]),
        ("مرحبا، كيف", ["مرحبا", "كيف"]),
        ("", []),
        ("?!", []),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


joined = st.text("aB9_ .:',;\u2019\u00b7é-\n", max_size=14)
long_runs = st.lists(
    st.builds(
        lambda character, length: character * length, st.sampled_from("a9_.' "), st.sampled_from([1, 254, 255, 256])
    )
).map("".join)


@given(st.text() | joined | long_runs)
def test_tokens_are_where_they_say_and_spaced_text_is_made_of_them(text: str) -> None:
    found = list(tokens(text))
    assert all(0 <= token.start < token.end <= len(text) for token in found)
    assert [token.start for token in found] == sorted(token.start for token in found)
    assert spaced([text, "a.", text, "b_"])[2].split() == [token.text for token in found]


@pytest.mark.parametrize("run", ["가", "가\u0301", "\u2e80", "カ"])
def test_a_long_run_of_one_script_that_goes_on_in_another_is_cut_in_no_time(run: str) -> None:
    text = run * 100 + "x"
    assert "".join(token.text for token in tokens(text)).startswith(run)


def test_a_prefix_longer_than_the_stem_still_finds_the_word() -> None:
    assert "calcul" in stems_shorter_than("calculat")


def test_highlights_show_some_context_and_nothing_negated() -> None:
    text = "left " * 100 + "the long division here" + " right" * 100 + " short"
    query = And((Words("long division"), WordPrefix("divis"), Not(Words("short"))))
    (fragment,) = highlight(query, {"prompt": (text,)})
    assert [piece for piece, matched in fragment if matched] == ["long", "division"]
    whole = "".join(piece for piece, _ in fragment)
    assert whole in text and len(whole) < 2 * AROUND + 30


@pytest.mark.parametrize("url", ["", "local:", "sqlite:x", "http:x", "ftp://x", "htps://elastic:sesame@h:9200"])
def test_unknown_urls_are_refused(url: str) -> None:
    with pytest.raises(UnknownIndexUrl, match="an index is local:<folder> or") as caught:
        open_index(url)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("project", ["", "../x", "A", "a b", "a*"])
def test_a_project_that_could_not_name_an_index_is_refused(project: str) -> None:
    with pytest.raises(UnknownIndexUrl, match="a project is named by"):
        open_index("local:x", project=project)

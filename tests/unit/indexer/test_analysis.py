"""Text becomes the terms that Elasticsearch would make of it (held to a real one in `tests/live/test_index_live.py`)."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.indexer import analysis
from tunemill.indexer.analysis import Token, spaced, stems_shorter_than, terms, tokens
from tunemill.indexer.errors import UnknownIndexUrl
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


def cut_by_one(text: str, first_word: Callable[[str], tuple[int, int] | None]) -> Iterator[Token]:
    """What a long word is cut into, by a window that is moved by one character where nothing begins at its beginning."""
    start = 0
    while len(text) - start > 255:
        found = first_word(text[start : start + 255])
        if found is None or found[0] > 0:
            start += 1
            continue
        yield Token(text[start : start + found[1]], start, start + found[1])
        start += found[1]
    if found := first_word(text[start:]):
        yield Token(text[start + found[0] : start + found[1]], start + found[0], start + found[1])


pieces = st.builds(
    lambda characters, times: characters * times,
    st.text("aб_.':,#9\u0301\u20dd\u0e31กカヽﾞアשך\"🎉\u200d🇩\u202f\ufe0f", min_size=1, max_size=3),
    st.sampled_from([1, 1, 2, 120, 260, 700]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(pieces, min_size=1, max_size=8).map("".join))
def test_what_is_too_long_is_cut_as_by_a_window_that_moves_by_one(text: str) -> None:
    text = text[:1_250]
    assert list(analysis._cut(Token(text, 0, len(text)), analysis._any_word)) == list(
        cut_by_one(text, analysis._any_word)
    )


@pytest.mark.parametrize("text", ["_" * 700 + "a", "a" + "_" * 700 + "é.b" + "_" * 700, "é " + "_" * 700])
def test_long_lines_of_latin_text_are_cut_likewise(text: str) -> None:
    words = analysis._LATIN_WORD.finditer(text)
    expected = [token.text for word in words for token in cut_by_one(word[0], analysis._latin_word)]
    assert [token.text for token in tokens(text)] == expected


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("a" + "\u0301" * 300_000, 50),
        ("б" + "_" * 300_000 + "б", 200),
        ("б" + "_\u0301" * 150_000, 200),
        (("a" + "\u0301" * 300) * 1_000, 10_000),
    ],
)
def test_where_no_word_begins_few_windows_are_looked_into(
    text: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    first_word = analysis._any_word

    def counted(seen: str) -> tuple[int, int] | None:
        nonlocal looks
        looks += 1
        return first_word(seen)

    monkeypatch.setattr(analysis, "_any_word", counted)
    assert all(len(token.text) <= 255 for token in tokens(text))
    assert 0 < looks < most


def test_a_prefix_longer_than_the_stem_still_finds_the_word() -> None:
    assert "calcul" in stems_shorter_than("calculat")


@pytest.mark.parametrize("url", ["", "local:", "sqlite:x", "http:x", "ftp://x", "htps://elastic:sesame@h:9200"])
def test_unknown_urls_are_refused(url: str) -> None:
    with pytest.raises(UnknownIndexUrl, match="an index is local:<folder> or") as caught:
        open_index(url)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("project", ["", "../x", "A", "a b", "a*"])
def test_a_project_that_could_not_name_an_index_is_refused(project: str) -> None:
    with pytest.raises(UnknownIndexUrl, match="a project is named by"):
        open_index("local:x", project=project)

"""Likeness of texts, by small examples computed by hand."""

import pytest

from tunemill.trainer.texts import chrf, rouge_l, word_f1, words


def test_a_word_is_letters_and_digits_of_any_script_and_an_ideograph_is_one() -> None:
    assert words("It's 3kg, größer_Ōsaka 東京。") == ["it", "s", "3kg", "größer", "ōsaka", "東", "京"]


def test_marks_belong_to_their_letters() -> None:
    assert words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert words("e\u0301te\u0301") == words("\u00e9t\u00e9") == ["\u00e9t\u00e9"], "however an accent is written"


@pytest.mark.parametrize("measure", [word_f1, rouge_l, chrf])
@pytest.mark.parametrize("text", ["Paris", "the capital is Paris.", "東京", "...", ""])
def test_a_text_is_wholly_like_itself(measure, text: str) -> None:  # type: ignore[no-untyped-def]
    assert measure(text, text) == pytest.approx(1.0)


@pytest.mark.parametrize("measure", [word_f1, rouge_l, chrf])
@pytest.mark.parametrize(("expected", "answer"), [("abc", ""), ("", "abc"), ("abc", "xyz"), ("?", "!")])
def test_texts_that_share_nothing_are_not_alike(measure, expected: str, answer: str) -> None:  # type: ignore[no-untyped-def]
    assert measure(expected, answer) == 0.0


def test_words_count_as_often_as_they_stand_there() -> None:
    assert word_f1("the the cat", "the the dog") == pytest.approx(2 * 2 / 6)
    assert word_f1("the cat sat", "the the cat") == pytest.approx(2 * 2 / 6)


def test_the_order_of_words_counts_for_rouge_and_not_for_f1() -> None:
    assert word_f1("a b c d", "d c b a") == 1.0
    assert rouge_l("a b c d", "d c b a") == pytest.approx(2 * 1 / 8)
    assert rouge_l("police killed the gunman", "police kill the gunman") == pytest.approx(
        2 * 3 / 8
    )  # Lin's own example


def test_letters_count_where_words_do_not() -> None:
    assert word_f1("color", "colour") == 0.0
    assert 0.5 < chrf("color", "colour") < 1.0

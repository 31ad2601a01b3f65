"""Which learned tags a log gets, by the words in it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunemill.schemas.learned import LearnedTag, Model
from tunemill.schemas.records import LogRecord, Message, Tag
from tunemill.streams.learned import matching, score, words_of
from tunemill.streams.mask import mask
from tunemill.streams.rules import Rules
from tunemill.streams.tag import tag
from tunemill.streams.text import Texts


def texts(user: str = "", assistant: str = "", system: str = "") -> Texts:
    return Texts({"user": user, "assistant": assistant, "system": system, "rest": ""})


def user_words(text: str) -> set[str]:
    return words_of(texts(text))["user"]


def learned(threshold: float = 0.0, *, name: str = "topic:refund", version: int = 1, **weights: float) -> LearnedTag:
    return LearnedTag(name, version, Model({"user": weights}, bias=-0.5, threshold=threshold))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, hello World_x!", {"hello", "world", "x"}),
        ("don't pay 3.14€", {"don", "t", "pay", "3", "14"}),
        ("“Grüße” — naïve’s", {"grüße", "naïve", "s"}),
        ("नमस्ते दुनिया", {"नमस्ते", "दुनिया"}),
        ("안녕 세계", {"안녕", "세계"}),
        ("東京に Python で", {"東京", "京に", "python", "で"}),
        ("ขอบคุณ", {"ขอ", "อบ", "บค", "คุ", "ุณ"}),
        ("a\ud800b", {"a", "b"}),
        ("", set()),
        (" \n-", set()),
    ],
)
def test_words_of_many_scripts(text: str, words: set[str]) -> None:
    assert user_words(text) == words


@given(st.text())
def test_no_text_is_too_odd_and_words_are_letters_and_digits_in_lower_case(text: str) -> None:
    for word in user_words(text):
        assert all(unicodedata.category(character)[0] in "LNM" for character in word)
        assert word == word.lower()


@given(st.text(st.characters(max_codepoint=127)))
def test_text_of_ascii_is_cut_as_other_text_is(text: str) -> None:
    assert user_words(text) == {word for piece in text.split() for word in user_words(f"{piece}\u2019") if word}


def test_only_the_beginning_of_a_long_part_is_read() -> None:
    assert user_words("early " + "x " * 20_000 + "late") == {"early", "x"}


def test_the_score_is_the_weights_over_the_root_of_how_many_words_there_are() -> None:
    model = Model({"user": {"refund": 2.0, "please": 1.0}, "assistant": {"refund": -5.0}}, bias=0.25, threshold=0)
    assert score(model, words_of(texts("Refund, please! please", "what"))) == pytest.approx(0.25 + 3 / 3**0.5)
    assert score(model, words_of(texts("good day", "refund"))) == pytest.approx(0.25 - 5 / 3**0.5)
    assert score(model, words_of(texts("nothing known"))) == score(model, words_of(texts())) == 0.25


def test_a_tag_is_set_from_its_threshold_on() -> None:
    at, above = learned(1.5, refund=2.0), learned(1.51, refund=2.0)
    assert matching([above, at], texts("refund")) == (at,)
    assert matching([], texts("refund")) == ()


def test_logs_get_the_learned_tags_in_force_after_the_rules() -> None:
    log = LogRecord(log_id="one", ts_ms=1, messages=(Message(role="user", content="my refund"),))
    both = [learned(refund=2.0, version=3), learned(5.0, name="topic:other", refund=2.0)]
    assert tag(mask(log), Rules([], learned=both)).tags == (Tag("topic:refund", "learned@3"),)
    assert tag(mask(log), Rules([])).tags == ()

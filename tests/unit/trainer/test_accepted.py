"""An answer is right by the fact that it says, in whatever sentence, and not by the words round it."""

from typing import Any

import pytest

from tunemill.trainer.accepted import accepted_answers, is_right
from tunemill.trainer.general_rows import general_rows

PACKAGED = [row for row in general_rows("retention", "packaged") if row["accepted_answers"]]


def asked_and_expected(row: dict[str, Any]) -> tuple[str, str]:
    question, answer = row["messages"]
    return question["content"], answer["content"]


def packaged(beginning: str) -> tuple[str, Any]:
    """A packaged question with its accepted answers."""
    (row,) = [row for row in PACKAGED if asked_and_expected(row)[0].startswith(beginning)]
    return asked_and_expected(row)[0], row["accepted_answers"]


@pytest.mark.parametrize(
    ("beginning", "right", "wrong"),
    [
        ("What is the capital of Canada", ["Ottawa, Ontario", "OTTAWA"], ["The capital of Canada is Toronto."]),
        ("What is 17 plus 26", ["**43**", "It's forty-three!", "43.0"], ["143", "-", "0.43", "43.5", "1,043", "17 + 26"]),
        ("How many sides", ["Six.", "6 sides"], ["Sixty-six sides.", "twenty six", "16"]),
        ("How many bytes", ["1,024", "2^10 bytes"], ["A kibibyte is 10,240 bytes", "1.024"]),
        ("Who wrote the play Hamlet", ["Shakespeare's", "The Bard, William Shakespeare"], ["Hamlet wrote the play."]),
        ("What is the chemical symbol of gold", ["It is Au, from Latin aurum."], ["Gold is Ag", "aurum"]),
        ("How do you say \"yes\" in Italian", ["si\u0300", "Sì."], ["no"]),
        ("Correct the sentence", ["She doesn’t like coffee", "She does not like the coffee."], ["She don't like coffee."]),
        ("Put these words", ["1. Apple\n2. Mango\n3. Pear", "apple,mango,pear"], ["pear, apple, mango"]),
        ("Name three primary colours", ["Blue, red and yellow"], ["red and blue", "red, green, blue"]),
        ("Is a whale", ["A mammal.", "It is the mammal we know"], ["A fish or a mammal?", "A whale is a fish."]),
        ("What is 64 divided by 8", ["8", "64 / 8 = 8", "The answer is 8."], ["64 / 8 = 7", "64 divided by 8 is 9"]),
        ("Is 29 a prime", ["Yes."], ["No.", "To see whether 29 is a prime number, divide it.", "Yesterday"]),
        ("Which is heavier", ["They weigh the same."], ["A kilogram of iron is heavier."]),
    ],
)  # fmt: skip
def test_a_fact_is_found_in_any_sentence_and_not_by_chance(beginning: str, right: list[str], wrong: list[str]) -> None:
    question, accepted = packaged(beginning)

    assert [said for said in right if not is_right(said, accepted, question=question)] == []
    assert [said for said in wrong if is_right(said, accepted, question=question)] == []


@pytest.mark.parametrize("row", PACKAGED, ids=lambda row: asked_and_expected(row)[0])
def test_every_packaged_key_takes_the_expected_answer_and_not_the_question(row: dict[str, Any]) -> None:
    question, expected = asked_and_expected(row)

    def right(answer: str) -> bool:
        return is_right(answer, row["accepted_answers"], question=question)

    assert right(expected)
    assert not right(question)
    assert not right('{"intent": "account", "ref": "A123", "prio": "high"}')
    assert not right("I'm sorry, I cannot help you with that.")
    assert not right("")


def test_the_packaged_questions_that_are_open_are_those_of_writing() -> None:
    rows = general_rows("retention", "packaged")

    assert {row["topic"] for row in rows if not row["accepted_answers"]} == {"writing"}
    assert len(PACKAGED) == 108


def test_of_each_fact_that_is_needed_one_wording_is_enough() -> None:
    light = accepted_answers([["red"], ["amber", "yellow"], ["green"]])

    assert is_right("Green, amber, red.", light, question="Which colours?")
    assert not is_right("Red and green.", light, question="Which colours?")


def test_an_article_that_ends_a_fact_is_a_part_of_it() -> None:
    vitamin = accepted_answers(["vitamin A"])

    assert is_right("It is vitamin A, they say", vitamin, question="Which one?")
    assert not is_right("vitamin D", vitamin, question="Which one?")


def test_thousands_may_be_set_apart() -> None:
    assert is_right("It has 1,024 of them.", accepted_answers(["1024"]), question="How many?")
    assert is_right("1024", accepted_answers(["1,024"]), question="How many?")
    assert not is_right("1,0245 or 10,24", accepted_answers(["1024"]), question="How many?")


def test_digits_without_end_are_read_in_one_pass() -> None:
    endless = "7" * 300_000  # what a model that repeats itself may write: minutes, were each digit a beginning

    assert not is_right(endless, accepted_answers(["7"]), question="How many?")
    assert is_right(f"{endless} 7.50 8", accepted_answers(["8"]), question="How many?")


def test_a_fact_may_be_of_any_script() -> None:
    assert is_right("答えは東京です。", accepted_answers(["東京"]), question="首都は？")
    assert is_right("Это МОСКВА!", accepted_answers(["Москва"]), question="Столица?")
    assert not is_right("Московский", accepted_answers(["Москва"]), question="Столица?")


@pytest.mark.parametrize("written", ["Paris", {"a": 1}, [1], [""], ["?!"], [[]], [["red"], "green"], [["red"], [None]]])
def test_what_is_no_list_of_texts_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="accepted_answers"):
        accepted_answers(written)

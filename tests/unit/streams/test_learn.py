"""Learning a tag from labels, and saying honestly how good it is."""

import random
from itertools import pairwise
from statistics import mean

import msgspec
import pytest

from tunemill.schemas.learned import Lesson, NotLearned
from tunemill.schemas.records import LogRecord, Message
from tunemill.streams.learn import choose_threshold, learn, share
from tunemill.streams.learned import score, words_of
from tunemill.streams.text import texts_of

COMMON = [
    "the",
    "a",
    "my",
    "is",
    "was",
    "it",
    "please",
    "to",
    "for",
    "on",
    "we",
    "you",
    "have",
    "order",
    "when",
    "how",
    "can",
]
REFUNDS = ["refund", "money", "back", "charged", "twice", "cancel", "return", "broken", "payment"]
OTHERS = ["address", "invoice", "login", "delivery", "colour", "size", "sale", "change", "opening"]


def a_log(number: int, text: str, **fields: object) -> LogRecord:
    return LogRecord(log_id=f"log-{number}", ts_ms=1, messages=(Message(role="user", content=text),), **fields)


def about(label: bool, chance: random.Random, *, clear: int = 2) -> str:
    """A question of common words, and of some that are mostly, but not only, used in questions of its kind."""
    mine = [chance.choice(REFUNDS if label is (chance.random() < 0.85) else OTHERS) for _ in range(clear)]
    words = [*mine, *chance.sample(COMMON, 8)]
    chance.shuffle(words)
    return " ".join(words)


def labelled(count: int, *, seed: int = 1, share_of_yes: float = 0.4, clear: int = 2) -> list[tuple[LogRecord, bool]]:
    chance = random.Random(seed)
    labels = [number < count * share_of_yes for number in range(count)]
    return [
        (a_log(number, f"{about(label, chance, clear=clear)} x{number}"), label) for number, label in enumerate(labels)
    ]


def learned(examples: list[tuple[LogRecord, bool]], precision: float = 0.9) -> Lesson:
    lesson = learn(examples, precision=precision)
    assert isinstance(lesson, Lesson)
    return lesson


def has_tag(lesson: Lesson, log: LogRecord) -> bool:
    return score(lesson.model, words_of(texts_of(log))) >= lesson.model.threshold


def test_what_is_measured_on_held_out_labels_holds_for_logs_that_nobody_labelled() -> None:
    fresh = labelled(1_000, seed=99)
    promised, kept = [], []
    for seed in range(8):
        lesson = learned(labelled(200, seed=seed))
        found = lesson.report.held_out
        assert found.precision is not None
        assert (found.tp + found.fn, found.fp + found.tn) == (lesson.report.yes, lesson.report.no) == (80, 120)
        tagged = [label for log, label in fresh if has_tag(lesson, log)]
        promised.append((found.precision.share, found.recall.share))
        kept.append((sum(tagged) / len(tagged), sum(tagged) / 400))
    for figure, name in enumerate(("precision", "recall")):
        assert mean(one[figure] for one in promised) == pytest.approx(mean(one[figure] for one in kept), abs=0.06), name


def test_the_report_names_the_words_that_it_looks_at() -> None:
    report = learned(labelled(300)).report
    assert {one.word for one in report.words_for[:5]} <= set(REFUNDS)
    assert {one.word for one in report.words_against[:5]} <= set(OTHERS)
    assert all(one.part == "user" and one.weight > 0 for one in report.words_for)


def test_labels_at_random_are_seen_to_teach_nothing() -> None:
    """Every log has words of its own to learn by heart; held out, it helps no model."""
    chance = random.Random(5)
    noise = [(a_log(number, " ".join(chance.sample(COMMON, 9))), number % 2 == 0) for number in range(200)]
    lesson = learned(noise)
    assert lesson.report.held_out.precision is None or lesson.report.held_out.precision.low < 0.6


def test_wrong_labels_cost_precision_and_nothing_breaks() -> None:
    right = labelled(200, clear=4)
    wrong = [(log, not label if number % 5 == 0 else label) for number, (log, label) in enumerate(right)]
    clean, noisy = learned(right, 0.7).report.held_out, learned(wrong, 0.7).report.held_out
    assert clean.tp + clean.tn > noisy.tp + noisy.tn > 120


def test_the_same_labels_in_any_order_teach_the_same() -> None:
    examples = labelled(120)
    other_order = examples[:]
    random.Random(3).shuffle(other_order)
    assert learned(examples) == learned(other_order)


def test_turns_of_one_conversation_are_not_held_out_from_one_another() -> None:
    """The turns of a conversation share words by which a model knows it again, and which tell nothing of any other."""
    chance = random.Random(7)
    plots = [" ".join(chance.sample([f"plot{word}" for word in range(60)], 6)) for _ in range(20)]
    turns = [
        (a_log(place * 10 + turn, f"{plots[place]} turn{turn}", session_id=f"talk-{place}"), place % 2 == 0)
        for place in range(20)
        for turn in range(10)
    ]
    grouped = learned(turns).report
    apart = learned([(msgspec.structs.replace(log, session_id=None), label) for log, label in turns]).report
    assert grouped.conversations == 20
    assert apart.held_out.tp + apart.held_out.tn == 200  # each turn is known by the others of its conversation
    assert grouped.held_out.tp + grouped.held_out.tn < 140


def test_turns_without_a_session_are_known_by_what_they_repeat() -> None:
    """A chat whose every call repeats its earlier turns is one conversation, session or not."""
    chats = [
        (f"{text} z{place}", label) for place, (log, label) in enumerate(labelled(40)) for text in (texts_of(log).user,)
    ]
    examples = [
        (
            LogRecord(
                log_id=f"log-{place}-{turns}",
                ts_ms=1,
                messages=tuple(Message(role="user", content=said) for said in [text, "go on", "and then"][:turns]),
            ),
            label,
        )
        for place, (text, label) in enumerate(chats)
        for turns in (1, 2, 3)
    ]
    examples.append((a_log(1, chats[0][0] + "more words of another question"), True))
    assert learned(examples).report.conversations == 41


def test_many_logs_of_one_conversation_make_no_interval_narrower() -> None:
    """Ten copies of each log are no more to go by than one."""
    once = labelled(100)
    tenfold = [
        (msgspec.structs.replace(log, log_id=f"{log.log_id}-{copy}", session_id=log.log_id), label)
        for log, label in once
        for copy in range(10)
    ]
    few, many = learned(once).report.held_out, learned(tenfold).report.held_out
    assert (many.recall.of, few.recall.of) == (400, 40)
    for one, other in ((few.recall, many.recall), (few.false_alarms, many.false_alarms)):
        assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.3)


def test_what_is_promised_of_other_logs_is_less_than_what_was_measured_on_these() -> None:
    found = learned(labelled(200)).report.held_out
    plain = share(found.tp, found.tp + found.fn)
    assert found.recall.share == plain.share
    assert found.recall.low < plain.low and found.recall.high > plain.high


def test_what_one_conversation_alone_has_and_what_may_be_a_number_of_somebody_is_in_no_model() -> None:
    examples = [
        (a_log(number, f"{text} tel5551234 17", session_id=f"talk-{number % 40}"), label)
        for number, (log, label) in enumerate(labelled(80))
        for text in (texts_of(log).user,)
    ]
    words = set(learned(examples).model.weights["user"])
    assert "17" in words
    assert "tel5551234" not in words
    assert not any(word.startswith("x") for word in words)


def test_a_rare_word_says_more_than_a_frequent_one() -> None:
    """By how often they are there alone, the frequent word would weigh four times as much."""
    examples = [(a_log(number, f"frequent rare{number % 4} n{number}"), True) for number in range(20)]
    examples += [(a_log(number, f"n{number} nothing"), False) for number in range(20, 40)]
    weights = learned(examples).model.weights["user"]
    assert weights["rare0"] < weights["frequent"] < 2 * weights["rare0"]


@pytest.mark.parametrize(
    ("yes", "no", "talks", "reason"),
    [
        (9, 50, 99, "9 logs are labelled as having the tag; at least 10 are needed"),
        (50, 0, 99, "0 logs are labelled as not having it; at least 10 are needed"),
        (0, 0, 99, "0 logs are labelled as having the tag; at least 10 are needed"),
        (20, 20, 4, "the 20 logs labelled as having the tag are of 4 conversations; at least 5 are needed"),
    ],
)
def test_too_few_labels_are_refused(yes: int, no: int, talks: int, reason: str) -> None:
    examples = [
        (a_log(number, "the same words", session_id=f"talk-{number % talks}"), number < yes)
        for number in range(yes + no)
    ]
    assert learn(examples, precision=0.9) == NotLearned(reason)


@pytest.mark.parametrize("mixed", [0, 1, 5])
def test_a_few_long_conversations_leave_no_part_without_either_label(mixed: int) -> None:
    """Four conversations have nearly all logs of one label, and the other label is in short ones; some have both."""
    talks = [(f"long-{place}", [True] * 30) for place in range(4)] + [("short", [True])]
    talks += [(f"other-{place}", [False]) for place in range(12)] + [
        (f"both-{place}", [True, False]) for place in range(mixed)
    ]
    for switched in (False, True):
        examples = [
            (a_log(100 * place + turn, "the refund" if label else "my address", session_id=talk), label is not switched)
            for place, (talk, labels) in enumerate(talks)
            for turn, label in enumerate(labels)
        ]
        found = learned(examples).report.held_out
        assert (found.tp + found.fn, found.fp + found.tn) == (learned(examples).report.yes, learned(examples).report.no)
        assert found.tp + found.tn == len(examples)


def test_logs_without_common_words_teach_nothing() -> None:
    examples = [(a_log(number, f"word{chr(97 + number)}"), number < 10) for number in range(20)]
    assert learn(examples, precision=0.9) == NotLearned("no word is in two of the labelled conversations")


def test_the_threshold_is_the_lowest_that_is_precise_enough_else_the_best_on_both() -> None:
    scored = [(4.0, True), (3.0, True), (2.0, False), (1.0, True), (0.0, False), (-1.0, False)]
    assert choose_threshold(scored, 0.9) == (2.5, "precision")
    assert choose_threshold(scored, 0.75) == (0.5, "precision")
    assert choose_threshold([(2.0, False), (1.0, True), (0.0, False)], 0.9) == (0.5, "f1")


def test_equal_scores_are_on_one_side_of_a_threshold() -> None:
    threshold, by = choose_threshold([(1.0, True), (1.0, False), (1.0, True), (0.0, False)], 0.9)
    assert (threshold, by) == (0.5, "f1")


def test_the_curve_falls_from_precise_to_complete() -> None:
    curve = learned(labelled(300)).report.curve
    assert 5 < len(curve) <= 20
    assert all(one.threshold > other.threshold and one.recall < other.recall for one, other in pairwise(curve))


def test_a_share_of_few_says_how_little_it_says() -> None:
    few, many = share(9, 10), share(900, 1000)
    assert (few.low, few.high) == (0.5958, 0.9821)  # as textbooks have it
    assert few.low < many.low < 0.9 < many.high < few.high
    assert (share(0, 5).low, share(5, 5).high) == (0.0, 1.0)

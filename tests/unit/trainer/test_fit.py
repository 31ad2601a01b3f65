"""Rows that are longer than the model may read: each token of an answer is trained on once, or counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunemill.trainer.errors import InvalidRun
from tunemill.trainer.fit import fit, trained_tokens
from tunemill.trainer.render import IGNORE, Example


def row(*lengths: int) -> Example:
    """Between and after answers lies what is not trained on: (before, answer, before, answer, ..., after)."""
    spans, place = [], 0
    for i, length in enumerate(lengths):
        if i % 2 and length:
            spans.append((place, place + length))
        place += length
    ids = tuple(range(1000, 1000 + place))  # every token is told from every other
    inside = {i for a, b in spans for i in range(a, b)}
    labels = tuple(token if i in inside else IGNORE for i, token in enumerate(ids))
    return Example(7, ids, labels, tuple(spans))


rows = st.lists(st.integers(0, 30), min_size=2, max_size=24).map(lambda lengths: row(1, *lengths))


@given(rows, st.integers(8, 60))
def test_split_trains_each_answer_once_or_counts_it(example: Example, limit: int) -> None:
    fitted = fit([example], limit, "split")

    labels = [label for piece in fitted.examples for label in piece.labels[1:] if label != IGNORE]
    lost = [b - a for a, b in example.spans if b > limit and b - a >= limit] if len(example.ids) > limit else []
    assert len(labels) == len(set(labels)), "none is trained on twice"
    assert len(labels) == trained_tokens(example) - sum(lost)
    assert fitted.dropped_answers == len(lost)
    for piece in fitted.examples:
        first = piece.ids[0] - 1000
        assert len(piece.ids) <= limit
        assert piece.ids == example.ids[first : first + len(piece.ids)], "a piece is a stretch of its row"
        if len(example.ids) > limit:
            assert piece.spans[-1][1] == len(piece.ids), "it ends with an answer"
        assert [label for a, b in piece.spans for label in piece.labels[a:b]] == [
            token for a, b in piece.spans for token in piece.ids[a:b]
        ]


@given(rows, st.integers(8, 60))
def test_split_shows_an_answer_half_the_limit_of_what_precedes_it_where_there_is_room(
    example: Example, limit: int
) -> None:
    for piece in fit([example], limit, "split").examples:
        start = piece.ids[0] - 1000
        for a, b in piece.spans:
            assert start == 0 or a >= min(limit // 2, limit - (b - a))


def test_split_counts_its_rows_and_leaves_short_ones_as_they_are() -> None:
    short, long = row(3, 4), row(5, 10, 5, 10, 5, 10)

    fitted = fit([short, long], 25, "split")

    assert fitted.examples[0] is short
    assert (fitted.split, fitted.dropped_answers) == (1, 0)
    assert [(len(piece.ids), piece.spans) for piece in fitted.examples[1:]] == [
        (15, ((5, 15),)),
        (25, ((15, 25),)),
        (25, ((15, 25),)),
    ]


def test_an_answer_that_alone_is_too_long_is_dropped_and_counted() -> None:
    fitted = fit([row(4, 30, 4, 5)], 20, "split")

    assert (fitted.split, fitted.dropped_answers, len(fitted.examples)) == (1, 1, 1)
    assert fitted.examples[0].spans == ((15, 20),)


def test_every_other_policy_counts_too() -> None:
    short, long = row(3, 4), row(10, 10, 10, 10)

    assert fit([short, long], 20, "drop").counts()["dropped_overlong"] == 1
    cut = fit([short, long], 20, "truncate_left")
    assert (cut.truncated, cut.truncated_tokens) == (1, 20)
    assert cut.examples[1].ids == long.ids[20:]
    nothing_left = fit([row(4, 4, 40)], 20, "truncate_left")
    assert (nothing_left.examples, nothing_left.dropped, nothing_left.truncated) == ([], 1, 0)
    assert nothing_left.truncated_tokens == 0, "what is dropped is not cut"
    with pytest.raises(InvalidRun, match="1 rows are longer than 20 tokens, the longest has 40"):
        fit([short, long], 20, "error")

"""What a query's words are marked in."""

from itertools import chain

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tunemill.indexer import highlight as highlighting
from tunemill.indexer.analysis import Token, folded, is_cjk_run, runs, stems_shorter_than, term, terms, tokens
from tunemill.indexer.ast import And, Not, Or, Query, WordPrefix, Words
from tunemill.indexer.highlight import AROUND, highlight, highlight_each

WORDS = (
    "dying die skies sky hoping hope the The other of don't it\u2019s résumé resume naïve ﬁne Straße œuvre Ɓa foo.bar 3.14 "
    "a_b _x_ x²y İstanbul ﬀ 数学 数学问题 привет ﾀﾜｰ running runs"
)
ENDINGS = (  # that the stemmer takes off or changes
    " s es ed ing ings ly edly ies ied eed y 's ational tional ency ancy ably ently izer ization ation ator alism ality ally "
    "fulness ously ousness iveness ivity bility logy fully lessly alize icate icity ical ful ness ative al ance er ic able "
    "ment ism ate ous ive ion"
)
word = st.sampled_from(WORDS.split())
ending = st.sampled_from(ENDINGS.split(" "))
texts = st.lists(
    st.builds(lambda text, gap: text + gap, word, st.sampled_from([" ", " ", "\n", ".", "'", "_", ":", ""])), max_size=8
).map(lambda pieces: "".join(pieces)[:AROUND])
phrases = st.lists(word, min_size=1, max_size=3).map(" ".join).map(Words)
prefixes = st.builds(lambda text, length: WordPrefix(text[:length]), word, st.integers(1, 5))


def test_highlights_show_some_context_and_nothing_negated() -> None:
    text = "left " * 100 + "the long division here" + " right" * 100 + " short"
    query = And((Words("long division"), WordPrefix("divis"), Not(Words("short"))))
    (fragment,) = highlight(query, {"prompt": (text,)})
    assert [piece for piece, matched in fragment if matched] == ["long", "division"]
    whole = "".join(piece for piece, _ in fragment)
    assert whole in text and len(whole) < 2 * AROUND + 30


@given(texts, st.lists(phrases | prefixes, min_size=2, max_size=3).map(tuple).map(Or))
@example("he was dying", Or((Words("die"), Words("x"))))
@example("foo.bar\nthe", Or((Words("bar"), Words("the"))))
@example("the é \u2014", Or((Words("e"), Words("x"))))
def test_all_that_is_found_in_a_text_is_marked(text: str, query: Or) -> None:
    stems = [term(token.text) for token in tokens(text)]
    found = [list(tokens(text))[place] for item in query.items for place in places(item, stems)]
    pieces = [piece for fragment in highlight(query, {"prompt": (text,)}) for piece in fragment]
    marked = chain.from_iterable([matched] * len(piece) for piece, matched in pieces)
    assert "".join(piece for piece, _ in pieces) == (text if found else "")
    assert {at for at, matched in enumerate(marked) if matched} == {
        at for token in found for at in range(token.start, token.end)
    }


def places(item: Query, stems: list[str]) -> list[int]:
    """Those of the stems that this finds."""
    assert isinstance(item, Words | WordPrefix)
    if isinstance(item, WordPrefix) and not is_cjk_run(item.text):
        prefix = folded(item.text)
        return [at for at, stem in enumerate(stems) if stem.startswith(prefix) or stem in stems_shorter_than(prefix)]
    phrase = terms(item.text)
    starts = [at for at in range(len(stems)) if phrase and stems[at : at + len(phrase)] == phrase]
    return [start + offset for start in starts for offset in range(len(phrase))]


@given(st.text("abdegilnosty", min_size=1, max_size=5), ending, ending)
@example("d", "ying", "")
@example("t", "ying", "s")
def test_every_word_begins_as_its_term_says(root: str, ending: str, last: str) -> None:
    whole = root + ending + last
    assert list(runs(f"(7 {whole})", (term(whole),), 1)) == [[Token(whole, 3, 3 + len(whole))]]


def test_a_word_that_is_cut_out_of_a_longer_one_is_marked() -> None:
    (fragment,) = highlight(Words("the"), {"prompt": ("b" * 255 + "the",)})
    assert fragment[-1] == ("the", True)


def test_only_what_stands_around_the_words_is_cut_and_nothing_twice() -> None:
    text = "many words, " * 1000 + "my refunds are,refund late\nin may"

    def cut(text: str, length: int) -> list[list[str]]:
        return [[token.text for token in run] for run in runs(text, ("refund",), length)]

    assert cut(text, 1) == [["refunds"], ["are", "refund"]]
    assert cut(text, 2) == [["refunds", "are"], ["refund", "late"]]
    assert cut("refund,refund now", 1) == [["refund"], ["refund"]]
    assert cut("refund refund now", 2) == [["refund", "refund", "now"]]


def test_phrases_that_overlap_are_marked_once() -> None:
    sought = highlighting._sought(Words("a a a"), "prompt")
    assert list(highlighting._matches(sought, "a a a a")) == [(0, 1), (2, 3), (4, 5), (6, 7)]


def test_logs_that_there_is_no_time_left_for_are_said_not_to_be_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    logs = [{"prompt": ("a refund",)}, {"prompt": ("nothing",)}, {"prompt": ("a refund",)}]
    assert [bool(found) for found in highlight_each(Words("refund"), logs)] == [True, False, True]
    clock = iter((0.0, 0.5, highlighting.MARKED_WITHIN_S + 0.1, highlighting.MARKED_WITHIN_S + 0.1))
    monkeypatch.setattr(highlighting.time, "monotonic", lambda: next(clock))
    first, *others = highlight_each(Words("refund"), logs)
    assert first
    assert others == [None, None]


def test_a_query_is_looked_up_once_for_all_texts_of_a_part() -> None:
    """One of hundreds of words takes longer to look up than a message of a few words to mark."""

    class Counted(Words):
        looked_up = 0

        def __hash__(self) -> int:
            Counted.looked_up += 1
            return hash(self.text)

    highlight(Counted("needle"), {"prompt": ("hay",) * 100, "answer": ("hay",) * 100})
    assert Counted.looked_up < 10

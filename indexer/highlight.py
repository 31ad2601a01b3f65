"""Where a query's words stand in a log: pieces of plain text, each marked as matching or not. The same for every engine."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from tunemill.indexer.analysis import folded, is_cjk_run, runs, stems_shorter_than, term, terms
from tunemill.indexer.ast import And, Or, Query, WordPrefix, Words
from tunemill.indexer.search import Fragment

MAX_FRAGMENTS = 3
AROUND = 60  # characters of context on either side
SCANNED_CHARACTERS = 100_000  # of one text; what stands behind is found but not highlighted
MARKED_WITHIN_S = 1.0  # all logs of a page

Span = tuple[int, int]


class _Sought(NamedTuple):
    """What a query's words are in texts of one part, as `term` gives it."""

    words: frozenset[str]
    prefixes: tuple[str, ...]  # of words
    phrases: Mapping[str, Sequence[Sequence[str]]]  # of several words, by the first
    beginnings: tuple[str, ...]  # all words and prefixes, and the first words of phrases
    longest: int  # phrase, in words


def highlight_each(query: Query, logs: Iterable[Mapping[str, Sequence[str]]]) -> Iterator[tuple[Fragment, ...] | None]:
    """The fragments of each log, whose texts come by part; None once `MARKED_WITHIN_S` are over.

    Hundreds of words in long texts take seconds to mark, and whoever gave up waiting would leave the thread at work.
    """
    until_s = time.monotonic() + MARKED_WITHIN_S
    for texts in logs:
        yield highlight(query, texts, until_s=until_s)


def highlight(
    query: Query, texts: Mapping[str, Sequence[str]], *, until_s: float = math.inf
) -> tuple[Fragment, ...] | None:
    """At most `MAX_FRAGMENTS` fragments of the texts, which come by part, in which words of the query occur.

    Args:
        until_s: on the monotonic clock; when it is over before all texts are looked at, there is no answer.
    """
    fragments: list[Fragment] = []
    for sought, text in _each(query, texts):
        if time.monotonic() > until_s:
            return None
        for group in _near(_merged(_matches(sought, text[:SCANNED_CHARACTERS]))):
            fragments.append(_fragment(text, group))
            if len(fragments) == MAX_FRAGMENTS:
                return tuple(fragments)
    return tuple(fragments)


def _each(query: Query, texts: Mapping[str, Sequence[str]]) -> Iterator[tuple[_Sought, str]]:
    for part, of_part in texts.items():
        sought = _sought(
            query, part
        )  # once for all of them: to look a query of many words up takes longer than a short text
        for text in of_part:
            yield sought, text


def wanted(query: Query) -> Iterator[Words | WordPrefix]:
    """The words that must or may occur; none of those behind a NOT."""
    match query:
        case Words() | WordPrefix():
            yield query
        case And(items) | Or(items):
            for item in items:
                yield from wanted(item)
        case _:
            return


@lru_cache(maxsize=256)
def _sought(query: Query, part: str) -> _Sought:
    words: set[str] = set()
    prefixes: set[str] = set()
    phrases: dict[str, list[list[str]]] = {}
    for item in wanted(query):
        if item.part not in (None, part):
            continue
        if isinstance(item, WordPrefix) and not is_cjk_run(item.text):
            prefixes.add(prefix := folded(item.text))
            words |= stems_shorter_than(prefix)
        elif len(found := terms(item.text)) > 1:
            phrases.setdefault(found[0], []).append(found)
        else:
            words.update(found)
    longest = max((len(phrase) for some in phrases.values() for phrase in some), default=1)
    return _Sought(frozenset(words), tuple(prefixes), phrases, tuple(words.union(prefixes, phrases)), longest)


def _matches(sought: _Sought, text: str) -> Iterator[Span]:
    """Each word that is found, in order."""
    for run in runs(text, sought.beginnings, sought.longest) if sought.beginnings else ():
        stems = [term(token.text) for token in run]
        end = 0  # of what was found so far
        for place, stem in enumerate(stems):
            length = 1 if stem in sought.words or stem.startswith(sought.prefixes) else 0
            for phrase in sought.phrases.get(stem, ()):
                if stems[place : place + len(phrase)] == phrase:
                    length = max(length, len(phrase))
            if place + length > end:
                for token in run[max(place, end) : place + length]:
                    yield token.start, token.end
                end = place + length


def _merged(spans: Iterable[Span]) -> Iterator[Span]:
    """The spans, which come in order, those that overlap or touch as one."""
    start = end = -1
    for next_start, next_end in spans:
        if next_start > end:
            if end > start:
                yield start, end
            start, end = next_start, next_end
        end = max(end, next_end)
    if end > start:
        yield start, end


def _near(spans: Iterable[Span]) -> Iterator[list[Span]]:
    """Spans that fit into one fragment together."""
    group: list[Span] = []
    for span in spans:
        if group and span[0] - group[-1][1] > AROUND:
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def _fragment(text: str, spans: list[Span]) -> Fragment:
    start, end = _left_edge(text, spans[0][0]), _right_edge(text, spans[-1][1])
    pieces: list[tuple[str, bool]] = []
    for span_start, span_end in spans:
        pieces += [(text[start:span_start], False), (text[span_start:span_end], True)]
        start = span_end
    pieces.append((text[start:end], False))
    return tuple(piece for piece in pieces if piece[0])


def _left_edge(text: str, at: int) -> int:
    """The beginning of a word some way before, or of the text."""
    edge = at - AROUND
    if edge <= 0:
        return 0
    space = text.find(" ", edge, at)
    return edge if space == -1 else space + 1


def _right_edge(text: str, at: int) -> int:
    edge = at + AROUND
    if edge >= len(text):
        return len(text)
    space = text.rfind(" ", at, edge)
    return edge if space == -1 else space

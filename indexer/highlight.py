"""Where a query's words stand in a log: pieces of plain text, each marked as matching or not. The same for every engine."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tunemill.indexer.analysis import Token, folded, is_cjk_run, stems_shorter_than, term, terms, tokens
from tunemill.indexer.ast import And, Or, Query, WordPrefix, Words
from tunemill.indexer.search import Fragment

MAX_FRAGMENTS = 3
AROUND = 60  # characters of context on either side
SCANNED_CHARACTERS = 100_000  # of one text; what stands behind is found but not highlighted

Span = tuple[int, int]


def highlight(query: Query, texts: Mapping[str, Sequence[str]]) -> tuple[Fragment, ...]:
    """At most `MAX_FRAGMENTS` fragments of the texts, which come by part, in which words of the query occur."""
    wanted = list(_wanted(query))
    fragments: list[Fragment] = []
    for part, text in _each(texts):
        here = [words for words in wanted if words.part in (None, part)]
        spans = list(_merged(_matches(here, list(tokens(text[:SCANNED_CHARACTERS]))))) if here else []
        for group in _near(spans):
            fragments.append(_fragment(text, group))
            if len(fragments) == MAX_FRAGMENTS:
                return tuple(fragments)
    return tuple(fragments)


def _each(texts: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    for part, of_part in texts.items():
        for text in of_part:
            yield part, text


def _wanted(query: Query) -> Iterator[Words | WordPrefix]:
    """The words that must or may occur; none of those behind a NOT."""
    match query:
        case Words() | WordPrefix():
            yield query
        case And(items) | Or(items):
            for item in items:
                yield from _wanted(item)
        case _:
            return


def _matches(wanted: list[Words | WordPrefix], found: list[Token]) -> Iterator[Span]:
    stems = [term(token.text) for token in found]
    for query in wanted:
        if isinstance(query, WordPrefix) and not is_cjk_run(query.text):
            places = _prefix_places(folded(query.text), stems)
        else:
            places = _phrase_places(terms(query.text), stems)
        for place in places:
            yield found[place].start, found[place].end


def _prefix_places(prefix: str, stems: list[str]) -> Iterator[int]:
    shorter = stems_shorter_than(prefix)
    for place, stem in enumerate(stems):
        if stem.startswith(prefix) or stem in shorter:
            yield place


def _phrase_places(phrase: list[str], stems: list[str]) -> Iterator[int]:
    """Of each word in each phrase."""
    place = -1
    for _ in range(stems.count(phrase[0]) if phrase else 0):
        place = stems.index(phrase[0], place + 1)
        if stems[place : place + len(phrase)] == phrase:
            yield from range(place, place + len(phrase))


def _merged(spans: Iterable[Span]) -> Iterator[Span]:
    """The spans in order, those that overlap or touch as one."""
    start = end = -1
    for next_start, next_end in sorted(spans):
        if next_start > end:
            if end > start:
                yield start, end
            start, end = next_start, next_end
        end = max(end, next_end)
    if end > start:
        yield start, end


def _near(spans: list[Span]) -> Iterator[list[Span]]:
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

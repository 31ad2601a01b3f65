"""Queries made from the grammar of the query language, with terms that occur in given documents, and some that do not. Seeded."""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from tunemill.indexer.analysis import is_cjk, is_one_word, tokens
from tunemill.indexer.dates import iso
from tunemill.indexer.document import Document
from tunemill.indexer.fields import HAS, KEYWORDS, NUMBERS, PARTS, WHOLE_NUMBERS
from tunemill.indexer.query_text import quoted

LONGEST_TEXT = 4000  # characters of a text that terms are drawn from
LONGEST_TERM = 300
_DEPTH = 3
_PIECE = re.compile(r"\S+")
_WORD = re.compile(r"\w+")
_PLAIN = re.compile(r"(?!-)[^\s()\"*:,]+")
_BEGINNING = re.compile(r'[^\s()"*:,]+')
_OPERATORS = {"AND", "OR", "NOT", "TO"}
_DAY_MS = 86_400_000


class MadeQueries:
    """Draws queries. What they ask for is in the documents more often than not."""

    def __init__(self, documents: Sequence[Document], *, seed: int) -> None:
        self._chance = random.Random(seed)
        self._documents = documents
        self._numbers: Mapping[str, Sequence[float]] = {
            name: [value for doc in documents if (value := getattr(doc, name)) is not None] for name in NUMBERS
        }
        self._leaves: Sequence[Callable[[], str]] = (
            *[self._words] * 8,
            *[self._listed_words, self._keyword, self._keyword, self._listed_keywords, self._metadata],
            *[self._number, self._number, self._time, self._has],
        )

    def __iter__(self) -> Iterator[str]:
        """Without end."""
        while True:
            yield self._query(self._chance.randrange(_DEPTH + 1))

    def _query(self, depth: int) -> str:
        if depth == 0:
            return self._chance.choice(self._leaves)()
        items = [self._query(self._chance.randrange(depth)) for _ in range(self._chance.choice((2, 2, 3)))]
        match self._chance.randrange(5):
            case 0:
                return f"{self._chance.choice(('-', 'NOT '))}({items[0]})"
            case 1 | 2:
                return self._chance.choice((" ", " AND ")).join(f"({item})" for item in items)
            case 3:
                return f"({items[0]}) -({items[1]})"
            case _:
                return " OR ".join(f"({item})" for item in items)

    def _words(self) -> str:
        part, term = self._term()
        return f"{part}:{term}" if self._chance.random() < 0.3 else term

    def _listed_words(self) -> str:
        return self._list(self._chance.choice(PARTS), [self._term()[1] for _ in range(self._chance.randrange(1, 4))])

    def _term(self) -> tuple[str, str]:
        """A word, some neighbouring ones, a piece of a text or the beginning of a word, and the part that it is from."""
        part, text = self._text()
        pieces = _PIECE.findall(text)
        if not pieces:
            return part, quoted("nothing at all")
        at = self._chance.randrange(len(pieces))
        piece = pieces[at]
        match self._chance.randrange(8):
            case 0 | 1 | 2:
                found = _PLAIN.fullmatch(piece) and piece not in _OPERATORS
                term = piece if found else quoted(piece)
            case 3:
                term = quoted(" ".join(pieces[at : at + self._chance.randrange(2, 5)]))
            case 4:
                term = quoted(" ".join(reversed(pieces[at : at + 2])))
            case 5:
                start = self._chance.randrange(len(text))
                term = quoted(text[start : start + self._chance.randrange(1, 14)])
            case 6:
                term = quoted(self._cjk(text) or piece)
            case _:
                term = f"{self._beginning(piece)}*"
        return part, term if len(term) <= LONGEST_TERM else quoted(term[1:100].replace('"', "").replace("\\", ""))

    def _beginning(self, piece: str) -> str:
        """The beginning of a word that stands there, or of letters and digits within it."""
        words = [token.text for token in tokens(piece)] if self._chance.random() < 0.5 else _WORD.findall(piece)
        word = self._chance.choice(words) if words else "any"
        start = word[: self._chance.randrange(1, min(len(word), 40) + 1)]
        return start if _BEGINNING.fullmatch(start) and (_WORD.fullmatch(start) or is_one_word(start)) else "any"

    def _cjk(self, text: str) -> str | None:
        """One to four Chinese, Japanese or Korean characters that stand there."""
        places = [at for at, character in enumerate(text) if is_cjk(character)]
        if not places:
            return None
        at = self._chance.choice(places)
        return text[at : at + self._chance.randrange(1, 5)]

    def _text(self) -> tuple[str, str]:
        """A text and the part that it is in."""
        document = self._chance.choice(self._documents)
        texts = [(part, text) for part in PARTS for text in getattr(document, part)]
        part, text = self._chance.choice(texts) if texts else ("prompt", "")
        start = self._chance.randrange(len(text)) if len(text) > LONGEST_TEXT else 0
        return part, text[start : start + LONGEST_TEXT]

    def _keyword(self) -> str:
        name, value = self._value()
        return f"{name}:{self._spelt(value)}"

    def _listed_keywords(self) -> str:
        name, value = self._value()
        values = [value, *(self._value(name)[1] for _ in range(self._chance.randrange(3)))]
        return self._list(name, [self._spelt(value) for value in values])

    def _value(self, name: str | None = None) -> tuple[str, str]:
        """A field of words and a value that some document has there."""
        name = name or self._chance.choice(KEYWORDS)
        found = getattr(self._chance.choice(self._documents), name)
        if isinstance(found, tuple):
            found = self._chance.choice(found) if found else None
        return name, "nobody" if found is None else found

    def _spelt(self, value: str) -> str:
        match self._chance.randrange(5):
            case 0 if value:
                return f"{quoted(value[: self._chance.randrange(1, min(len(value), 250) + 1)])}*"
            case 1 if _PLAIN.fullmatch(value) and value not in _OPERATORS:
                return value
            case 2 if self._chance.random() < 0.3:
                return "*"
            case _:
                return quoted(value)

    def _metadata(self) -> str:
        metadata = self._chance.choice(self._documents).metadata or {"env": "prod"}
        plain = [key for key in metadata if re.fullmatch(r"[A-Za-z_][\w.\-]*", key)] or ["env"]
        key = self._chance.choice(plain)
        return f"metadata.{key}:{self._spelt(metadata.get(key, 'prod'))}"

    def _number(self) -> str:
        name = self._chance.choice([name for name in NUMBERS if name != "ts"])
        low, high = sorted((self._occurring(name), self._occurring(name)))
        match self._chance.randrange(5):
            case 0:
                return f"{name}:{_spelt_number(low)}"
            case 1:
                return f"{name}:{self._chance.choice(('>', '>=', '<', '<='))}{_spelt_number(low)}"
            case 2 if name == "latency_ms":
                unit, size = self._chance.choice((("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)))
                return f"{name}:>{_spelt_number(abs(low) / size)}{unit}"
            case 3:
                return self._list(name, [_spelt_number(low), f">{_spelt_number(high)}"])
            case _:
                return f"{name}:{self._range(_spelt_number(low), _spelt_number(high))}"

    def _occurring(self, name: str) -> float:
        """A number that occurs, or one near it."""
        found = self._chance.choice(self._numbers[name] or [1.0])
        return found + self._chance.choice((0, 0, 0, -1, 0.5 if name in WHOLE_NUMBERS else 1e-9))

    def _time(self) -> str:
        low, high = sorted(int(self._chance.choice(self._numbers["ts"])) for _ in range(2))
        match self._chance.randrange(4):
            case 0:
                return f"ts:{iso(low)[: self._chance.choice((4, 7, 10, 16, 24))]}"
            case 1:
                return (
                    f"ts:{self._chance.choice(('>', '>=', '<', '<='))}{iso(low)[: self._chance.choice((4, 7, 10, 24))]}"
                )
            case 2:
                return f"ts:>now-{self._chance.randrange(800)}d"
            case _:
                return f"ts:{self._range(iso(low), iso(high + self._chance.choice((0, 1, _DAY_MS))))}"

    def _range(self, low: str, high: str) -> str:
        low, high = (bound if self._chance.random() < 0.9 else "*" for bound in (low, high))
        return f"{self._chance.choice('[{')}{low} TO {high}{self._chance.choice(']}')}"

    def _has(self) -> str:
        return f"has:{self._chance.choice((*HAS, *KEYWORDS, *NUMBERS))}"

    def _list(self, name: str, values: Sequence[str]) -> str:
        return f"{name}:({self._chance.choice((', ', ' OR ')).join(values)})"


def _spelt_number(number: float) -> str:
    return f"{number:.12f}".rstrip("0").rstrip(".") if number else "0"

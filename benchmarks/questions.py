"""What is asked of an index: six kinds of searches, with words of the logs that it holds, each time others."""

import random
import re
from collections.abc import Callable, Sequence

from tunemill.indexer.ast import And, Everything, Is, Not, Query, WordPrefix, Words
from tunemill.indexer.document import texts
from tunemill.indexer.search import SearchRequest
from tunemill.schemas.records import TaggedLog

LIMIT = 20

_WORD = re.compile(r"\w+")


def questions(logs: Sequence[TaggedLog], wanted: int, *, seed: int) -> dict[str, list[SearchRequest]]:
    """So many searches of each kind, with words as often as the logs have them."""
    draw = random.Random(seed)

    def words(least: int) -> tuple[TaggedLog, list[str]]:
        while True:
            tagged = draw.choice(logs)
            text = draw.choice([text for some in texts(tagged).values() for text in some] or [""])
            if len(found := _WORD.findall(text)) >= least:
                return tagged, found

    def one() -> Query:
        return Words(draw.choice(words(1)[1]))

    def two() -> Query:
        found = words(2)[1]
        return And((Words(draw.choice(found)), Words(draw.choice(found))))

    def phrase() -> Query:
        found = words(2)[1]
        return Words(" ".join(found[(at := draw.randrange(len(found) - 1)) : at + 2]))

    def with_field() -> Query:
        tagged, found = words(1)
        return And((Words(draw.choice(found)), Is("model", tagged.log.model or "")))

    def prefix() -> Query:
        return WordPrefix(draw.choice(words(1)[1])[:4])

    kinds: dict[str, Callable[[], Query]] = {
        "one word": one,
        "two words": two,
        "phrase": phrase,
        "word and field": with_field,
        "prefix": prefix,
    }
    asked = {kind: [SearchRequest(query(), limit=LIMIT) for _ in range(wanted)] for kind, query in kinds.items()}
    # Each time another tree that everything matches: else the facets would be counted once.
    everything = [Not(Is("id", f"nobody-{seed}-{number}")) for number in range(wanted)]
    return asked | {
        "everything, newest": [SearchRequest(query, limit=LIMIT, sort="newest") for query in everything],
        "the same again": [SearchRequest(Everything(), limit=LIMIT, sort="newest")] * wanted,
    }

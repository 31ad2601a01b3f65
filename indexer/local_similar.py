"""Logs that are like a text, from tantivy: those that share most of the words that are frequent in it and rare elsewhere.

As Lucene's MoreLikeThis does it: words weighed by tf * idf.
"""

from collections import Counter
from math import log
from typing import Any

from tantivy import Occur
from tantivy import Query as TantivyQuery

from tunemill.indexer.analysis import terms
from tunemill.indexer.bodies import Bodies
from tunemill.indexer.local_points import Point
from tunemill.indexer.search import SIMILAR_CHARACTERS, SIMILAR_PARTS, SIMILAR_SHARE, SIMILAR_WORDS, Hit


def similar(point: Point, reader: Bodies, text: str, limit: int) -> tuple[Hit, ...]:
    """The logs whose prompts and answers share most of the telling words, the most alike first."""
    words = _telling(point.searcher, text)
    if not words or limit == 0:
        return ()
    ways = [
        (Occur.Should, TantivyQuery.boolean_query([(Occur.Should, _has(point, part, word)) for part in SIMILAR_PARTS]))
        for word in words
    ]
    least = max(1, len(ways) * SIMILAR_SHARE // 100)
    query = TantivyQuery.boolean_query(ways, minimum_number_should_match=least)
    found = point.searcher.search(query, limit=limit, count=False).hits
    seqs = point.searcher.fast_field_values("seq", [address for _, address in found])
    bodies = reader.bodies(seqs)
    return tuple(Hit(bodies[seq], score, ()) for (score, _), seq in zip(found, seqs, strict=True) if seq in bodies)


def _telling(searcher: Any, text: str) -> list[str]:
    """The words of a text that say most about it, of those that the index knows."""
    weights: dict[str, float] = {}
    for word, times in Counter(terms(text[:SIMILAR_CHARACTERS])).items():
        logs = max(searcher.doc_freq(part, word) for part in SIMILAR_PARTS)
        if logs:
            weights[word] = times * (1 + log((searcher.num_docs + 1) / (logs + 1)))
    return sorted(weights, key=lambda word: (-weights[word], word))[:SIMILAR_WORDS]


def _has(point: Point, part: str, word: str) -> Any:
    return TantivyQuery.term_query(point.schema, part, word)

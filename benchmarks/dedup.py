"""Near-duplicates among many texts, from the texts to their clusters, against datasketch at the same threshold.

    python -m benchmarks.dedup --rows 20000 --json

Both see the same words, take pairs of neighbouring ones, and join texts whose own estimate of the similarity reaches the
threshold; one process, one thread, CPU time. datasketch is used as its manual says: `MinHash.generator`, `MinHashLSH.insert`
and `query`. A fifth of the texts are copies in which words were changed here and there. How many of the truly alike pairs each
finds, and how many of what it finds are, is told by the exact similarity of some texts with all others.
"""

import argparse
import multiprocessing
import random
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from datasketch import MinHash, MinHashLSH

from benchmarks.harness import ratio, report, take_turns
from benchmarks.processes import grown_bytes
from tunemill.curator_api.near import bands, clusters
from tunemill.schemas.sketching import sketches

VOCABULARY = 20_000  # words; the frequency of each is as in a language, the reciprocal of its rank
WORDS = 200  # a text: about 1.2 kB
SHARE_OF_COPIES = 0.2
MOST_CHANGED = 0.2  # of a copy's words
SAMPLE = 2_000  # texts whose exact similarity with all others is found
STEPS = (0.0, 0.05, 0.1)  # over the threshold: recall is told for similarities from each of these on

Cluster = Sequence[int]  # of each text the first one that it is joined with
Side = Callable[[Sequence[str], float], Cluster]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    if given.rows < 1:
        parser.error("--rows: at least 1")
    texts = made_texts(given.rows)
    sides: dict[str, Side] = {
        "tunemill": ours,
        "datasketch_64": partial(theirs, permutations=64),
        "datasketch_128": partial(theirs, permutations=128),
    }
    found: dict[str, Cluster] = {}
    turns = {name: partial(_rate, name, side, texts, given.threshold, found) for name, side in sides.items()}
    figures = take_turns(turns, unit="rows/CPU-s", rounds=given.rounds)
    ratios = {
        f"tunemill / {name}": ratio(figures["tunemill"], figures[name]) for name in sides if name.startswith("data")
    }
    alike = exact(texts, given.threshold)
    peaks = {name: _peak_bytes(side, given.rows, given.threshold) for name, side in sides.items()}
    also = {
        "rows_per_s": round(figures["tunemill"].median, 1),
        "ratio_datasketch": round(min(ratios.values()), 2),  # against the faster of the two
        "peak_bytes": peaks["tunemill"],
        "peak_bytes_of": peaks,
        "bands": bands(given.threshold)._asdict(),
        "pairs_in_sample": sum(map(len, alike.values())),
        **quality(found, alike, given.threshold),
    }
    settings = {"rows": given.rows, "rounds": given.rounds, "threshold": given.threshold, "sample": SAMPLE}
    report("dedup", figures, ratios, settings, as_json=given.json, also=also)


def ours(texts: Sequence[str], threshold: float) -> Cluster:
    """The clusters as a draft finds them."""
    sketch, has = sketches(texts)
    if not has.all():
        raise RuntimeError("a made text is too short to be compared")
    firsts: Cluster = clusters(sketch, np.arange(len(texts)), threshold).firsts.tolist()
    return firsts


def theirs(texts: Sequence[str], threshold: float, *, permutations: int) -> Cluster:
    """The clusters as datasketch finds them."""
    index = MinHashLSH(threshold=threshold, num_perm=permutations)
    firsts = list(range(len(texts)))
    hashes: list[MinHash] = []
    tokens = ([f"{one} {other}".encode() for one, other in pairwise(text.lower().split())] for text in texts)
    for place, one in enumerate(MinHash.generator(tokens, num_perm=permutations)):
        for other in index.query(one):
            if one.jaccard(hashes[other]) >= threshold:
                _join(firsts, place, other)
        index.insert(place, one, check_duplication=False)
        hashes.append(one)
    return [_first(firsts, place) for place in range(len(texts))]


def _first(firsts: list[int], place: int) -> int:
    while firsts[place] != place:
        place = firsts[place]
    return place


def _join(firsts: list[int], one: int, other: int) -> None:
    low, high = sorted((_first(firsts, one), _first(firsts, other)))
    firsts[high] = low


def exact(texts: Sequence[str], threshold: float) -> Mapping[int, Mapping[int, float]]:
    """The exact similarity of some of the texts to every one that is at least so alike."""
    sampled = random.Random(5).sample(range(len(texts)), min(SAMPLE, len(texts)))
    pairs = {place: _pairs(texts[place]) for place in sampled}
    holders: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, its in pairs.items():
        for pair in its:
            holders[pair].append(place)
    alike: dict[int, dict[int, float]] = {place: {} for place in sampled}
    for other, text in enumerate(texts):
        its = _pairs(text)
        shared: dict[int, int] = defaultdict(int)
        for pair in its & holders.keys():
            for place in holders[pair]:
                shared[place] += 1
        for place, count in shared.items():
            similarity = count / (len(its) + len(pairs[place]) - count)
            if place != other and similarity >= threshold:
                alike[place][other] = similarity
    return alike


def _pairs(text: str) -> set[tuple[str, str]]:
    return set(pairwise(text.lower().split()))


def quality(
    found: Mapping[str, Cluster], alike: Mapping[int, Mapping[int, float]], threshold: float
) -> dict[str, dict[str, Any]]:
    """By side: the share of the alike pairs that it joins, also by how alike, and the share of what it joins that is alike."""
    steps = [round(threshold + step, 2) for step in STEPS]
    told: dict[str, dict[str, Any]] = {"recall": {}, "recall_from": {}, "precision": {}}
    for name, firsts in found.items():
        members: dict[int, list[int]] = defaultdict(list)
        for place, first in enumerate(firsts):
            members[first].append(place)
        joined = {(one, other) for one in alike for other in members[firsts[one]] if other != one}
        hits, totals = [0] * len(steps), [0] * len(steps)
        for one, others in alike.items():
            for other, similarity in others.items():
                step = bisect_right(steps, similarity) - 1
                totals[step] += 1
                hits[step] += (one, other) in joined
        told["recall"][name] = _share(sum(hits), sum(totals))
        told["recall_from"][name] = {
            f"{step:g}": _share(hit, total) for step, hit, total in zip(steps, hits, totals, strict=True)
        }
        told["precision"][name] = _share(sum(other in alike[one] for one, other in joined), len(joined))
    return told


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def made_texts(count: int) -> list[str]:
    """Texts of words that are as frequent as in a language; of a fifth a copy stands among them with some words changed."""
    draw = random.Random(11)
    vocabulary = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(VOCABULARY)]
    weights = list(accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))
    copies = int(count * SHARE_OF_COPIES)
    texts = [draw.choices(vocabulary, cum_weights=weights, k=WORDS) for _ in range(count - copies)]
    for original in texts[:copies]:
        words = list(original)
        for place in draw.sample(range(WORDS), draw.randrange(int(WORDS * MOST_CHANGED))):
            words[place] = draw.choice(vocabulary)
        texts.append(words)
    draw.shuffle(texts)
    return [" ".join(words) for words in texts]


def _rate(name: str, side: Side, texts: Sequence[str], threshold: float, found: dict[str, Cluster]) -> float:
    """Texts in a second of CPU; what was found is kept."""
    begun = time.process_time()
    found[name] = side(texts, threshold)
    return len(texts) / (time.process_time() - begun)


def _peak_bytes(side: Side, rows: int, threshold: float) -> int:
    """How much one side takes beside the texts, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_grown_bytes, side, rows, threshold).result()


def _grown_bytes(side: Side, rows: int, threshold: float) -> int:
    texts = made_texts(rows)
    return grown_bytes(partial(side, texts, threshold))


if __name__ == "__main__":
    main()

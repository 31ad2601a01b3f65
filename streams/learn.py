"""Labelled logs -> a learned tag and how good it is, measured on labels that it had not seen. Pure, and the same each time."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from tunemill.schemas.ids import digest
from tunemill.schemas.learned import HeldOut, Lesson, Model, NotLearned, Part, Point, Report, Share, Word
from tunemill.schemas.records import LogRecord
from tunemill.streams.learned import PARTS, score, words_of
from tunemill.streams.logistic import fit
from tunemill.streams.text import texts_of

LEAST_LOGS = 10  # of either label: with fewer the measured precision says next to nothing
FOLDS = 5  # each fifth of the conversations is judged by a model of the others
_MAX_WORDS = 2_000
_SHOWN_WORDS = 15
_SHOWN_POINTS = 20
_DIGITS = 4  # behind the point, of weights and scores
_NUMBER = re.compile(r"(?:\d.*){4}")  # a word with four digits may be somebody's number: no model keeps it
_SURE = 1.96  # standard deviations, for 95 %
_CHANCES = (
    2  # a figure hangs on which logs it was measured with, and the model's worth on which it was made of: about as much
)

Scored = tuple[float, bool]


@dataclass(frozen=True, slots=True)
class _Example:
    words: dict[Part, set[str]]
    label: bool
    conversation: str


def learn(labelled: Iterable[tuple[LogRecord, bool]], *, precision: float) -> Lesson | NotLearned:
    """A model of all labels, and its report: precision and recall on labels held out, conversation by conversation.

    Args:
        labelled: each log once, and whether it should have the tag.
        precision: what the threshold should reach, with the best recall there is; if none does, it has the best F1.
    """
    examples = _examples(sorted(labelled, key=lambda one: one[0].log_id))
    if (reason := _too_little(examples)) is not None:
        return NotLearned(reason)
    folds = _folds(examples)
    scored = [_judged(fold, [one for other in folds if other is not fold for one in other]) for fold in folds]
    everything = [one for fold in scored for one in fold]
    threshold, by = choose_threshold(everything, precision)
    model = _fitted(examples, threshold)
    if not any(model.weights.values()):
        return NotLearned("no word is in two of the labelled conversations")
    report = Report(
        yes=sum(one.label for one in examples),
        no=sum(not one.label for one in examples),
        conversations=len({one.conversation for one in examples}),
        wanted_precision=precision,
        threshold_by=by,
        held_out=_held_out(folds, scored, precision),
        curve=_thinned(_points(everything)),
        words_for=_heaviest(model, 1),
        words_against=_heaviest(model, -1),
    )
    return Lesson(model, report)


def choose_threshold(scored: Sequence[Scored], precision: float) -> tuple[float, Literal["precision", "f1"]]:
    """The threshold with the best recall of those that reach the precision; else the one with the best F1."""
    points = _points(scored)
    reaching = [point for point in points if point.precision >= precision]
    if reaching:
        return max(reaching, key=lambda point: (point.recall, point.precision)).threshold, "precision"
    return max(points, key=lambda point: _f1(point.precision, point.recall)).threshold, "f1"


def share(part: int, of: int, *, worth: float | None = None) -> Share:
    """A share with Wilson's interval: where the true one lies in 19 of 20 cases.

    Args:
        worth: as how many that have nothing to do with one another they count; all of them unless told.
    """
    rate, spread = part / of, _SURE**2 / (worth or of)
    middle = (rate + spread / 2) / (1 + spread)
    half = math.sqrt(rate * (1 - rate) * spread + spread**2 / 4) / (1 + spread)
    return Share(
        round(rate, _DIGITS), round(max(0.0, middle - half), _DIGITS), round(min(1.0, middle + half), _DIGITS), of
    )


def _examples(labelled: Sequence[tuple[LogRecord, bool]]) -> list[_Example]:
    """Each log's words, and its conversation: turns of one are much alike, and so are answers to one question. Judging one after
    learning from the other would flatter."""
    texts = [texts_of(log) for log, _ in labelled]
    beginnings = _beginnings({one.user for one in texts})
    return [
        _Example(words_of(one), label, log.session_id or digest([beginnings[one.user]]))
        for one, (log, label) in zip(texts, labelled, strict=True)
    ]


def _beginnings(texts: Iterable[str]) -> dict[str, str]:
    """The shortest of the texts that each begins with, whole lines: each turn of a chat repeats what the user wrote before."""
    found: dict[str, str] = {}
    first = None
    for text in sorted(
        texts, key=lambda one: one.split("\n")
    ):  # by lines, so that those with one beginning are neighbours
        if first is None or not f"{text}\n".startswith(f"{first}\n"):
            first = text
        found[text] = first
    return found


def _too_little(examples: Sequence[_Example]) -> str | None:
    for label, named in ((True, "as having the tag"), (False, "as not having it")):
        mine = [one for one in examples if one.label is label]
        if len(mine) < LEAST_LOGS:
            return f"{len(mine)} logs are labelled {named}; at least {LEAST_LOGS} are needed"
        conversations = len({one.conversation for one in mine})
        if conversations < FOLDS:
            return f"the {len(mine)} logs labelled {named} are of {conversations} conversations; at least {FOLDS} are needed"
    return None


def _folds(examples: Sequence[_Example]) -> list[list[_Example]]:
    """The examples in parts, no conversation in two of them. Each label's conversations are dealt out one to each part in turn,
    so that the other parts always have both labels, however many logs one conversation has."""
    conversations: dict[str, list[_Example]] = defaultdict(list)
    for one in examples:
        conversations[one.conversation].append(one)
    folds: list[list[_Example]] = [[] for _ in range(FOLDS)]
    dealt = Counter[tuple[int, bool]]()
    for members in sorted(conversations.values(), key=_rarest_first):
        labels = {one.label for one in members}
        place = min(range(FOLDS), key=lambda fold: (sum(dealt[fold, label] for label in labels), len(folds[fold])))
        folds[place] += members
        dealt.update((place, label) for label in labels)
    return folds


def _rarest_first(members: Sequence[_Example]) -> tuple[int, int, str]:
    """Conversations with both labels, those with a yes, the others; of each kind the longest first."""
    yes = sum(one.label for one in members)
    kind = 0 if 0 < yes < len(members) else 1 if yes else 2
    return kind, -len(members), digest([members[0].conversation])


def _judged(held_out: Sequence[_Example], others: Sequence[_Example]) -> list[Scored]:
    model = _fitted(others, 0.0)
    return [(round(score(model, one.words), _DIGITS), one.label) for one in held_out]


def _fitted(examples: Sequence[_Example], threshold: float) -> Model:
    """A model of these examples. It is fitted to all words, so that what is particular to one log is not put down to its common
    words; but it keeps those words alone that are in two conversations: what is in one alone may be anything."""
    listed = [_listed(one) for one in examples]
    held = Counter(word for _, word in {(one.conversation, word) for one in examples for word in _listed(one)})
    columns = {word: column for column, word in enumerate(sorted(held))}
    ease = [(math.log((1 + len(examples)) / (1 + held[word])) + 1) ** 2 for word in columns]  # rare words say more
    rows = [[columns[word] for word in words] for words in listed]
    fitted = fit(rows, [one.label for one in examples], ease=ease)
    kept = [word for word in columns if held[word] > 1 and not _NUMBER.search(word[1])]
    heaviest = sorted(kept, key=lambda word: -abs(fitted.weights[columns[word]]))[:_MAX_WORDS]
    weights: dict[Part, dict[str, float]] = {part: {} for part in PARTS}
    for part, word in heaviest:
        if weight := round(fitted.weights[columns[part, word]], _DIGITS):
            weights[part][word] = weight
    return Model(weights, round(fitted.bias, _DIGITS), threshold)


def _listed(one: _Example) -> list[tuple[Part, str]]:
    return [(part, word) for part, words in one.words.items() for word in words]


def _points(scored: Sequence[Scored]) -> list[Point]:
    """Precision and recall at each threshold that lets in one more of those that have the tag, the highest first."""
    yes = sum(label for _, label in scored)
    levels = [
        (value, [label for _, label in members])
        for value, members in groupby(sorted(scored, reverse=True), key=lambda one: one[0])
    ]
    points: list[Point] = []
    hits = tagged = 0
    for place, (value, labels) in enumerate(levels):
        hits, tagged = hits + sum(labels), tagged + len(labels)
        below = levels[place + 1][0] if place + 1 < len(levels) else value
        if any(labels):
            threshold = round((value + below) / 2, _DIGITS + 1)
            points.append(Point(threshold, hits / tagged, hits / yes, tagged))
    return points


def _held_out(folds: Sequence[Sequence[_Example]], scored: Sequence[Sequence[Scored]], precision: float) -> HeldOut:
    """Each fold is judged at the threshold that the other folds would choose: choosing and judging on the same labels flatters."""
    judged: list[tuple[_Example, bool]] = []
    for place, (examples, scores) in enumerate(zip(folds, scored, strict=True)):
        others = [one for other, mine in enumerate(scored) if other != place for one in mine]
        threshold, _ = choose_threshold(others, precision)
        judged += [(one, value >= threshold) for one, (value, _) in zip(examples, scores, strict=True)]
    tagged = [(one, one.label) for one, given in judged if given]
    yes = [(one, given) for one, given in judged if one.label]
    no = [(one, given) for one, given in judged if not one.label]
    tp, fp = sum(given for _, given in yes), sum(given for _, given in no)
    return HeldOut(
        tp=tp,
        fp=fp,
        fn=len(yes) - tp,
        tn=len(no) - fp,
        precision=_share(tagged) if tagged else None,
        recall=_share(yes),
        false_alarms=_share(no),
    )


def _share(found: Sequence[tuple[_Example, bool]]) -> Share:
    """The share of those found so, with an interval for logs that nobody labelled. Logs of one conversation are told right or
    wrong together, so that many of one count as one (Kish's effective size)."""
    sizes = Counter(one.conversation for one, _ in found)
    conversations = len(found) ** 2 / sum(size**2 for size in sizes.values())
    return share(sum(so for _, so in found), len(found), worth=conversations / _CHANCES)


def _thinned(points: Sequence[Point]) -> list[Point]:
    step = max(1, math.ceil(len(points) / _SHOWN_POINTS))
    return [
        Point(one.threshold, round(one.precision, _DIGITS), round(one.recall, _DIGITS), one.tagged)
        for one in points[::step]
    ]


def _heaviest(model: Model, sign: int) -> list[Word]:
    words = [Word(part, word, weight) for part, weights in model.weights.items() for word, weight in weights.items()]
    mine = [word for word in words if word.weight * sign > 0]
    return sorted(mine, key=lambda word: (-abs(word.weight), word.part, word.word))[:_SHOWN_WORDS]


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

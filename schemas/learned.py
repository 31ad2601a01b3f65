"""A learned tag as the registry keeps it: what the API writes when somebody trains one, and the stream reads to set it."""

from typing import Literal

import msgspec

Part = Literal["user", "assistant", "system"]


class Model(msgspec.Struct, frozen=True):
    """Weights of words. A log's score is `bias`, and the weights of its words over the square root of how many words it has."""

    weights: dict[Part, dict[str, float]]  # by the part of the log, then by word
    bias: float
    threshold: float  # the tag is set from this score on


class LearnedTag(msgspec.Struct, frozen=True):
    """A version of a model, and the tag that it sets."""

    tag: str
    version: int
    model: Model

    @property
    def setter(self) -> str:
        """How tags that it set name it."""
        return f"learned@{self.version}"


class Share(msgspec.Struct, frozen=True):
    """A share of some logs, and where it may really lie: few labels say little."""

    share: float
    low: float  # Wilson's interval at 95 %, narrower the more logs there are that have nothing to do with one another
    high: float
    of: int


class HeldOut(msgspec.Struct, frozen=True):
    """What became of the labelled logs when each was judged by a model, and at a threshold, that had not seen it."""

    tp: int
    fp: int
    fn: int
    tn: int
    precision: Share | None  # of the logs that got the tag, those labelled with it; None: none got it
    recall: Share  # of the logs labelled with it, those that got it
    false_alarms: Share  # of the logs labelled as without it, those that got it


class Point(msgspec.Struct, frozen=True):
    """Precision and recall on the held-out labels at one threshold."""

    threshold: float
    precision: float
    recall: float
    tagged: int


class Word(msgspec.Struct, frozen=True):
    """A word that weighs much, for the tag or against it."""

    part: Part
    word: str
    weight: float


class Report(msgspec.Struct, frozen=True):
    """How good a learned tag is, and what it looks at."""

    yes: int  # logs labelled with the tag
    no: int
    conversations: int
    wanted_precision: float
    threshold_by: Literal["precision", "f1"]  # f1: no threshold reached the wanted precision
    held_out: HeldOut
    curve: list[Point]
    words_for: list[Word]
    words_against: list[Word]


class Lesson(msgspec.Struct, frozen=True):
    """What was learned from labels."""

    model: Model
    report: Report


class NotLearned(msgspec.Struct, frozen=True):
    """Why nothing can be learned from these labels, for a person; holds no log text."""

    reason: str

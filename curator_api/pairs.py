"""Better and worse answers to one prompt become rows of a preference dataset. Pure."""

import hashlib
from typing import NamedTuple

import msgspec

from tunemill.curator_api.licences import strictest
from tunemill.curator_api.rows import Reason, Row, RowMessage
from tunemill.schemas.ids import canonical_json
from tunemill.schemas.origin import Trainable
from tunemill.schemas.records import TaggedLog


class Scored(NamedTuple):
    """A log that may be one side of a pair. The better one is greater; of equals the one whose log_id comes first."""

    score: float
    log_id: str
    slices: dict[str, str]  # of its row


class Prompt(NamedTuple):
    """What was asked, by its best and its worst answer so far."""

    best: Scored
    worst: Scored


def prompt_of(row: Row) -> int:
    """64 bits of a digest of what was asked, with which tools."""
    asked = canonical_json({"messages": row.messages[:-1], "tools": row.tools})
    return int.from_bytes(hashlib.sha256(asked).digest()[:8])


def score_of(tagged: TaggedLog, name: str) -> float | None:
    """The newest score of this feedback."""
    return next((one.score for one in reversed(tagged.feedback) if one.name == name and one.score is not None), None)


def with_answer(prompt: Prompt | None, answer: Scored) -> tuple[Prompt, list[Scored]]:
    """The prompt with one more answer, and those that no pair will be made of."""
    if prompt is None:
        return Prompt(answer, answer), []
    best = min((prompt.best, answer), key=_better)
    worst = max((prompt.worst, answer), key=_better)
    met = {one.log_id: one for one in (*prompt, answer)}
    gone = [one for log_id, one in met.items() if log_id not in (best.log_id, worst.log_id)]
    return Prompt(best, worst), gone


def pair(
    better: Row, worse: tuple[RowMessage, ...], *, licence: Trainable = "yes", log_id: str | None = None
) -> Row | Reason:
    """The row of a better and a worse answer to one prompt.

    Args:
        worse: what stands in place of the last message.
        licence: of the worse answer.
        log_id: the worse answer's, if that is another log.
    """
    if better.messages[-1:] == worse:
        return Reason.DUPLICATE_CONTENT  # no answer is the better one
    return msgspec.structs.replace(
        better,
        rejected=worse,
        log_ids=better.log_ids if log_id is None else (*better.log_ids, log_id),
        licence=strictest(better.licence, licence),
    )


def _better(one: Scored) -> tuple[float, str]:
    return -one.score, one.log_id

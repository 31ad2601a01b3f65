"""Feedback -> the document that both engines keep of it, where they look for a log's, and what logs are searched by. Pure."""

from collections.abc import Iterable
from typing import Any

import msgspec

from tunemill.indexer.dates import LATEST_MS
from tunemill.indexer.document import LONGEST_ID_BYTES
from tunemill.schemas.about import names
from tunemill.schemas.outcome import Outcome, Written
from tunemill.schemas.records import Feedback, LogRecord, Said

MOST_SHOWN = 1000  # of one log
NEVER = LATEST_MS  # when feedback is due that has reached its log


class FeedbackDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Feedback and what it is found by."""

    id: str
    about: str  # the most exact thing that it names, as `names` spells it
    ts: int  # milliseconds since the epoch, within the years 1970 to 9999
    since: int = 0  # milliseconds since the epoch: when it was stored
    due: int = 0  # milliseconds since the epoch: when its log is looked for next; 0: at once, before what waits already
    record: Feedback


class StoredFeedback(msgspec.Struct, frozen=True):
    """Feedback as it was read, or with another time at which it is due that is to take that one's place."""

    document: FeedbackDocument
    version: Any  # of what was read; only the index knows what it means


def to_document(feedback: Feedback, *, stored_ms: int) -> FeedbackDocument:
    """What the index keeps. One that names a log is about that log alone, even if it names its trace, too."""
    about = names(feedback.log_id, feedback.response_id, feedback.trace_id)
    return FeedbackDocument(
        id=feedback.feedback_id,
        about=about[0] if about else "",
        ts=min(max(feedback.ts_ms, 0), LATEST_MS),
        since=stored_ms,
        record=feedback,
    )


def said(items: Iterable[Feedback]) -> tuple[Said, ...]:
    """What a log is searched by of what was said about it: no free text."""
    return tuple(
        Said(
            name=item.name,
            score=item.score,
            label=item.label,
            corrected=item.correction is not None,
            commented=item.comment is not None,
        )
        for item in items
    )


def names_of(log: LogRecord) -> tuple[str, ...]:
    """Everything that feedback about this log may be about."""
    return names(log.log_id, log.response_id, log.trace_id)


def refusal(feedback: Feedback) -> Written | None:
    """Why no engine could store this; None if one can."""
    feedback_id = feedback.feedback_id
    try:
        fits = 0 < len(feedback_id.encode()) <= LONGEST_ID_BYTES
        msgspec.json.encode(feedback)
    except UnicodeEncodeError:
        return Written(feedback_id, Outcome.REJECTED, "not_unicode", "half of a surrogate pair")
    if not fits:
        reason = f"feedback_id is empty or has more than {LONGEST_ID_BYTES} bytes"
        return Written(feedback_id, Outcome.REJECTED, "bad_id", reason)
    if not names(feedback.log_id, feedback.response_id, feedback.trace_id):
        return Written(feedback_id, Outcome.REJECTED, "about_nothing", "it names no log_id, response_id or trace_id")
    return None

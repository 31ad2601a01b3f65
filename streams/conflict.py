"""Logs whose ids are taken by other content: which of them are in the index all the same, in a log that has changed since.

A log changes beneath its id when parts or its trace's note are joined to it, and it is masked by the policy and the patterns of
its day. A log that comes again after that is no other one.
"""

import asyncio
import re
from collections.abc import Sequence

import msgspec

from tunemill.schemas.outcome import ID_CONFLICT, Outcome, Written
from tunemill.schemas.records import LogRecord, TaggedLog
from tunemill.streams.mask import mask
from tunemill.streams.merge import holds
from tunemill.streams.ports import LogIndex
from tunemill.streams.rules import Rules

_MASKED = re.compile(r"\[(?:SECRET|PII):[a-z0-9-]+\]")


async def judged(
    logs: Sequence[TaggedLog], written: Sequence[Written], index: LogIndex, rules: Rules
) -> Sequence[Written]:
    """What became of each of these logs: a conflict with a log that holds all that this one says is a duplicate."""
    ids = [end.log_id for end in written if end.error_code == ID_CONFLICT]
    if not ids:
        return written
    stored = (await index.stored(log_ids=ids, trace_ids=[])).logs
    known = {log_id: found.tagged.log for log_id, found in stored.items()}
    return await asyncio.to_thread(_judged, logs, written, known, rules)


def _judged(
    logs: Sequence[TaggedLog], written: Sequence[Written], known: dict[str, LogRecord], rules: Rules
) -> Sequence[Written]:
    return [
        Written(end.log_id, Outcome.DUPLICATE)
        if end.error_code == ID_CONFLICT and end.log_id in known and _is_in(tagged.log, known[end.log_id], rules)
        else end
        for tagged, end in zip(logs, written, strict=True)
    ]


def _is_in(log: LogRecord, stored: LogRecord, rules: Rules) -> bool:
    """Whether a log is what is stored under its id, grown or masked otherwise."""
    log = msgspec.json.decode(msgspec.json.encode(log), type=LogRecord)  # as it comes back from an index
    return (
        holds(stored, log)
        or holds(mask(stored, private=rules.masks_private_data).log, log)
        or holds(stored, mask(log, private=True).log)
        or _is_behind_masks(log, stored)
    )


def _is_behind_masks(log: LogRecord, stored: LogRecord) -> bool:
    """Whether a log says what is stored wherever that is not masked: patterns of a later release may mask less."""
    first, *others = _MASKED.split(_text(stored))
    text = _text(log)
    if not (others and text.startswith(first) and text.endswith(others[-1])):
        return False
    at, end = len(first), len(text) - len(others[-1])
    for part in others[:-1]:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return at <= end


def _text(log: LogRecord) -> str:
    return msgspec.json.encode(msgspec.structs.replace(log, ts_ms=0)).decode()

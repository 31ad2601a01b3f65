"""By what a log is known elsewhere: answer and trace to feedback, what it says to imported rows, values to reports, tokens to media.

Pure.
"""

import re
from collections.abc import Iterable

import msgspec

from tunemill.curator_api.erasure_store import Item
from tunemill.curator_api.private import without_private_data
from tunemill.curator_api.rows import Row, from_log, imported_row
from tunemill.curator_api.slices import Described, told_by
from tunemill.privacy.pii import KINDS, PrivateData
from tunemill.schemas.records import LogRecord, TaggedLog

_SIGN = b"@@@langfuseMedia:"
_TOKEN = re.compile(rb"@@@langfuseMedia:[^@]*\|id=([A-Za-z0-9_-]{22})\|")  # as `page_chat` shows them


def items_of(tagged: TaggedLog, private_data: PrivateData) -> list[Item]:
    """A log, and by which other names it is known."""
    log = tagged.log
    rows = [Item("row", key) for key in _row_keys(tagged, private_data)]
    tags = tuple([tag.tag for tag in tagged.tags])
    told = told_by(Described(app=log.app, model=log.model, tags=tags, metadata=log.metadata))
    return [
        *_named(log),
        *rows,
        *(Item("value", one) for one in sorted(told)),
        *(Item("media", one) for one in sorted(media_in([msgspec.json.encode(tagged)]))),
    ]


def media_in(records: Iterable[bytes]) -> set[str]:
    """The ids of the images and other media whose tokens stand in the JSON of these logs."""
    return {found.decode() for record in records if _SIGN in record for found in _TOKEN.findall(record)}


def _named(log: LogRecord) -> list[Item]:
    items = [Item("log", log.log_id)]
    items += [Item("answer", log.response_id)] if log.response_id else []
    items += [Item("trace", log.trace_id)] if log.trace_id else []
    return items


def _row_keys(tagged: TaggedLog, private_data: PrivateData) -> list[str]:
    """What an imported row is called that says what this log says, as it came and as a dataset has it."""
    made = from_log(tagged, default_consent="train", private_data=private_data)
    if not isinstance(made, Row):
        return []
    masked = without_private_data(made, frozenset(KINDS))
    return sorted({imported_row(row.messages, row.tools).row_key for row in (made, masked)})

"""By which names a log is known elsewhere: to feedback by its answer and trace, to imported rows by what it says. Pure."""

from tunemill.curator_api.erasure_store import Item
from tunemill.curator_api.private import without_private_data
from tunemill.curator_api.rows import Row, from_log, imported_row
from tunemill.privacy.pii import KINDS, PrivateData
from tunemill.schemas.records import LogRecord, TaggedLog


def items_of(tagged: TaggedLog, private_data: PrivateData) -> list[Item]:
    """A log, and by which other names it is known."""
    log = tagged.log
    return [*_named(log), *(Item("row", key) for key in _row_keys(tagged, private_data))]


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

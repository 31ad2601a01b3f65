"""A handler for Python's `logging` that publishes the records which carry a call: `extra={"llm": {...}}`."""

import logging

from tunemill.schemas.ids import new_id
from tunemill.sdk.context import current
from tunemill.sdk.producer import Producer

FIELD = "llm"


class TunemillHandler(logging.Handler):
    """Publishes `record.llm`, a mapping of the fields that `Producer.log` takes; other records pass by. Never raises.

    The record's own message and level are not part of the log.
    """

    def __init__(self, producer: Producer, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self._producer = producer

    def handle(self, record: logging.LogRecord) -> bool:
        """As other handlers do, but without their lock: nobody waits for one whose record waits for room."""
        passed: object = self.filter(record)  # since Python 3.12 it may be another record
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the call over, in a few microseconds."""
        fields = getattr(record, FIELD, None)
        if fields is None:
            return
        try:
            self._producer.log_from(current(), {"ts_ms": int(record.created * 1000), **fields})
        except Exception as error:
            self._producer.note_dropped(new_id(), f"{FIELD!r} of a log record is no mapping ({type(error).__name__})")

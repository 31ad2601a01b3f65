"""Log lines: one JSON object each, on standard error. Never the text of a log, never a secret."""

import logging
import sys
from typing import TextIO

import structlog


def configure(*, service: str, as_json: bool = True, file: TextIO = sys.stderr) -> None:
    """Send this process's log lines to a file, standard error unless told, each naming the service.

    Args:
        as_json: one JSON object a line; else coloured text for a person at a terminal.
    """
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)

"""What can go wrong on the way from an application to the server. Only the operator's faults ever reach the application.

SdkError
├── UnknownUrl     the operator's fault: raised when the producer is made
├── BadKey         the same
├── BadPolicy      the same
├── SpoolError     kept inside: the logs stay in memory, and a warning says so
└── SendError      kept inside: counted, and logged as a warning
    ├── Unavailable   nobody answers, or not now: the same logs are sent again
    ├── TooLarge      the receiver takes no message of this size: its logs are sent one by one
    ├── Refused       sending it again cannot help
    └── PartlyRefused the same, of some of its logs; the others were taken
"""

import contextlib
import logging
import traceback

_LOGGER = logging.getLogger("tunemill.sdk")


class SdkError(Exception):
    """Something went wrong in the SDK."""


class UnknownUrl(SdkError, ValueError):
    """The URL names neither a Kafka cluster nor a tunemill server."""


class BadKey(SdkError, ValueError):
    """The API key holds characters that no HTTP header can carry. The message does not repeat it."""


class BadPolicy(SdkError, ValueError):
    """What to do when memory is full is neither `drop`, `block` nor `spool`, or it doesn't fit the spool's folder."""


class SpoolError(SdkError):
    """The spool takes nothing now: it is full, or its folder can't be written."""


class SendError(SdkError):
    """A message was not accepted."""


class Unavailable(SendError):
    """The receiver does not answer, or not now; the same message may be accepted later."""


class TooLarge(SendError):
    """The receiver takes no message of this size."""


class Refused(SendError):
    """The receiver will never take this message."""


class PartlyRefused(SendError):
    """The receiver took a message, but not all of its logs.

    Args:
        positions: of the refused logs in the message, counted from 0.
    """

    def __init__(self, message: str, positions: frozenset[int]) -> None:
        super().__init__(message)
        self.positions = positions


def warn(message: str, *details: object) -> None:
    """Say what went wrong. The application's own handlers may raise, which is nobody's trouble here."""
    with contextlib.suppress(Exception):
        _LOGGER.warning("tunemill: " + message, *details)


def place(fault: Exception) -> str:
    """A fault of ours by its type and where it happened; its own text may hold log text."""
    at = traceback.extract_tb(fault.__traceback__)[-1]
    return f"{type(fault).__name__} in {at.name}, line {at.lineno}"

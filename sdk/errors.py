"""What can go wrong on the way from an application to the server. Only `UnknownUrl` and `BadKey` ever reach the application.

SdkError
├── UnknownUrl     the operator's fault: raised when the producer is made
├── BadKey         the same
└── SendError      kept inside: counted, and logged as a warning
    ├── Unavailable   nobody answers, or not now: the same logs are sent again
    ├── TooLarge      the receiver takes no message of this size: its logs are sent one by one
    └── Refused       sending it again cannot help
"""


class SdkError(Exception):
    """Something went wrong in the SDK."""


class UnknownUrl(SdkError, ValueError):
    """The URL names neither a Kafka cluster nor a tunemill server."""


class BadKey(SdkError, ValueError):
    """The API key holds characters that no HTTP header can carry. The message does not repeat it."""


class SendError(SdkError):
    """A message was not accepted."""


class Unavailable(SendError):
    """The receiver does not answer, or not now; the same message may be accepted later."""


class TooLarge(SendError):
    """The receiver takes no message of this size."""


class Refused(SendError):
    """The receiver will never take this message."""

"""What can go wrong with the bus.

BusError
├── BusUnavailable    the engine does not answer: try again
├── MessageTooLarge   the sender's fault: a message over its topic's limit
└── UnknownBusUrl     the operator's fault: no engine speaks this URL
"""


class BusError(Exception):
    """Something went wrong on the bus."""


class BusUnavailable(BusError):
    """The engine does not answer; the same call may succeed later."""


class MessageTooLarge(BusError):
    """A message is larger than its topic's `max_message_bytes`; sending it again cannot help."""


class UnknownBusUrl(BusError):
    """No engine speaks this URL."""

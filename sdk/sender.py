"""Where packs go, seen from the producer's thread: the one port with two engines behind it, Kafka and HTTP."""

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from tunemill.sdk.errors import SendError, UnknownUrl
from tunemill.sdk.pack import Pack


class Sender(Protocol):
    """A way to the server. Every method but `abandon` is called from one thread, the same each time."""

    def connect(self) -> None:
        """Be ready to send; cheap when it already is.

        Raises:
            Unavailable: the receiver does not answer.
        """

    def lane(self, key: str) -> int:
        """The lane that a key belongs to. Only after `connect`."""

    def send(self, packs: Sequence[Pack]) -> Sequence[SendError | None]:
        """Send in order and wait until it is known what became of each: None is durable, else what went wrong."""

    def abandon(self) -> None:
        """End a `connect` or `send` that is waiting, from another thread: what it does not know yet is Unavailable."""

    def close(self) -> None:
        """Let go of connections."""


def open_sender(url: str, *, api_key: str | None) -> Sender:
    """The sender behind `kafka://host:port[,host:port...]` or `http(s)://host[:port]`. Nothing is connected yet.

    Raises:
        UnknownUrl: the URL names no engine.
        BadKey: the key cannot be sent in a header.
    """
    scheme, _, rest = url.partition("://")
    hosts = rest.strip("/")
    if scheme == "kafka" and hosts and all(map(_has_port, hosts.split(","))):
        from tunemill.sdk.kafka import KafkaSender

        return KafkaSender(hosts)
    if scheme in ("http", "https") and _has_port(hosts.partition("/")[0]):
        from tunemill.sdk.http import HttpSender

        return HttpSender(url, api_key)
    begins = url.partition(":")[0][:20]  # no more of it: it may hold a password
    raise UnknownUrl(
        f"a URL that begins with {begins!r}: a producer's URL is kafka://host:port[,host:port] or http(s)://host[:port]"
    )


def _has_port(host: str) -> bool:
    """Whether it is a host, with a port that is a number if there is one."""
    try:
        parts = urlsplit(f"//{host}")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # its text may hold a password
        return False

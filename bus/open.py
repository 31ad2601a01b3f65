"""The engine that a URL names."""

from pathlib import Path

from tunemill.bus.errors import UnknownBusUrl
from tunemill.bus.port import Bus


def open_bus(url: str) -> Bus:
    """The bus behind `sqlite:<file>` or `kafka://host:port[,host:port...]`. Nothing is connected until it is used.

    Raises:
        UnknownBusUrl: the URL names no engine.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest:
        from tunemill.bus.sqlite import SqliteBus

        return SqliteBus(Path(rest))
    if scheme == "kafka" and rest.startswith("//"):
        from tunemill.bus.kafka import KafkaBus

        return KafkaBus(rest[2:].rstrip("/"))
    raise UnknownBusUrl(
        f"a URL that begins with {scheme[:20]!r}: a bus is sqlite:<file> or kafka://host:port[,host:port]"
    )

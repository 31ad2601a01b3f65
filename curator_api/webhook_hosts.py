"""Where events may be sent: to the hosts that the operator lists, so that nobody makes this server call others. Pure."""

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

PORTS = {"https": 443, "http": 80}


def refusal(url: str, hosts: Sequence[str]) -> str | None:
    """Why nothing may be sent to this address, in words for whoever wants it; None: it may.

    Args:
        hosts: `host`, with the usual port of its scheme, or `host:port`; lower case.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "it is not an address"
    if parts.scheme not in PORTS or not parts.hostname or parts.username or parts.password or parts.fragment:
        return "it must be http(s)://host[:port]/path, without a user or a fragment"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = PORTS[parts.scheme] if port is None else port
    if f"{host}:{port}" not in {*hosts, *(f"{one}:{PORTS[parts.scheme]}" for one in hosts)}:
        return "its host is not among those that TUNEMILL_WEBHOOK_HOSTS lists for this server"
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        return "it must be https: without it, anybody on the way could read and change what is sent"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

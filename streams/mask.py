"""Secrets out: every string of a log, before anything is stored. Pure.

The patterns are run once over all strings together; only where they find something, string by string.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from tunemill.privacy.secrets import KINDS, has_secret, without_secrets
from tunemill.schemas.ids import payload_log_id
from tunemill.schemas.records import LogRecord


class Masked(msgspec.Struct, frozen=True):
    """A log without secrets, and the kinds of those that were found, in the order of `KINDS`."""

    log: LogRecord
    kinds: tuple[str, ...]


def mask(log: LogRecord) -> Masked:
    """The log with every secret in any of its strings replaced; the same object when there is none."""
    strings: list[str] = []
    _map_strings(msgspec.to_builtins(log), strings.append)
    if not has_secret("\n".join(strings)):
        return Masked(log, ())
    found: set[str] = set()

    def clean(text: str) -> str:
        masked, kinds = without_secrets(text)
        found.update(kinds)
        return masked

    masked = msgspec.convert(_map_strings(msgspec.to_builtins(log), clean), LogRecord)
    if masked.log_id != log.log_id:  # an id that held a secret: still one id for each replay
        masked = msgspec.structs.replace(masked, log_id=payload_log_id(log.log_id.encode()))
    return Masked(masked, tuple(kind for kind in KINDS if kind in found))


def _map_strings(value: Any, change: Callable[[str], Any]) -> Any:
    """The value with each of its strings changed, the names of fields of free-form JSON among them."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_map_strings(key, change): _map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_strings(item, change) for item in value]
    return value

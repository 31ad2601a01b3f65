"""What can go wrong in the stream, and what then happens to the record.

StreamError
├── Undecodable          the data's fault: the record goes to the dead letters at stage decode
├── RulesInvalid         the operator's fault: these rules are wrong, and are not put in force
├── RegistryUnavailable  the schema registry's or its operator's: the process ends without a commit, and the messages come again
│   └── RegistryAway     it may be back soon: the part of messages waits, and is read again
└── Stalled              nobody's that we know: nothing moved for too long, and the process ends without a commit
"""

from collections.abc import Iterable
from typing import NamedTuple


class StreamError(Exception):
    """Something went wrong in the stream."""


class Undecodable(StreamError):
    """These bytes are not a log that we can read.

    Attributes:
        code: from a bounded list, see `docs/formats.md`.

    The message names the place in the record and never repeats what stands there.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class RuleError(NamedTuple):
    """One thing that is wrong in a text of rules: where, counted from 1, why, and in which rule, if it is in one."""

    line: int
    column: int
    reason: str
    rule: str | None = None  # its name, or `number 3` while it has none

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: " + (f"rule {self.rule}: " if self.rule else "") + self.reason


class RulesInvalid(StreamError):
    """A text of tag rules cannot be used.

    Attributes:
        errors: everything that is wrong in it, in the order of the text.

    The message has one line for each, `place:line:column: rule name: reason`.
    """

    def __init__(self, place: str, errors: Iterable[RuleError]) -> None:
        self.errors = tuple(sorted(errors, key=lambda error: error[:2]))
        super().__init__("\n".join(f"{place}:{error}" for error in self.errors))


class RegistryUnavailable(StreamError):
    """The schema registry cannot be asked; the message says how it failed and holds no address."""


class RegistryAway(RegistryUnavailable):
    """The schema registry may be back soon."""


class Stalled(StreamError):
    """There is work, and nothing moved for too long."""

"""What the API needs of the stream to work on rules; handed in when the application is made."""

from collections.abc import Sequence
from typing import Protocol

from tunemill.privacy.pii import PrivateData
from tunemill.schemas.learned import LearnedTag, Lesson, NotLearned
from tunemill.schemas.records import LogRecord, TaggedLog


class RuleFault(Protocol):
    """One thing that is wrong in a document of rules; line and column are counted from 1."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def rule(self) -> str | None: ...


class Tagger(Protocol):
    """One set of rules and learned tags, applied to logs in the order of (ts_ms, log_id)."""

    def retag(self, stored: TaggedLog) -> TaggedLog:
        """The log with its tags set anew; equal to `stored` when nothing changes."""

    def pass_by(self, stored: TaggedLog) -> None:
        """Remember a log that has its tags already: later ones may say nearly the same."""


class Tagging(Protocol):
    """Rules as the stream understands them. Every method takes its time: call it beside the event loop."""

    @property
    def starter(self) -> str:
        """The packaged starter set as it is written."""

    def check(self, document: str) -> Sequence[RuleFault]:
        """Everything that is wrong with a document; nothing when it may be put in force."""

    def compiled(self, document: str | None, learned: Sequence[LearnedTag], *, whole: bool) -> Tagger:
        """The rules of a document, the starter set's without one, with these learned tags.

        Args:
            whole: every log will be tagged, the oldest first, so that it can be told which say nearly the same.
        """

    def private_data(self, document: str | None) -> PrivateData:
        """Where private data is replaced by a document, the starter set without one."""

    def learn(self, labelled: Sequence[tuple[LogRecord, bool]], *, precision: float) -> Lesson | NotLearned:
        """What these labels teach about a tag, and how good it is; or why they teach nothing."""

"""What the API asks of the stream about tags: the same functions that the worker runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tunemill.privacy.pii import PrivateData
from tunemill.schemas.learned import LearnedTag, Lesson, NotLearned
from tunemill.schemas.records import LogRecord, TaggedLog
from tunemill.streams.errors import RuleError, RulesInvalid
from tunemill.streams.learn import learn
from tunemill.streams.near import Near
from tunemill.streams.rulebook import compiled
from tunemill.streams.rules import Rules, read_rules, starter_text
from tunemill.streams.rules_text import read_document
from tunemill.streams.tag import retag


@lru_cache(maxsize=4)  # every look at a draft asks, and reading a document takes longer than amending a version
def _private_data(document: str) -> PrivateData:
    _, private_data = read_document(document, "rules")
    return private_data


@dataclass(frozen=True, slots=True)
class Tagger:
    """One set of rules, applied to logs that are stored."""

    rules: Rules
    near: Near | None = None  # None: what is nearly the same is not looked for, and its tags stay

    def retag(self, stored: TaggedLog) -> TaggedLog:
        """The log with its tags set anew; equal to `stored` when nothing changes."""
        tagged = retag(stored, self.rules)
        return tagged if self.near is None else self.near.mark(tagged)

    def pass_by(self, stored: TaggedLog) -> None:
        """Remember a log that has its tags already: later ones may say nearly the same."""
        if self.near is not None:
            self.near.mark(stored)


class StreamTagging:
    """Rules as the stream understands them."""

    @property
    def starter(self) -> str:
        """The packaged starter set as it is written."""
        return starter_text()

    def check(self, document: str) -> Sequence[RuleError]:
        """Everything that is wrong with a document; nothing when it may be put in force."""
        try:
            read_rules(document)
        except RulesInvalid as error:
            return error.errors
        return ()

    def compiled(self, document: str | None, learned: Sequence[LearnedTag], *, whole: bool) -> Tagger:
        """The rules of a document, the starter set's without one, with these learned tags.

        Args:
            whole: every log will be tagged, the oldest first, so that it can be told which say nearly the same.

        Raises:
            RulesInvalid: the document is wrong.
        """
        return Tagger(compiled(document, learned), Near() if whole else None)

    def private_data(self, document: str | None) -> PrivateData:
        """Where private data is replaced by a document, the starter set without one."""
        return _private_data(starter_text() if document is None else document)

    def learn(self, labelled: Sequence[tuple[LogRecord, bool]], *, precision: float) -> Lesson | NotLearned:
        """What these labels teach about a tag, and how good it is; or why they teach nothing."""
        return learn(labelled, precision=precision)

"""What the API asks of the stream about tags: the same functions that the worker runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunemill.schemas.learned import LearnedTag, Lesson, NotLearned
from tunemill.schemas.records import LogRecord, TaggedLog
from tunemill.streams.errors import RuleError, RulesInvalid
from tunemill.streams.learn import learn
from tunemill.streams.rulebook import compiled
from tunemill.streams.rules import Rules, read_rules, starter_text
from tunemill.streams.tag import retag


@dataclass(frozen=True, slots=True)
class Tagger:
    """One set of rules, applied to logs that are stored."""

    rules: Rules

    def retag(self, stored: TaggedLog) -> TaggedLog:
        """The log with its tags set anew; equal to `stored` when nothing changes."""
        return retag(stored, self.rules)


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

    def compiled(self, document: str | None, learned: Sequence[LearnedTag]) -> Tagger:
        """The rules of a document, the starter set's without one, with these learned tags.

        Raises:
            RulesInvalid: the document is wrong.
        """
        return Tagger(compiled(document, learned))

    def learn(self, labelled: Sequence[tuple[LogRecord, bool]], *, precision: float) -> Lesson | NotLearned:
        """What these labels teach about a tag, and how good it is; or why they teach nothing."""
        return learn(labelled, precision=precision)

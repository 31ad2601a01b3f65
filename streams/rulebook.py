"""The rules in force, which may change while a worker runs: each batch is worked on with one state of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NoReturn

import structlog
from sqlalchemy import Engine

from tunemill.registry import rule_sets
from tunemill.schemas.ids import PROJECT
from tunemill.schemas.learned import LearnedTag
from tunemill.streams.rules import Rules, read_rules, starter_text
from tunemill.telemetry.metrics import RULES_BEHIND, RULES_REVISION

LOOK_EVERY_S = 2.0

_log = structlog.get_logger()


class Rulebook:
    """What tags are set by now."""

    def __init__(
        self, rules: Rules, *, revision: int = 0, registry: Engine | None = None, project: str = PROJECT
    ) -> None:
        """Begin with these rules.

        Args:
            revision: the number of their set; 0: the starter set, because the project has none of its own.
            registry: where other sets are put in force; None: the rules stay.
        """
        self.rules = rules  # replaced as a whole, never changed
        self.revision = revision
        self._registry = registry
        self._project = project
        self._is_behind = False

    async def look(self) -> None:
        """Take up the rules in force, if they are others than ours. Whatever fails: ours stay, and it is said."""
        if self._registry is None:
            return
        try:
            revision = await asyncio.to_thread(rule_sets.revision_in_force, self._registry, self._project)
            if revision != self.revision:
                # Compiling takes a while: batches go on with the old ones meanwhile.
                self.revision, self.rules = await asyncio.to_thread(_read, self._registry, self._project)
                _log.info("rules_taken_up", revision=self.revision)
        except Exception as error:  # the registry is away, or the rules are for a newer worker
            if not self._is_behind:
                _log.error("rules_not_taken_up", in_use=self.revision, error=type(error).__name__)
            self._is_behind = True
        else:
            self._is_behind = False
        RULES_BEHIND.set(self._is_behind)
        RULES_REVISION.set(self.revision)


def open_rulebook(registry: Engine, project: str = PROJECT) -> Rulebook:
    """The rules in force. Without them nothing may start: they say what is done with private data.

    Raises:
        DBAPIError: the registry cannot be read.
        RulesInvalid: the rules in force are not ones that this worker understands.
    """
    revision, rules = _read(registry, project)
    RULES_REVISION.set(revision)
    return Rulebook(rules, revision=revision, registry=registry, project=project)


@asynccontextmanager
async def follow_rules(rulebook: Rulebook) -> AsyncIterator[None]:
    """Meanwhile, rules that are put in force are taken up within seconds."""
    following = asyncio.create_task(_follow(rulebook))
    try:
        yield
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


def compiled(document: str | None, learned: Sequence[LearnedTag]) -> Rules:
    """The rules of a document, the starter set's without one, with these learned tags.

    Raises:
        RulesInvalid: the document is wrong, or for a newer version.
    """
    return read_rules(starter_text() if document is None else document, learned=learned)


def _read(registry: Engine, project: str) -> tuple[int, Rules]:
    found = rule_sets.in_force(registry, project)
    return found.revision, compiled(found.document, rule_sets.learned_in(registry, project, found))


async def _follow(rulebook: Rulebook) -> NoReturn:
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        await rulebook.look()

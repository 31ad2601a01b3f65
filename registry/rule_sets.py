"""What sets tags by itself, by project: numbered sets of rules and learned tags. The highest number is in force.

A set is never changed: another one, with the next number, takes its place. Going back is applying an older one again.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, Row, func, insert, select
from sqlalchemy.exc import IntegrityError

from tunemill.registry import audit_trail
from tunemill.registry.tables import learned_tags, now_ms, rule_sets
from tunemill.schemas.learned import LearnedTag, Model


class LearnedRef(msgspec.Struct, frozen=True):
    """A learned tag that is in force, by its version."""

    tag: str
    version: int


class RuleSet(msgspec.Struct, frozen=True, kw_only=True):
    """One set, as it was put in force."""

    revision: int = 0  # 0: nobody has put anything in force
    document: str | None = None  # None: the packaged starter set
    learned: tuple[LearnedRef, ...] = ()
    by: str | None = None
    created_ms: int | None = None


class RevisionChanged(Exception):
    """Somebody else put another set in force meanwhile.

    Attributes:
        revision: the one that is in force.
    """

    def __init__(self, revision: int) -> None:
        super().__init__(f"revision {revision} is in force")
        self.revision = revision


class _Keep:
    """As it is in force."""


KEEP: Final = _Keep()


def in_force(engine: Engine, project: str) -> RuleSet:
    """The set with the highest number; the packaged starter set when there is none."""
    with engine.connect() as connection:
        return _in_force(connection, project)


def revision_in_force(engine: Engine, project: str) -> int:
    """The highest number; 0 when there is none."""
    with engine.connect() as connection:
        highest = select(func.max(rule_sets.c.revision)).where(rule_sets.c.project == project)
        return connection.execute(highest).scalar_one() or 0


def find(engine: Engine, project: str, revision: int) -> RuleSet | None:
    """The set with this number; number 0 is the starter set."""
    if revision == 0:
        return RuleSet()
    here = (rule_sets.c.project == project, rule_sets.c.revision == revision)
    with engine.connect() as connection:
        row = connection.execute(select(rule_sets).where(*here)).one_or_none()
    return None if row is None else _rule_set(row)


def put(
    engine: Engine,
    project: str,
    *,
    by: str,
    document: str | _Keep | None = KEEP,
    learned: Sequence[LearnedRef] | _Keep = KEEP,
    expected_revision: int | None = None,
) -> RuleSet:
    """Put another set in force, with an audit line, in one transaction; the one that is in force, if it is the same.

    Args:
        document: the rules; None: the packaged starter set. Whoever calls has checked them.
        learned: the learned tags.
        expected_revision: which set this one was made from, if that matters.

    Raises:
        RevisionChanged: another set than the expected one is in force.
    """
    while True:
        try:
            with engine.begin() as connection:
                now = _in_force(connection, project)
                if expected_revision not in (None, now.revision):
                    raise RevisionChanged(now.revision)
                made = RuleSet(
                    revision=now.revision + 1,
                    document=now.document if isinstance(document, _Keep) else document,
                    learned=now.learned if isinstance(learned, _Keep) else tuple(learned),
                    by=by,
                    created_ms=now_ms(),
                )
                if (made.document, made.learned) == (now.document, now.learned):
                    return now
                _insert(connection, project, made, by)
            return made
        except IntegrityError:  # somebody else took the number between our look and our insert
            continue


def learned_in(engine: Engine, project: str, made: RuleSet) -> tuple[LearnedTag, ...]:
    """The learned tags of a set, whole.

    Raises:
        KeyError: one is not there, though nobody ever takes one away.
    """
    if not made.learned:
        return ()
    tags = [ref.tag for ref in made.learned]
    here = (learned_tags.c.project == project, learned_tags.c.tag.in_(tags))
    with engine.connect() as connection:
        rows = connection.execute(select(learned_tags).where(*here)).all()
    found = {LearnedRef(row.tag, row.version): row.model for row in rows}
    return tuple(LearnedTag(ref.tag, ref.version, msgspec.convert(found[ref], Model)) for ref in made.learned)


def _in_force(connection: Connection, project: str) -> RuleSet:
    newest = select(rule_sets).where(rule_sets.c.project == project).order_by(rule_sets.c.revision.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return RuleSet() if row is None else _rule_set(row)


def _insert(connection: Connection, project: str, made: RuleSet, by: str) -> None:
    connection.execute(insert(rule_sets).values(project=project, **msgspec.to_builtins(made)))
    learned = [f"{ref.tag}@{ref.version}" for ref in made.learned]
    audit_trail.append(connection, project, "rules.put", str(made.revision), by=by, data={"learned": learned})


def _rule_set(row: Row[Any]) -> RuleSet:
    return msgspec.convert({name: row._mapping[name] for name in RuleSet.__struct_fields__}, RuleSet)

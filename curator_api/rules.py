"""Rules over HTTP: see which are in force, try others out, put them in force."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path

from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.dry_run import dry_run
from tunemill.curator_api.errors import InvalidRules, NotFound, RulesChanged
from tunemill.curator_api.payloads import DryRunIn, DryRunOut, RulesCheckedOut, RulesIn, RulesOut, RulesTextIn
from tunemill.curator_api.problems import responses
from tunemill.curator_api.queries import read_query
from tunemill.curator_api.tagging import Tagger
from tunemill.registry import rule_sets
from tunemill.registry.rule_sets import RevisionChanged, RuleSet

router = APIRouter(prefix="/v1/rules", tags=["rules"])


@router.get("")
def get_rules(here: Here, _person: Person) -> RulesOut:
    """The rules in force: their document, and the learned tags beside them."""
    return rules_out(here, rule_sets.in_force(here.registry, here.settings.project))


@router.get("/{revision}", responses=responses(404, 422))
def get_revision(revision: Annotated[int, Path(ge=0, le=2**31 - 1)], here: Here, _person: Person) -> RulesOut:
    """The rules of a revision; 0 is the packaged starter set."""
    found = rule_sets.find(here.registry, here.settings.project, revision)
    if found is None:
        raise NotFound("there is no such revision of the rules")
    return rules_out(here, found)


@router.post("/check", responses=responses(422))
def check_rules(rules: RulesTextIn, here: Here, _person: Person) -> RulesCheckedOut:
    """Whether these rules could be put in force; if not, everything that is wrong, by line and column."""
    _checked(here, rules.document)
    return RulesCheckedOut(valid=True)


@router.post("/dry-run", responses=responses(400, 422))
async def try_rules(wanted: DryRunIn, here: Here, _person: Person) -> DryRunOut:
    """What rules would do to the tags of stored logs, without doing it. Without a document: the rules in force."""
    query = await asyncio.to_thread(read_query, here.registry, here.project, wanted.query)
    tagger = await asyncio.to_thread(_tagger, here, wanted.document)
    return DryRunOut.model_validate(await dry_run(here.index, tagger, query, limit=wanted.limit))


@router.post("", status_code=201, responses=responses(409, 422))
def apply_rules(rules: RulesIn, here: Here, person: Person) -> RulesOut:
    """Put rules in force. Running workers take them up within seconds; logs that are stored keep their tags until a backfill."""
    _checked(here, rules.document)
    try:
        made = rule_sets.put(
            here.registry,
            here.settings.project,
            by=person,
            document=rules.document,
            expected_revision=rules.expected_revision,
        )
    except RevisionChanged as error:
        raise RulesChanged(
            f"revision {error.revision} is in force by now: look at it, and apply yours to it", revision=error.revision
        ) from error
    return rules_out(here, made)


@router.delete("")
def drop_rules(here: Here, person: Person) -> RulesOut:
    """Go back to the packaged starter set, and to whatever it is after an upgrade. The learned tags stay in force."""
    return rules_out(here, rule_sets.put(here.registry, here.settings.project, by=person, document=None))


def rules_out(curator: Curator, found: RuleSet) -> RulesOut:
    """A set of rules as the API gives it."""
    return RulesOut(
        revision=found.revision,
        document=curator.tagging.starter if found.document is None else found.document,
        is_starter=found.document is None,
        learned=[f"{ref.tag}@{ref.version}" for ref in found.learned],
        by=found.by,
        created_ms=found.created_ms,
    )


def _checked(curator: Curator, document: str) -> None:
    """Return if the document may be put in force.

    Raises:
        InvalidRules: it may not.
    """
    faults = curator.tagging.check(document)
    if faults:
        first = faults[0]
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise InvalidRules(
            f"line {first.line}, column {first.column}: {first.reason}{more}",
            errors=[
                {"line": fault.line, "column": fault.column, "rule": fault.rule, "reason": fault.reason}
                for fault in faults
            ],
        )


def _tagger(curator: Curator, document: str | None) -> Tagger:
    project = curator.settings.project
    now = rule_sets.in_force(curator.registry, project)
    if document is not None:
        _checked(curator, document)
    learned = rule_sets.learned_in(curator.registry, project, now)
    return curator.tagging.compiled(now.document if document is None else document, learned, whole=False)

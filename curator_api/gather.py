"""What a draft holds at this moment, a page at a time: the rows of its ingredients, and a reason for each that is left out."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec

from tunemill.curator_api import draft_store, licence_store, tokens, version_store
from tunemill.curator_api.contamination import Contamination
from tunemill.curator_api.corrections import is_corrected, newest
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.edits import brought_up
from tunemill.curator_api.errors import NotFound
from tunemill.curator_api.filters import Candidate, Outcome, Sieve
from tunemill.curator_api.licences import Licences
from tunemill.curator_api.pairs import Prompt, Scored, pair, prompt_of, score_of, with_answer
from tunemill.curator_api.publish_files import folder
from tunemill.curator_api.published import rows_of
from tunemill.curator_api.queries import read_query, spelled_out
from tunemill.curator_api.recipe import (
    Decontaminate,
    FromVersion,
    Imported,
    Ingredient,
    Logs,
    Pairs,
    Recipe,
    Search,
    slice_names,
)
from tunemill.curator_api.rows import Changes, Left, Reason, Row, own_messages
from tunemill.curator_api.seen import Seen
from tunemill.curator_api.taken_back import taken_back
from tunemill.curator_api.version_refs import address_of, find_address
from tunemill.privacy.pii import PrivateData
from tunemill.registry import rule_sets
from tunemill.schemas.records import TaggedLog

PAGE = 500

T = TypeVar("T")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A draft as it is gathered, and the moment it is of."""

    name: str  # of the dataset
    asked: Recipe  # as a person wrote it
    recipe: Recipe  # spelled out: what saved searches, `now` and aliases meant
    changes: Changes
    private_data: PrivateData  # the policy that is in force
    point_ms: int
    erased_seen: int  # how many erasures there were before the first log was read


def policy(curator: Curator) -> PrivateData:
    """What is done with private data now, by the rules in force."""
    return curator.tagging.private_data(rule_sets.in_force(curator.registry, curator.settings.project).document)


async def planned(curator: Curator, name: str, recipe: Recipe | None = None) -> Plan:
    """Everything that is read before the first log: the draft, what people did to it, the ledgers.

    A log that is erased afterwards may still be gathered: `erased_seen` is how the one who stores it finds out.

    Args:
        recipe: in place of the draft's own.

    Raises:
        NotFound: there is no such dataset, or no version of those that the recipe names.
        QueryError: a query names a saved search that cannot be read any more.
    """
    plan = await asyncio.to_thread(_planned, curator, name, recipe)
    await curator.index.refresh()
    return plan


async def gather(curator: Curator, plan: Plan, *, among: Plan | None = None) -> AsyncIterator[list[Outcome]]:
    """The rows of every ingredient, and what is left out and why, at most `PAGE` at once; nothing is kept.

    Which of them go on from here is decided over all together (`select`). A log that two ingredients find counts for the
    first that makes a row of it; where none does, for the first.

    Args:
        among: by whose rows the values of private data are numbered where the recipe asks for pseudonyms; its own unless told.

    Raises:
        InvalidRecipe: the tokenizer that the recipe names is not there.
    """
    sieve = await sieve_of(curator, plan)
    if plan.recipe.filters.private_data == "pseudonyms":  # which are known when the last row was seen
        meeting = dataclasses.replace(sieve, count=None, contaminated=None)
        async for _ in _pages(curator, among or plan, meeting):
            pass
        sieve.numbering.settle()
    async for page in _pages(curator, plan, sieve):
        yield page


async def _pages(curator: Curator, plan: Plan, sieve: Sieve) -> AsyncIterator[list[Outcome]]:
    seen = Seen(ingredients=len(plan.recipe.ingredients) - 1)
    for number, one in enumerate(plan.recipe.ingredients):
        step = _Step(curator, plan, sieve, number, seen)
        async for page in _outcomes(step, one):
            if counted := seen.counted(page):
                yield counted
        seen.next_ingredient()


async def sieve_of(curator: Curator, plan: Plan) -> Sieve:
    """What the rows of this plan are let in by."""
    return await asyncio.to_thread(_sieve, curator, plan)


class _Step(NamedTuple):
    """One ingredient's turn."""

    curator: Curator
    plan: Plan
    sieve: Sieve
    number: int
    seen: Seen


def _planned(curator: Curator, name: str, recipe: Recipe | None) -> Plan:
    registry, project = curator.registry, curator.project
    draft = draft_store.find(registry, project, name).draft
    point_ms = time.time_ns() // 1_000_000
    return Plan(
        name=name,
        asked=recipe or draft,
        recipe=_spelled_out(curator, recipe or draft, now_ms=point_ms),
        erased_seen=version_store.erasure_count(registry, project),
        changes=draft_store.changes(registry, project, name),
        private_data=policy(curator),
        point_ms=point_ms,
    )


def _spelled_out(curator: Curator, recipe: Recipe, *, now_ms: int) -> Recipe:
    def meant(number: int, one: Ingredient) -> Ingredient:
        if isinstance(one, Search | Pairs):
            query = read_query(curator.registry, curator.project, one.query, now_ms=now_ms)
            return msgspec.structs.replace(one, query=spelled_out(one.query, query))
        if isinstance(one, FromVersion):
            return msgspec.structs.replace(one, of=numbered(one.of, f"ingredients[{number}].of"))
        return one

    def numbered(address: str, place: str) -> str:
        try:
            return address_of(find_address(curator.registry, curator.project, address))
        except NotFound as error:
            raise NotFound(f"{place}: {error.detail}", place=place) from error

    filters = recipe.filters
    if against := filters.decontaminate:
        names = (numbered(one, f"filters.decontaminate.against[{at}]") for at, one in enumerate(against.against))
        against = msgspec.structs.replace(against, against=tuple(names))
    return msgspec.structs.replace(
        recipe,
        ingredients=tuple(meant(number, one) for number, one in enumerate(recipe.ingredients)),
        filters=msgspec.structs.replace(filters, decontaminate=against),
    )


def _sieve(curator: Curator, plan: Plan) -> Sieve:
    table = licence_store.find_all(curator.registry, curator.project)
    lengths, against = plan.recipe.filters.lengths, plan.recipe.filters.decontaminate
    return Sieve(
        recipe=plan.recipe,
        names=slice_names(plan.recipe),
        changes=plan.changes,
        default_consent=curator.settings.default_consent,
        policy=plan.private_data,
        licences=Licences({one.model: one.trainable for one in table}),
        count=tokens.counter(curator.settings.tokenizers, lengths.tokenizer) if lengths else None,
        contaminated=_contamination(curator, against) if against else None,
    )


def _contamination(curator: Curator, found: Decontaminate) -> Contamination:
    pages = (page for address in found.against for page in _version_pages(curator, address))
    return Contamination(pages, words=found.words)


def _version_pages(curator: Curator, address: str) -> Iterator[list[Row]]:
    """The rows of a version, some at once. Blocks."""
    version = find_address(curator.registry, curator.project, address)
    rows = rows_of(curator.files, folder(curator.project, version.name), version)
    while page := list(islice(rows, PAGE)):
        yield page


async def _outcomes(step: _Step, one: Ingredient) -> AsyncIterator[list[Outcome]]:
    if isinstance(one, Pairs) and one.source == "models":
        async for page in _of_models(step, one):
            yield page
    elif isinstance(one, Search | Pairs):
        async for logs in _matching(step, one.query):
            yield await _of_logs(step, one, logs)
    elif isinstance(one, Logs):
        async for page in _picked(step, one):
            yield page
    else:
        gone = await _gone(step, one)
        async for rows in _in_thread(_stored(step, one)):
            yield await asyncio.to_thread(_of_rows, step, rows, gone)


async def _gone(step: _Step, one: Imported | FromVersion) -> Mapping[str, Reason]:
    """What a version holds that may not be trained on any more, by row_key and log_id."""
    if isinstance(one, Imported):
        return {}
    version = await asyncio.to_thread(find_address, step.curator.registry, step.curator.project, one.of)
    return await taken_back(step.curator, step.sieve, version)


def _stored(step: _Step, one: Imported | FromVersion) -> Iterator[list[Row]]:
    if isinstance(one, FromVersion):
        return _version_pages(step.curator, one.of)
    curator = step.curator
    return draft_store.imported_pages(curator.registry, curator.project, step.plan.name, source=one.source)


async def _matching(step: _Step, query: str) -> AsyncIterator[list[TaggedLog]]:
    """The logs of a search of which no earlier ingredient has a row, with what people did to them since."""
    read = await asyncio.to_thread(
        read_query, step.curator.registry, step.curator.project, query, now_ms=step.plan.point_ms
    )
    async for dumped in _read_ahead(step.curator.index.dump(read)):
        for some in _chunks(dumped):
            fresh = step.seen.fresh([one.log_id for one in some])
            records = [one.record for one, is_fresh in zip(some, fresh, strict=True) if is_fresh]
            yield await asyncio.to_thread(_decoded, step.curator, records)


async def _picked(step: _Step, one: Logs) -> AsyncIterator[list[Outcome]]:
    for some in _chunks(list(dict.fromkeys(one.log_ids))):
        fresh = step.seen.fresh(some)
        wanted = [log_id for log_id, is_fresh in zip(some, fresh, strict=True) if is_fresh]
        logs = await _by_id(step, wanted)
        missing = [_missing(step, log_id) for log_id in wanted if log_id not in logs]
        yield [*missing, *(await _of_logs(step, one, list(logs.values())))]


def _missing(step: _Step, log_id: str) -> Left:
    reason = Reason.ERASED if log_id in step.plan.changes.erased else Reason.NOT_FOUND
    return Left(log_id, reason, {}, step.number)


async def _by_id(step: _Step, log_ids: Sequence[str]) -> dict[str, TaggedLog]:
    found = (await step.curator.index.stored(log_ids=log_ids, trace_ids=())).logs
    logs = [found[log_id].tagged for log_id in log_ids if log_id in found]
    brought = await asyncio.to_thread(brought_up, step.curator.registry, step.curator.project, logs)
    return {tagged.log.log_id: tagged for tagged in brought}


async def _of_logs(step: _Step, one: Search | Pairs | Logs, logs: Sequence[TaggedLog]) -> list[Outcome]:
    wants = isinstance(one, Pairs) or one.answer != "logged"
    corrections = await _corrections(step.curator, logs) if wants else {}
    return await asyncio.to_thread(_sifted, step, one, logs, corrections)


async def _corrections(curator: Curator, logs: Sequence[TaggedLog]) -> dict[str, str]:
    """The better answers of those of these logs that have one, by log_id."""
    corrected = [tagged.log for tagged in logs if is_corrected(tagged)]
    said = await curator.index.feedback_of_each(corrected) if corrected else ()
    found = {log.log_id: newest(items) for log, items in zip(corrected, said, strict=True)}
    return {log_id: text for log_id, text in found.items() if text is not None}


def _sifted(
    step: _Step, one: Search | Pairs | Logs, logs: Sequence[TaggedLog], corrections: dict[str, str]
) -> list[Outcome]:
    return step.sieve.sift([_candidate(step, one, tagged, corrections.get(tagged.log.log_id)) for tagged in logs])


def _candidate(step: _Step, one: Search | Pairs | Logs, tagged: TaggedLog, correction: str | None) -> Candidate | Left:
    made = step.sieve.log(tagged, ingredient=step.number, correction=correction)
    if isinstance(made, Left):
        return made
    if correction is None and (isinstance(one, Pairs) or one.answer == "corrected_only"):
        return step.sieve.left_log(tagged, Reason.NOT_CORRECTED, ingredient=step.number)
    if not isinstance(one, Pairs) or made.row.rejected:  # a person put both answers there
        return made
    worse = own_messages(tagged.shown)[len(tagged.shown.messages) :]
    if not worse or tagged.shown.status != "ok":
        return step.sieve.left_log(tagged, Reason.NO_PAIR, ingredient=step.number)
    return _paired(step, tagged, made, pair(made.row, worse))


def _paired(step: _Step, tagged: TaggedLog, made: Candidate, row: Row | Reason) -> Candidate | Left:
    if isinstance(row, Reason):
        return step.sieve.left_log(tagged, row, ingredient=step.number)
    return made._replace(row=row)


async def _of_models(step: _Step, one: Pairs) -> AsyncIterator[list[Outcome]]:
    """Of each prompt the best against the worst answer: scores first, a few bytes a log, then the logs of each pair."""
    prompts: dict[int, Prompt] = {}
    async for logs in _matching(step, one.query):
        yield await asyncio.to_thread(_scored, step, one, logs, prompts)
    for some in _chunks(list(prompts.values()), PAGE // 2):
        sides = await _by_id(step, [log_id for prompt in some for log_id in {side.log_id for side in prompt}])
        yield await asyncio.to_thread(_of_prompts, step, some, sides)


def _scored(step: _Step, one: Pairs, logs: Sequence[TaggedLog], prompts: dict[int, Prompt]) -> list[Outcome]:
    """Take in the answers that could be a side of a pair, and say why the others could not."""
    left: list[Outcome] = []
    for tagged in logs:
        made = step.sieve.log(tagged, ingredient=step.number)
        score = score_of(tagged, one.prefer or "")
        if isinstance(made, Left):
            left.append(made)
        elif score is None:
            left.append(step.sieve.left_log(tagged, Reason.NO_PAIR, ingredient=step.number))
        else:
            asked = prompt_of(made.row)
            answer = Scored(score, tagged.log.log_id, made.row.slices)
            prompts[asked], gone = with_answer(prompts.get(asked), answer)
            left += [Left(one.log_id, Reason.NO_PAIR, one.slices, step.number) for one in gone]
    return left


def _of_prompts(step: _Step, prompts: Sequence[Prompt], logs: dict[str, TaggedLog]) -> list[Outcome]:
    return step.sieve.sift([_of_prompt(step, prompt, logs) for prompt in prompts])


def _of_prompt(step: _Step, prompt: Prompt, logs: dict[str, TaggedLog]) -> Candidate | Left:
    better, worse = logs.get(prompt.best.log_id), logs.get(prompt.worst.log_id)
    if better is None or worse is None:  # deleted since
        gone = prompt.best if better is None else prompt.worst
        return _missing(step, gone.log_id)._replace(slices=gone.slices)
    if prompt.best.score == prompt.worst.score:
        return step.sieve.left_log(better, Reason.NO_PAIR, ingredient=step.number)
    made, other = (step.sieve.log(tagged, ingredient=step.number) for tagged in (better, worse))
    if isinstance(made, Left) or isinstance(other, Left):
        return made if isinstance(made, Left) else step.sieve.left_log(better, _why(other), ingredient=step.number)
    if made.row.rejected:  # a person put both answers there
        return made
    licence = step.sieve.licences.of(worse.log.model)
    row = pair(made.row, other.row.messages[-1:], licence=licence, log_id=worse.log.log_id)
    return _paired(step, better, made._replace(kinds=made.kinds | other.kinds), row)


def _why(outcome: Candidate | Left) -> Reason:
    return outcome.reason if isinstance(outcome, Left) else Reason.NO_PAIR


def _of_rows(step: _Step, rows: Sequence[Row], gone: Mapping[str, Reason]) -> list[Outcome]:
    """Rows that are no logs; and of a version's, those that are gone since."""
    fresh = step.seen.fresh([row.row_key for row in rows])
    kept = [row for row, is_fresh in zip(rows, fresh, strict=True) if is_fresh]
    return step.sieve.sift([_of_row(step, row, gone) for row in kept])


def _of_row(step: _Step, row: Row, gone: Mapping[str, Reason]) -> Candidate | Left:
    for key in (row.row_key, *row.log_ids):
        if key in gone:
            return Left(row.row_key, gone[key], row.slices, step.number)
    return step.sieve.stored(msgspec.structs.replace(row, ingredient=step.number))


def _decoded(curator: Curator, records: Sequence[bytes]) -> list[TaggedLog]:
    logs = [msgspec.json.decode(record, type=TaggedLog) for record in records]
    return brought_up(curator.registry, curator.project, logs)


def _chunks(items: Sequence[T], size: int = PAGE) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


async def _read_ahead(pages: AsyncIterator[T]) -> AsyncIterator[T]:
    """The same pages: while one is worked on, the index reads the next."""

    async def following() -> T | None:
        return await anext(pages, None)

    under_way = asyncio.create_task(following())
    try:
        while (page := await under_way) is not None:
            under_way = asyncio.create_task(following())
            yield page
    finally:
        under_way.cancel()
        await asyncio.gather(under_way, return_exceptions=True)


async def _in_thread(pages: Iterable[list[T]]) -> AsyncIterator[list[T]]:
    """Pages that are read by blocking."""
    iterator = iter(pages)
    while page := await asyncio.to_thread(lambda: list(islice(iterator, 1))):
        yield page[0]

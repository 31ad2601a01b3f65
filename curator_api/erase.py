"""An erasure, done beside the API: whatever was kept of some logs is removed store by store, and what became of it is written down.

Each step may be cut off anywhere and done again. In this order:
1. find: which logs these are, and by which other names feedback and imported rows know them;
2. forget: the ledger, whose events keep every replay from bringing them back; then the index; likewise what is said about their
   answers, and about traces of which no log is left;
3. drafts: imported rows that say the same;
4. topics: messages, feedback and dead letters, where the bus can change what it has;
5. media that no other log shows;
6. versions: every published one without the rows of these logs, as a new revision, and its report without what names them;
7. runs: those that wait are stopped, reports lose the rows that they show, and it is said which run saw a log;
8. files: what the versions were before;
9. disk: what deletion leaves in the engines' files is overwritten;
10. verify: the index is asked for the logs once more; for what came meanwhile all of it is done again;
11. close: what the request itself says about them goes, too, and its receipt is handed over.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import structlog
from sqlalchemy import Engine

from tunemill.curator_api import erasure_store as store
from tunemill.curator_api import ledger
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.erase_runs import held_by, hide_samples, stop_runs
from tunemill.curator_api.erasure_items import items_of, media_in
from tunemill.curator_api.erasure_store import Item, LeaseLost, Request
from tunemill.curator_api.errors import CuratorError, Unavailable
from tunemill.curator_api.gather import policy
from tunemill.curator_api.job_work import told_within
from tunemill.curator_api.leases import kept
from tunemill.curator_api.leftovers import being_written, clean_all
from tunemill.curator_api.media_bytes import files_of
from tunemill.curator_api.problems import translated
from tunemill.curator_api.queries import read_query, total_of
from tunemill.curator_api.receipt import INDEX, Line, Receipt, about_to_remove, step_done
from tunemill.curator_api.redact import Asked, held_in_versions, redact, redacted_by, told_of_left_out
from tunemill.curator_api.rows import IMPORTED
from tunemill.curator_api.scrub import Erased, can_scrub, logs_of, scrub
from tunemill.curator_api.slices import MOST_CHARACTERS, logs_with
from tunemill.indexer.ast import Everything, Is, Or, Query
from tunemill.indexer.errors import SearchIndexError
from tunemill.indexer.fields import METADATA
from tunemill.indexer.search import SearchIndex
from tunemill.registry import outbox
from tunemill.registry.open import expunge
from tunemill.registry.tables import now_ms
from tunemill.schemas.about import names
from tunemill.schemas.ids import new_id
from tunemill.schemas.records import TaggedLog
from tunemill.schemas.topics import ERASURES

LOOK_EVERY_S = 1.0
LONGEST_WAIT_S = 30.0  # between attempts while something is away
PAGE = 500  # logs; a few MiB
_TRACES = 100  # in one search
RELAYED_WITHIN_S, _RELAYED_LOOK_S = 30.0, 0.1
ROUNDS = 3  # of finding logs that came while others were erased

DRAFTS, MEDIA, FILES, REPORTS, REGISTRY = "imported rows", "media", "dataset files", "run reports", "registry"

_log = structlog.get_logger()


@dataclass(slots=True)
class Erasing:
    """One request, and what became of it so far."""

    on: Curator
    request: Request

    @property
    def registry(self) -> Engine:
        """Where the request stands."""
        return self.on.registry

    async def names(self, kind: store.ItemKind) -> list[str]:
        """What it is about."""
        return await asyncio.to_thread(store.names, self.registry, self.request.request_id, kind)

    async def add(self, items: Collection[Item]) -> None:
        """It is about these, too."""
        await asyncio.to_thread(store.add_items, self.registry, self.request, items)

    async def count(self, name: str, found: int) -> None:
        """Write down what is about to be removed from a store."""
        await self.note(about_to_remove(self.request.receipt, [(name, found)]))

    async def done(self, step: str, lines: Sequence[Line]) -> None:
        """Write down that a step is over."""
        await self.note(step_done(self.request.receipt, step, lines))

    async def note(self, receipt: Receipt) -> None:
        """Write down what was done so far."""
        await asyncio.to_thread(store.note, self.registry, self.request, receipt)
        self.request = msgspec.structs.replace(self.request, receipt=receipt)


Step = Callable[[Erasing], Awaitable[Sequence[Line]]]


async def work_until(stop: asyncio.Event, on: Curator) -> None:
    """Erase what people ask for until told to stop; whatever is away is waited for."""
    owner = f"{socket.gethostname()}:{os.getpid()}:{new_id()}"[:128]
    wait_s = LOOK_EVERY_S
    while not stop.is_set():
        try:
            if await do_next(on, owner):
                continue
            wait_s = LOOK_EVERY_S
        except Exception as error:  # the index, the bus, the files or the registry are away
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            _log.warning("erasure_waits", error=type(error).__name__, again_in_s=wait_s)
        await told_within(stop, wait_s)


async def do_next(on: Curator, owner: str) -> bool:
    """Work on the oldest request that is not done, if nobody else does; whether there was one.

    Raises:
        Exception: something is away; the request stays where it is.
    """
    claimed = await asyncio.to_thread(store.claim, on.registry, on.project, owner)
    if claimed is None:
        return False
    _log.info("erasure_taken_up", request_id=claimed.request_id, steps=len(claimed.receipt.steps))
    work = Erasing(on, claimed)
    try:
        async with kept(partial(store.renew, on.registry, claimed), lease_ms=store.LEASE_MS):
            await _erase(work)
    except LeaseLost:
        _log.info("erasure_left", request_id=claimed.request_id)
    except Exception as error:
        if isinstance(error, SearchIndexError | Unavailable) or isinstance(translated(error), Unavailable):
            raise
        await asyncio.to_thread(_fail, work, error)
    finally:
        await asyncio.to_thread(store.let_go, on.registry, claimed)
    return True


def subject_query(subject: str) -> Query:
    """The logs of a person, or of whatever else an application names so."""
    return Or((Is("user", subject), Is("session", subject), Is(f"{METADATA}subject", subject)))


async def _erase(work: Erasing) -> None:
    for turn in range(ROUNDS):
        for name, step in STEPS.items():
            if name not in work.request.receipt.steps:
                await work.done(name, await step(work))
                _log.info("erasure_step", request_id=work.request.request_id, step=name)
        if work.request.receipt.verified or work.request.receipt.logs or turn == ROUNDS - 1:
            break  # its logs are counted only when it is closed: it is not known any more which they were
        await work.note(msgspec.structs.replace(work.request.receipt, steps=("find",)))
    if "close" not in work.request.receipt.steps:
        await work.done("close", await _close(work))
    receipt = msgspec.structs.replace(work.request.receipt, counted={})
    await asyncio.to_thread(store.finish, work.registry, work.request, receipt)


async def _find(work: Erasing) -> list[Line]:
    """1. The logs, as the index has them."""
    scope, on = work.request.scope, work.on
    if scope.value is None:
        return []
    if scope.kind == "log":
        await work.add([Item("log", scope.value)])
        logs = (await on.index.stored(log_ids=[scope.value], trace_ids=[])).logs
        await _take_in(work, [one.tagged for one in logs.values()])
        await work.count(INDEX, len(logs))
        return []
    if scope.kind == "subject":  # reports may name it for logs that the index does not have any more
        await work.add([Item("value", scope.value[:MOST_CHARACTERS])])
    await on.index.refresh()
    query = await query_of(on, work.request)
    count, page = 0, list[TaggedLog]()
    async for tagged in on.index.scan(query, limit=None):
        page.append(tagged)
        if len(page) == PAGE:
            count += await _take_in(work, page)
            page = []
    count += await _take_in(work, page)
    await work.count(INDEX, count)
    return []


async def query_of(on: Curator, request: Request) -> Query:
    """The logs that a request about a subject or a query is about, with what saved searches mean by now."""
    value = request.scope.value or ""
    if request.scope.kind == "subject":
        return subject_query(value)
    return await asyncio.to_thread(read_query, on.registry, on.project, value, now_ms=request.created_ms)


async def _take_in(work: Erasing, logs: Sequence[TaggedLog]) -> int:
    if logs:
        private_data = await asyncio.to_thread(policy, work.on)
        items = [item for tagged in logs for item in items_of(tagged, private_data)]
        await work.add(items)
    return len(logs)


async def _forget(work: Erasing) -> list[Line]:
    """2. The ledger first: what comes again from now on is dropped; then the index, with what was said about the logs."""
    log_ids = await work.names("log")
    await _forget_logs(work, log_ids)
    await _forget_said(work)
    return [Line(store=INDEX, removed=0, note="with the feedback about these logs, and what their traces say")]


async def _forget_logs(work: Erasing, log_ids: Sequence[str]) -> None:
    on = work.on
    for some in store.in_parts(log_ids):
        await asyncio.to_thread(ledger.erase_page, on.registry, on.project, some, by=work.request.by)
        await on.index.delete(some)


async def _forget_said(work: Erasing) -> None:
    """Feedback and traces' notes that name no log: about answers of these logs, and about traces of which no log is left.

    A trace of which is said that the subject is its user goes, too, with calls or without.
    """
    on, scope = work.on, work.request.scope
    ended = await _ended(on.index, await work.names("trace"))
    if scope.kind == "subject" and scope.value is not None:
        ended += await on.index.traces_of(scope.value)
    await work.add([Item("note", one) for one in ended])
    about = [name for one in await work.names("answer") for name in names(None, one, None)]
    about += [name for one in await work.names("note") for name in names(None, None, one)]
    for some in store.in_parts([name for name in about if len(name) <= store.LONGEST_NAME]):
        await asyncio.to_thread(ledger.erase_said, on.registry, on.project, some, by=work.request.by)
        await on.index.forget_said(some)


async def _ended(index: SearchIndex, trace_ids: Sequence[str]) -> list[str]:
    """Those of these traces of which the index has no log."""
    await index.refresh()
    ended: list[str] = []
    for start in range(0, len(trace_ids), _TRACES):
        some = trace_ids[start : start + _TRACES]
        if not await _has_logs(index, some):
            ended += some
        else:
            ended += [one for one in some if not await _has_logs(index, [one])]
    return ended


async def _has_logs(index: SearchIndex, trace_ids: Sequence[str]) -> bool:
    query = Or(tuple(Is("trace", one) for one in trace_ids))
    return await total_of(index, query) > 0


async def _drafts(work: Erasing) -> list[Line]:
    """3. Rows that somebody brought into a draft and that say what one of the logs said."""
    rows, project, by = await work.names("row"), work.on.project, work.request.by
    removed = await asyncio.to_thread(store.forget_rows, work.registry, project, rows, by=by)
    return [Line(store=DRAFTS, removed=removed, note="whose text is that of a log as a dataset has it")]


async def _topics(work: Erasing) -> list[Line]:
    """4. Of a subject also logs that the index does not have, as the retention dropped them or they are on their way."""
    scope, on = work.request.scope, work.on
    subject = scope.value if scope.kind == "subject" else None
    if subject is not None and await can_scrub(on.bus):
        async for found in logs_of(on.bus, on.told_in, subject):
            items = [Item("log", told.log_id) for told in found if told.log_id]
            items += [Item("answer", told.response_id) for told in found if told.response_id]
            items += [Item("trace", told.trace_id) for told in found if told.trace_id]
            await work.add(items)
            await _forget_logs(work, [item.name for item in items if item.kind == "log"])
        await _forget_said(work)
    erased = Erased(
        log_ids=frozenset(await work.names("log")),
        answers=frozenset(await work.names("answer")),
        traces=frozenset(await work.names("note")),
        subject=subject,
    )
    lines = await scrub(on.bus, on.told_in, erased)
    await on.dead_letters.forget()
    return lines


async def _media(work: Erasing) -> list[Line]:
    """5. Images and other files that no other log shows; to know, every log is looked at, which is done only if there are any."""
    media = set(await work.names("media"))
    if media:
        async for dumped in work.on.index.dump(Everything()):
            media -= await asyncio.to_thread(media_in, [one.record for one in dumped])
    paths = [path for one in sorted(media) for path in files_of(work.on, one)]
    await asyncio.to_thread(work.on.files.delete, paths)
    return [Line(store=MEDIA, removed=len(media), note="that no other log shows")]


async def _versions(work: Erasing) -> list[Line]:
    """6. The keys are those of logs, and of rows that were imported and say what one of the logs says."""
    rows, project, by = await work.names("row"), work.on.project, work.request.by
    held = await asyncio.to_thread(held_in_versions, work.on, rows)
    await asyncio.to_thread(ledger.keep_out, work.registry, project, sorted(held), by=by)  # who publishes finds it
    told = await asyncio.to_thread(told_of_left_out, work.on, await work.names("value"))
    values = {one for one in told if await _is_of_no_log(work.on.index, *one)}
    asked = Asked(work.request.request_id, by, [*await work.names("log"), *rows], frozenset(values))
    await asyncio.to_thread(redact, work.on, asked)
    hit = await asyncio.to_thread(redacted_by, work.on, work.request.request_id)
    await work.note(msgspec.structs.replace(work.request.receipt, versions=hit))
    return []


async def _is_of_no_log(index: SearchIndex, name: str, value: str) -> bool:
    query = logs_with(name, value)
    return query is not None and not await total_of(index, query)


async def _runs(work: Erasing) -> list[Line]:
    """7. After this nobody begins to train on what the versions were."""
    held = await asyncio.to_thread(held_by, work.on, work.request.receipt.versions)
    told = await asyncio.to_thread(stop_runs, work.on, held, by=work.request.by)
    await work.note(msgspec.structs.replace(work.request.receipt, runs=tuple(told)))
    hidden = await asyncio.to_thread(hide_samples, work.on, told)
    return [Line(store=REPORTS, removed=hidden, note="reports of runs, without the rows that they showed")]


async def _files(work: Erasing) -> list[Line]:
    """8. What nobody can reach by a version any more. Who was at work on a file meanwhile is done with it, or dead."""
    await _written_out(work.on)
    rows = await work.names("row")
    row_ids = {key.removeprefix(IMPORTED) for key in rows}
    removed = await asyncio.to_thread(clean_all, work.on, {*await work.names("log"), *rows}, row_ids)
    return [Line(store=FILES, removed=removed, note="files of datasets that held a row or an id of these logs")]


async def _written_out(on: Curator) -> None:
    now = now_ms()
    while True:
        if not await asyncio.to_thread(being_written, on, now):
            return
        await asyncio.sleep(LOOK_EVERY_S)


async def _disk(work: Erasing) -> list[Line]:
    """9. After the stream was told: what it has in hand meanwhile it deletes by itself."""
    await _told_everyone(work)
    await work.on.index.expunge()
    return []


async def _told_everyone(work: Erasing) -> None:
    """The relay publishes the ledger's events; until it has, a stream may write one of the logs."""
    for _ in range(round(RELAYED_WITHIN_S / _RELAYED_LOOK_S)):
        if not await asyncio.to_thread(outbox.pending, work.registry, [ERASURES]):
            return
        await asyncio.sleep(_RELAYED_LOOK_S)
    raise Unavailable("the erasures are not on the bus yet")


async def _verify(work: Erasing) -> list[Line]:
    """10. Also logs that came meanwhile: of the subject or the query, or such as a stream had in hand."""
    late = await _late(work)
    await _take_in(work, late)
    left = [tagged.log.log_id for tagged in late] + [log_id async for log_id in _left(work)]
    notes = await _notes_left(work)
    await work.note(msgspec.structs.replace(work.request.receipt, verified=not left and not notes))
    if left:
        await work.count(INDEX, len(set(left)))
    return []


async def _late(work: Erasing) -> list[TaggedLog]:
    scope = work.request.scope
    if scope.value is None or scope.kind == "log":
        return []
    await work.on.index.refresh()
    return [tagged async for tagged in work.on.index.scan(await query_of(work.on, work.request), limit=None)]


async def _notes_left(work: Erasing) -> Sequence[str]:
    scope = work.request.scope
    return [] if scope.kind != "subject" or scope.value is None else await work.on.index.traces_of(scope.value)


async def _left(work: Erasing) -> AsyncIterator[str]:
    for some in store.in_parts(await work.names("log")):
        for log_id in (await work.on.index.stored(log_ids=some, trace_ids=[])).logs:
            yield log_id


async def _close(work: Erasing) -> list[Line]:
    """11. The subject's name, the query and the list of logs go. The ledger keeps the logs' ids: they must not come back."""
    logs = await asyncio.to_thread(store.count_logs, work.registry, work.request.request_id)
    receipt = msgspec.structs.replace(work.request.receipt, logs=max(logs, work.request.receipt.logs))
    await work.note(receipt)
    work.request = await asyncio.to_thread(store.forget_what, work.registry, work.request)
    overwritten = await asyncio.to_thread(expunge, work.registry)
    note = "edits of these logs and of their rows; their ids stay, so that they do not come back"
    if not overwritten:
        note += (
            "; PostgreSQL overwrites old rows by its own vacuum, and its log and back-ups keep them as you set it up"
        )
    return [Line(store=REGISTRY, removed=receipt.logs, note=note)]


STEPS: dict[str, Step] = {
    "find": _find,
    "forget": _forget,
    "drafts": _drafts,
    "topics": _topics,
    "media": _media,
    "versions": _versions,
    "runs": _runs,
    "files": _files,
    "disk": _disk,
    "verify": _verify,
}


def _fail(work: Erasing, error: Exception) -> None:
    """Leave it with an error of ours; its text might hold text of a log. What was removed stays removed."""
    _log.error("erasure_failed", request_id=work.request.request_id, error=type(error).__name__)
    message = str(error) if isinstance(error, CuratorError) else f"unforeseen {type(error).__name__}"
    with contextlib.suppress(LeaseLost):
        store.fail(work.registry, work.request, msgspec.structs.replace(work.request.receipt, error=message))

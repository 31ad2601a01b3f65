"""The review queue: the logs of a search that nobody has decided on, one at a time, and what a person decides of each.

A decision is a tag that a person sets, so that it is searched for, gathered into datasets and learned from as any other. It takes the
opposite one off, which is a label, too: this log is none of those.
"""

import asyncio
from dataclasses import replace
from typing import NamedTuple

from tunemill.curator_api import edit_store
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.edit_store import Act
from tunemill.curator_api.edits import change
from tunemill.curator_api.errors import BadRequest, EditedMeanwhile, NotFound
from tunemill.curator_api.logs import find_log
from tunemill.curator_api.queries import read_query, total_of
from tunemill.indexer.ast import And, Everything, Not, Query, StartsWith
from tunemill.indexer.cursor import moment
from tunemill.indexer.errors import CursorInvalid
from tunemill.indexer.search import SearchRequest, Sort
from tunemill.registry.tables import now_ms
from tunemill.schemas.records import TaggedLog

KEEP, REJECT = "review:keep", "review:reject"
_ACTS = {
    "keep": (Act("untag", REJECT), Act("tag", KEEP)),
    "reject": (Act("untag", KEEP), Act("tag", REJECT)),
}
MOST_PASSED = 100  # logs that were decided on since a pass began; with more of them the next pass begins
_DECIDED = StartsWith("tag", "review:")


class Queue(NamedTuple):
    """Where a person is in a queue."""

    log_id: str | None  # the log to decide on; None: this pass is over
    following: str | None  # the place of the next; None: this is the pass's last
    left: int  # logs that nobody has decided on, this one and those that were skipped among them
    done: int


async def queue(curator: Curator, text: str, *, sort: Sort, after: str | None) -> Queue:
    """The first log from a place on that nobody has decided on. A place that is over is taken for the start.

    Raises:
        QueryError: the text is not in the query language.
    """
    began_ms = _moment(after) or now_ms()
    query = await asyncio.to_thread(read_query, curator.registry, curator.project, text, now_ms=began_ms)
    left, done = _also(query, Not(_DECIDED)), _also(query, _DECIDED)
    totals = await asyncio.gather(total_of(curator.index, left), total_of(curator.index, done))
    wanted = SearchRequest(left, limit=1, cursor=after, sort=sort, counts=False, now_ms=began_ms)
    log_id, following = await _next(curator, wanted)
    return Queue(log_id, following, *totals)


async def decide(curator: Curator, log_id: str, decision: str, *, by: str, expected: int) -> None:
    """Record what a person decides of a log: keep or reject.

    Args:
        expected: the log's revision, as the person saw it.

    Raises:
        BadRequest: that is no decision.
        NotFound: there is no such log.
        EditedMeanwhile: it is not as the person saw it.
    """
    acts = _ACTS.get(decision)
    if acts is None:
        raise BadRequest(f"a log is decided on by one of {', '.join(_ACTS)}")
    await change(curator, log_id, acts, by=by, expected=expected)
    await curator.index.refresh()


async def take_back(curator: Curator, log_id: str, revision: int, *, by: str) -> None:
    """Undo a person's decision of a log, and the edit that came with it: nobody's word on either stays.

    Args:
        revision: the log's last before the decision.

    Raises:
        NotFound: this person decided nothing since.
        EditedMeanwhile: somebody else decided on the log since, or edited it, or did something to it just now.
    """
    here = (curator.registry, curator.project)
    history = await asyncio.to_thread(edit_store.edits_of, *here, [log_id], texts=False)
    rows = history.get(log_id, [])
    since = [row for row in rows if row.revision > revision]
    if any(row.by != by and (row.tag in (KEEP, REJECT) or row.kind == "messages") for row in since):
        raise EditedMeanwhile(
            "somebody else decided on the log since, and their word stays", revision=rows[-1].revision
        )
    decided = [row for row in since if row.by == by]
    acts = [Act("reset", tag) for tag in (KEEP, REJECT) if any(row.tag == tag for row in decided)]
    if any(row.kind == "messages" for row in decided):
        before = await asyncio.to_thread(edit_store.messages_at, *here, log_id, revision)
        acts.append(Act("messages", value=before))
    if not acts:
        raise NotFound("there is no decision of yours to take back")
    await change(curator, log_id, acts, by=by, why="taken back", expected=rows[-1].revision)
    await curator.index.refresh()


async def _next(curator: Curator, wanted: SearchRequest) -> tuple[str | None, str | None]:
    """The first log from a place on that is there and that nobody has decided on by now, and the place of the next."""
    for _ in range(MOST_PASSED):
        try:
            page = await curator.index.search(wanted)
        except CursorInvalid:
            wanted = replace(wanted, cursor=None)
            page = await curator.index.search(wanted)
        for hit in page.hits:  # of the moment at which the pass began
            tagged = await _found(curator, hit.log.log.log_id)
            if tagged is not None and not any(tag.tag.startswith(_DECIDED.prefix) for tag in tagged.tags):
                return tagged.log.log_id, page.cursor
        if page.cursor is None:
            break
        wanted = replace(wanted, cursor=page.cursor)
    return None, None


async def _found(curator: Curator, log_id: str) -> TaggedLog | None:
    try:
        return await find_log(curator, log_id)
    except NotFound:
        return None


def _moment(after: str | None) -> int | None:
    try:
        return moment(after)
    except CursorInvalid:
        return None


def _also(query: Query, term: Query) -> Query:
    return term if isinstance(query, Everything) else And((query, term))

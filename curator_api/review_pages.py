"""The page of the review queue. Every key of it is a button of a form, so that it works without a script."""

from starlette.responses import Response

from tunemill.curator_api import page_text
from tunemill.curator_api.errors import BadQuery, BadRequest
from tunemill.curator_api.page_edit import with_texts
from tunemill.curator_api.page_guard import form
from tunemill.curator_api.page_source import Json
from tunemill.curator_api.page_visit import Visit, go
from tunemill.curator_api.review import KEEP

PATH = "/review"
SORTS = ("newest", "oldest", "relevance", "feedback", "length", "cost", "latency")


async def review(visit: Visit) -> Response:
    """One log of the queue, or what can be done with those that were decided on."""
    query, sort = visit.asked("q") or "", visit.asked("sort")
    place = {"q": query, "sort": sort if sort in SORTS else SORTS[0], "after": visit.asked("after")}
    frame: Json = {"title": "Review", "section": PATH, "sorts": SORTS, **place}
    try:
        queue = await visit.source.review(query, sort=place["sort"] or "", after=place["after"])
    except BadQuery as error:
        problem = {"detail": error.detail, "column": error.more.get("column")}
        return visit.page("review.html", status=error.status, problem=problem, queue=None, **frame)
    if log_id := visit.asked("log"):  # the one that was asked for; the queue's own comes after it
        queue |= {"log_id": log_id, "following": place["after"]}
    elif queue["log_id"] is None and place["after"]:  # what was skipped comes again
        return go(page_text.address(PATH, q=query, sort=sort, undo=visit.asked("undo"), to=visit.asked("to")))
    log = None if queue["log_id"] is None else await visit.source.log(queue["log_id"])
    undo = {"log_id": visit.asked("undo"), "revision": visit.asked("to")}
    kept = page_text.toggled(query, page_text.term("tag", KEEP))
    return visit.page("review.html", problem=None, queue=queue, log=log, undo=undo, kept=kept, **frame)


async def decide(visit: Visit) -> Response:
    """What a form of the page asks for, and on to the next log."""
    sent = await form(visit.request)
    log_id, act = sent.get("log_id", ""), sent.get("act", "")
    on = {"q": sent.get("q"), "sort": sent.get("sort"), "after": sent.get("following")}
    if act == "undo":
        await visit.source.undo_review(log_id, _revision(sent), by=visit.who)
        return go(page_text.address(PATH, **on | {"log": log_id, "after": sent.get("after")}))
    if act == "tag":
        await visit.source.edit_tags(log_id, add=[sent.get("add", "").strip()], remove=[], by=visit.who)
        return go(page_text.address(PATH, **on, log=log_id, undo=sent.get("undo"), to=sent.get("to")))
    revision = _revision(sent)
    if act == "fix":
        seen = await visit.source.log(log_id)
        messages, output = (with_texts(seen[name], sent, name) for name in ("messages", "output"))
        await visit.source.fix_log(log_id, messages=messages, output=output, revision=revision, by=visit.who)
    else:
        await visit.source.decide(log_id, act, revision=revision, by=visit.who)
    return go(page_text.address(PATH, **on, undo=log_id, to=str(revision)))


def _revision(sent: dict[str, str]) -> int:
    try:
        return int(sent.get("revision", ""))
    except ValueError as error:
        raise BadRequest("the form lacks the log's revision: reload the page") from error

"""The page of saved searches."""

from starlette.responses import Response

from tunemill.curator_api.page_guard import form
from tunemill.curator_api.page_visit import Visit, go

PATH = "/searches"


async def searches(visit: Visit) -> Response:
    """Every saved search, and a form for another."""
    saved = await visit.source.saved_searches()
    return visit.page("searches.html", title="Saved searches", section=PATH, saved=saved, q=visit.asked("q") or "")


async def save(visit: Visit) -> Response:
    """Keep a search, or forget one."""
    sent = await form(visit.request)
    name = sent.get("name", "").strip()
    if sent.get("act") == "delete":
        await visit.source.delete_search(name, by=visit.who)
    else:
        await visit.source.save_search(name, sent.get("query", "").strip(), by=visit.who)
    return go(PATH)

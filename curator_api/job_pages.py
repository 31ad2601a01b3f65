"""The pages of work on many logs: what there is, how far it is, and the forms that begin it, stop it and take it back."""

from urllib.parse import quote

from starlette.responses import Response

from tunemill.curator_api.errors import BadQuery
from tunemill.curator_api.page_guard import form
from tunemill.curator_api.page_source import Json
from tunemill.curator_api.page_visit import Visit, go

PATH = "/jobs"
REFRESH_S = 2  # while a job moves
_MOVING = ("running", "undoing")


async def jobs(visit: Visit) -> Response:
    """Every job, the newest first."""
    found = await visit.source.jobs()
    refresh_s = REFRESH_S if any(job["status"] in _MOVING for job in found) else None
    return visit.page("jobs.html", title="Jobs", section=PATH, jobs=found, refresh_s=refresh_s)


async def job(visit: Visit) -> Response:
    """How far one is."""
    found = await visit.source.job(visit.at("job_id"))
    moving = found["status"] in _MOVING
    refresh_s = REFRESH_S if moving else None
    return visit.page("job.html", title="Job", section=PATH, job=found, moving=moving, refresh_s=refresh_s)


async def new_job(visit: Visit) -> Response:
    """How many logs match a query, and what can be done to all of them."""
    query = visit.asked("q") or ""
    shown: Json = {"title": "All that match", "section": PATH, "q": query}
    try:
        counted = await visit.source.count_logs(query)
    except BadQuery as error:
        return visit.page("job_new.html", status=error.status, problem=error.detail, counted=None, **shown)
    return visit.page("job_new.html", problem=None, counted=counted, **shown)


async def start(visit: Visit) -> Response:
    """Do to all of them what one of the forms says, if they still are as many as it showed."""
    sent = await form(visit.request)
    wanted: Json = {name: sent[name] for name in ("kind", "query", "expected_total") if name in sent}
    wanted |= {name: tags for name in ("add", "remove") if (tags := sent.get(name, "").split())}
    wanted |= {name: text for name in ("consent", "why") if (text := sent.get(name, "").strip())}
    wanted |= {"everything": True} if sent.get("everything") else {}
    return go(_path(await visit.source.start_job(wanted, by=visit.who)))


async def cancel(visit: Visit) -> Response:
    """Stop it where it is."""
    await visit.source.cancel_job(visit.at("job_id"), by=visit.who)
    return go(_path(visit.at("job_id")))


async def undo(visit: Visit) -> Response:
    """Take back what it did."""
    await visit.source.undo_job(visit.at("job_id"), by=visit.who)
    return go(_path(visit.at("job_id")))


def _path(job_id: str) -> str:
    return f"{PATH}/{quote(job_id, safe='')}"

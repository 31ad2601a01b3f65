"""The pages of training runs: which there are, what one came to, two side by side; and the forms that steer them."""

from urllib.parse import quote

from starlette.responses import Response

from tunemill.curator_api import run_view
from tunemill.curator_api.draft_pages import dataset_path
from tunemill.curator_api.errors import NotFound, Unprocessable
from tunemill.curator_api.page_guard import form
from tunemill.curator_api.page_source import Json
from tunemill.curator_api.page_visit import Visit, go
from tunemill.curator_api.run_payloads import STATUSES

PATH = "/runs"
REFRESH_S = 2  # while a run moves
METHODS = ("lora", "qlora", "full")
_MAX_DIGITS = 18  # of a number in a form


async def runs(visit: Visit) -> Response:
    """The newest runs; of one dataset, or of one status."""
    name, status = visit.asked("name"), visit.asked("status")
    found = await visit.source.runs(name=name, status=status)
    refresh_s = REFRESH_S if any(map(run_view.running, found)) else None
    shown: Json = {"runs": found, "name": name, "asked": status, "statuses": STATUSES, "refresh_s": refresh_s}
    return visit.page("runs.html", title="Training runs", section=PATH, **shown)


async def run(visit: Visit) -> Response:
    """One run: how far it is, what it came to, and what may be done with it."""
    found = await visit.source.run(visit.at("run_id"))
    events = await visit.source.run_events(visit.at("run_id"))
    running, result = run_view.running(found), found.get("result")
    return visit.page(
        "run.html",
        title=f"Run {found['run_id']}",
        section=PATH,
        run=found,
        running=running,
        refresh_s=REFRESH_S if running else None,
        plan=run_view.plan(found),
        scores=run_view.scores(result),
        slices=run_view.slices(result),
        forgotten=run_view.forgotten(result),
        topics=run_view.topics(result),
        gates=run_view.gates(result),
        curve=run_view.curve(events),
        samples=[] if running else await visit.source.run_samples(visit.at("run_id")),
        can_resume=run_view.can_resume(found),
        aliases=await _aliases(visit, found),
        events=[event for event in events if event["type"] != "metrics"],
    )


async def compare(visit: Visit) -> Response:
    """Two runs side by side.

    Raises:
        Unprocessable: not two were chosen.
    """
    chosen = visit.request.query_params.getlist("run")
    if len(chosen) != 2:
        raise Unprocessable("choose two runs to compare")
    found = await visit.source.compare_runs(chosen[0], chosen[1])
    return visit.page("run_compare.html", title="Two runs", section=PATH, found=found)


async def cancel(visit: Visit) -> Response:
    """Ask it to stop."""
    await visit.source.cancel_run(visit.at("run_id"), by=visit.who)
    return go(_path(visit))


async def resume(visit: Visit) -> Response:
    """Have it go on."""
    await visit.source.resume_run(visit.at("run_id"), by=visit.who)
    return go(_path(visit))


async def promote(visit: Visit) -> Response:
    """Give its result a name."""
    sent = await form(visit.request)
    wanted: Json = {"alias": sent.get("alias", "").strip()}
    wanted |= {"override": reason} if (reason := sent.get("override", "").strip()) else {}
    await visit.source.promote_run(visit.at("run_id"), wanted, by=visit.who)
    return go(_path(visit))


async def put_policy(visit: Visit) -> Response:
    """Have a dataset trained on by itself, or no more.

    Raises:
        Unprocessable: there is no base model, or the quiet period is no number.
    """
    sent, name = await form(visit.request), visit.at("name")
    if not sent.get("on"):
        if await visit.source.policy(name) is not None:
            await visit.source.delete_policy(name, by=visit.who)
        return go(f"{dataset_path(name)}#training-heading")
    base, quiet = sent.get("base", "").strip(), sent.get("quiet_s", "").strip()
    if not base or not quiet.isdecimal() or len(quiet) > _MAX_DIGITS:
        raise Unprocessable("training needs a base model, and a quiet period in whole seconds")
    known = await visit.source.policy(name) or {"recipe": {}, "priority": 0}
    recipe = {**known["recipe"], "base": base, "method": sent.get("method", METHODS[0])}
    on = f"alias:{sent.get('alias', '').strip()}" if sent["on"] == "alias" else sent["on"]
    wanted: Json = {"on": on, "recipe": recipe, "quiet_s": int(quiet), "priority": known["priority"]}
    await visit.source.put_policy(name, wanted, by=visit.who)
    return go(f"{dataset_path(name)}#training-heading")


async def _aliases(visit: Visit, found: Json) -> list[str]:
    """The names that a run's model is used by."""
    if not found.get("artefact_url"):
        return []
    try:
        names = (await visit.source.models(found["name"]))["aliases"]
    except NotFound:  # the order came from elsewhere, on a dataset that is not kept here
        return []
    return [one["alias"] for one in names if one["run_id"] == found["run_id"]]


def _path(visit: Visit) -> str:
    return f"{PATH}/{quote(visit.at('run_id'), safe='')}"


ROUTES = (
    ("GET", PATH, runs),
    ("GET", f"{PATH}/compare", compare),
    ("GET", f"{PATH}/{{run_id}}", run),
    ("POST", f"{PATH}/{{run_id}}/cancel", cancel),
    ("POST", f"{PATH}/{{run_id}}/resume", resume),
    ("POST", f"{PATH}/{{run_id}}/promote", promote),
    ("POST", "/datasets/{name}/training", put_policy),
)

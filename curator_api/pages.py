"""The pages people look at: HTML made here from the same values that the JSON endpoints give. Forms post here and are redirected."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import jinja2
import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from tunemill.curator_api import (
    charts,
    draft_pages,
    erasure_pages,
    job_pages,
    log_pages,
    page_chat,
    page_text,
    review_pages,
    run_pages,
    saved_pages,
    version_pages,
)
from tunemill.curator_api.draft_pages import dataset_path
from tunemill.curator_api.errors import BadQuery, CuratorError, NotFound, Unauthorised, Unprocessable
from tunemill.curator_api.page_guard import COOKIE, form, own_path, refuse_other_sites, remember
from tunemill.curator_api.page_source import Json, PageSource
from tunemill.curator_api.page_visit import Visit, go
from tunemill.indexer.grammar import EXAMPLES
from tunemill.indexer.search import SORTS

HERE = Path(__file__).parent
STATIC = {
    "page.css": "text/css",
    "refresh.js": "text/javascript",
    "review.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
HITS_PER_PAGE, REJECTED_SHOWN = 20, 200

Handler = Callable[[Visit], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def pages_router(source: PageSource) -> APIRouter:
    """Every page, its forms and its own files. Include it without a prefix."""
    router = APIRouter(include_in_schema=False)
    templates = _templates()
    for method, path, handler in ROUTES:
        router.add_route(path, _guarded(handler, source, templates), methods=[method], include_in_schema=False)
    router.add_route("/sign-in", _open(_sign_in_page, source, templates), methods=["GET"], include_in_schema=False)
    router.add_route("/sign-in", _open(_sign_in, source, templates), methods=["POST"], include_in_schema=False)
    router.add_route("/static/{name}", _static, methods=["GET"], include_in_schema=False)
    return router


async def _search(visit: Visit) -> Response:
    query, cursor = visit.asked("q") or "", visit.asked("cursor")
    sort = asked if (asked := visit.asked("sort")) in SORTS else SORTS[0]
    frame: Json = {"title": query or "Logs", "section": "/", "sorts": SORTS, "examples": EXAMPLES}
    shown: Json = {**frame, "q": query, "sort": sort, "cursor": cursor}
    try:
        page = await visit.source.search(query, limit=HITS_PER_PAGE, cursor=cursor, sort=sort)
    except BadQuery as error:
        problem = {"detail": error.detail, "column": error.more.get("column")}
        return visit.page("search.html", status=error.status, problem=problem, **shown)
    return visit.page("search.html", page=page, problem=None, **shown)


async def _rejected(visit: Visit) -> Response:
    stage, error_code = visit.asked("stage"), visit.asked("error_code")
    found = await visit.source.rejected(limit=REJECTED_SHOWN, stage=stage, error_code=error_code)
    said = {name: visit.asked(name) for name in ("redriven", "no_payload", "not_found")}
    return visit.page(
        "rejected.html",
        title="Rejected records",
        section="/rejected",
        found=found,
        said=said,
        stage=stage,
        error_code=error_code,
    )


async def _rejected_one(visit: Visit) -> Response:
    letter = await visit.source.rejected_one(visit.at("rejected_id"))
    return visit.page("rejected_one.html", title="Rejected record", section="/rejected", letter=letter)


async def _redrive(visit: Visit) -> Response:
    sent = await form(visit.request)
    kind = {name: value for name in ("stage", "error_code") if (value := sent.get(name, ""))}
    wanted: Json = {"ids": [sent["rejected_id"]]} if sent.get("rejected_id") else kind
    counts = await visit.source.redrive(wanted, by=visit.who)
    return go(page_text.address("/rejected", **{name: str(count) for name, count in counts.items() if count}))


async def _publish(visit: Visit) -> Response:
    sent = await form(visit.request)
    note = sent.get("note", "").strip() or None
    version = await visit.source.publish(visit.at("name"), note=note, recipe=recipe(sent), by=visit.who)
    return go(page_text.address(dataset_path(visit.at("name")), published=str(version)))


async def _sign_in_page(visit: Visit) -> Response:
    return visit.page("sign_in.html", title="Sign in", section="", next=own_path(visit.asked("next") or "/"))


async def _sign_in(visit: Visit) -> Response:
    sent = await form(visit.request)
    key, next_path = sent.get("key", "").strip(), own_path(sent.get("next", "/"))
    try:
        await visit.source.admit(visit.request, key)
    except Unauthorised as error:
        return visit.page("sign_in.html", title="Sign in", section="", next=next_path, wrong=True, status=error.status)
    answer = go(next_path)
    remember(answer, key, secure=visit.request.url.scheme == "https")
    return answer


async def _sign_out(visit: Visit) -> Response:
    answer = go("/sign-in")
    answer.delete_cookie(COOKIE, path="/")
    return answer


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        return JSONResponse({"title": "Not Found", "status": 404}, 404, media_type="application/problem+json")
    headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}  # asked about each time, by its ETag
    return FileResponse(HERE / "static" / name, media_type=STATIC[name], headers=headers)


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/", _search),
    ("GET", "/logs/{log_id:path}", log_pages.show_log),
    ("POST", "/logs/{log_id:path}", log_pages.change_log),
    ("GET", "/similar", log_pages.show_similar),
    ("GET", review_pages.PATH, review_pages.review),
    ("POST", review_pages.PATH, review_pages.decide),
    ("GET", job_pages.PATH, job_pages.jobs),
    ("POST", job_pages.PATH, job_pages.start),
    ("GET", f"{job_pages.PATH}/new", job_pages.new_job),
    ("GET", f"{job_pages.PATH}/{{job_id}}", job_pages.job),
    ("POST", f"{job_pages.PATH}/{{job_id}}/cancel", job_pages.cancel),
    ("POST", f"{job_pages.PATH}/{{job_id}}/undo", job_pages.undo),
    ("GET", erasure_pages.PATH, erasure_pages.erasures),
    ("POST", erasure_pages.PATH, erasure_pages.start),
    ("GET", f"{erasure_pages.PATH}/{{request_id}}", erasure_pages.erasure),
    ("GET", saved_pages.PATH, saved_pages.searches),
    ("POST", saved_pages.PATH, saved_pages.save),
    ("GET", draft_pages.PATH, draft_pages.datasets),
    ("POST", draft_pages.PATH, draft_pages.create),
    ("GET", "/datasets/{name}", draft_pages.dataset),
    ("GET", "/datasets/{name}/preview", draft_pages.preview),
    ("POST", "/datasets/{name}/versions", _publish),
    *version_pages.ROUTES,
    ("POST", "/datasets/{name}/edit-row", draft_pages.edit_row),
    ("POST", "/datasets/{name}/delete-row", draft_pages.delete_row),
    *run_pages.ROUTES,
    ("GET", "/rejected", _rejected),
    ("POST", "/rejected", _redrive),
    ("GET", "/rejected/{rejected_id}", _rejected_one),
    ("POST", "/sign-out", _sign_out),
)


def recipe(sent: dict[str, str]) -> Json | None:
    """The partial recipe that the publish form asks for; None: nothing is trained.

    Raises:
        Unprocessable: a method without a base model.
    """
    method, base = sent.get("method", ""), sent.get("base", "").strip()
    if method not in run_pages.METHODS:
        return None
    if not base:
        raise Unprocessable("training needs a base model: name its folder or its id, or choose to train nothing")
    return {"method": method, "base": base}


def _guarded(handler: Handler, source: PageSource, templates: jinja2.Environment) -> Endpoint:
    """The handler behind the sign-in."""

    async def signed_in(visit: Visit) -> Response:
        request = visit.request
        try:
            by = await visit.source.admit(request, request.cookies.get(COOKIE))
        except Unauthorised:
            wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return go(page_text.address("/sign-in", next=wanted if request.method == "GET" else None))
        known = replace(visit, by=by)
        try:
            return await handler(known)
        except CuratorError as error:
            return _problem(known, error)

    return _open(signed_in, source, templates)


def _open(handler: Handler, source: PageSource, templates: jinja2.Environment) -> Endpoint:
    """The handler for whoever comes; errors become pages."""

    async def endpoint(request: Request) -> Response:
        visit = Visit(request=request, source=source, templates=templates, by=None)
        try:
            if request.method == "POST":
                refuse_other_sites(request)
            return await handler(visit)
        except CuratorError as error:
            return _problem(visit, error)

    return endpoint


def _problem(visit: Visit, error: CuratorError) -> Response:
    title = "Not found" if isinstance(error, NotFound) else "That did not work"
    back = visit.request.url.path if visit.request.method == "GET" else None
    return visit.page("problem.html", title=title, section="", status=error.status, detail=error.detail, back=back)


def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters |= {
        "moment": page_text.moment,
        "iso": page_text.iso,
        "amount": page_text.amount,
        "dollars": page_text.dollars,
        "pretty": page_text.pretty,
        "pieces": page_chat.pieces,
        "turns": page_chat.turns,
        "with_media": page_chat.with_media,
        "log_path": page_text.log_path,
        "dataset_path": dataset_path,
        "base_name": lambda path: str(path).rstrip("/").rsplit("/", 1)[-1],
        "tojson_text": lambda value: msgspec.json.encode(value).decode(),
    }
    templates.globals |= {
        "address": page_text.address,
        "term": page_text.term,
        "has_term": page_text.has_term,
        "toggled": page_text.toggled,
        "time_term": page_text.time_term,
        "bar": charts.bar,
        "columns": charts.columns,
    }
    return templates

"""The pages of drafts: what there is, what a draft is made of, its rows, and the version that it would be."""

from urllib.parse import quote

from starlette.responses import Response

from tunemill.curator_api.errors import BadRequest, NotFound
from tunemill.curator_api.page_edit import edited_messages
from tunemill.curator_api.page_guard import form
from tunemill.curator_api.page_source import Json
from tunemill.curator_api.page_visit import Visit, go

PATH = "/datasets"
ROWS_PER_PAGE, BAD_SHOWN = 20, 100


async def datasets(visit: Visit) -> Response:
    """Every dataset, and the form that begins one."""
    found = await visit.source.datasets()
    return visit.page("datasets.html", title="Datasets", section=PATH, datasets=found)


async def create(visit: Visit) -> Response:
    """Begin a draft from a search."""
    sent = await form(visit.request)
    name = sent.get("name", "").strip()
    numbers = {"limit": _number(sent, "limit", int), "test_share": _number(sent, "test_share", float)}
    draft = {
        "query": sent.get("query", "").strip(),
        **{key: value for key, value in numbers.items() if value is not None},
    }
    await visit.source.create_dataset(name, draft, by=visit.who)
    return go(dataset_path(name))


async def dataset(visit: Visit) -> Response:
    """One dataset: its versions, its draft with the draft's rows, the models made from it, and when more are made."""
    name, cursor = visit.at("name"), visit.asked("cursor")
    found = await visit.source.dataset(name)
    shown: Json = {"rows": None, "missing": "", "cursor": cursor, "published": visit.asked("published")}
    try:
        shown["rows"] = await visit.source.rows(name, limit=ROWS_PER_PAGE, cursor=cursor)
    except NotFound as gone:  # a version or an alias that the recipe names; the dataset itself is there
        shown["missing"] = str(gone)
    shown |= {"models": await visit.source.models(name), "policy": await visit.source.policy(name)}
    return visit.page("dataset.html", title=name, section=PATH, dataset=found, **shown)


async def preview(visit: Visit) -> Response:
    """The report of the version that would be published now, and what is no training row."""
    name = visit.at("name")
    found = await visit.source.preview(name)
    bad = await visit.source.bad_rows(name, limit=BAD_SHOWN)
    return visit.page(
        "dataset_preview.html", title=f"{name}, not published", section=PATH, name=name, found=found, bad=bad
    )


async def edit_row(visit: Visit) -> Response:
    """Change the texts of a row."""
    sent = await form(visit.request)
    await visit.source.edit_row(visit.at("name"), sent.get("row_key", ""), edited_messages(sent), by=visit.who)
    return go(f"{dataset_path(visit.at('name'))}#rows")


async def delete_row(visit: Visit) -> Response:
    """Take a row out."""
    sent = await form(visit.request)
    await visit.source.delete_row(visit.at("name"), sent.get("row_key", ""), by=visit.who)
    return go(f"{dataset_path(visit.at('name'))}#rows")


def dataset_path(name: str) -> str:
    """The path of a dataset's page."""
    return f"{PATH}/{quote(name, safe='')}"


def _number(sent: dict[str, str], name: str, kind: type[int] | type[float]) -> float | None:
    text = sent.get(name, "").strip()
    try:
        return kind(text) if text else None
    except ValueError as error:
        raise BadRequest(f"{name} must be a number") from error

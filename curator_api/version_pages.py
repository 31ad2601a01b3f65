"""The pages of published versions: what one holds, where it came from, how two differ; and the forms that name or restore one."""

from starlette.responses import Response

from tunemill.curator_api.draft_pages import PATH, dataset_path
from tunemill.curator_api.page_guard import form
from tunemill.curator_api.page_source import Json
from tunemill.curator_api.page_visit import Visit, go

DIFFERENCES_SHOWN = 50


async def version(visit: Visit) -> Response:
    """One version: its report, its lineage, the runs that used it, its names and its files."""
    name, wanted = visit.at("name"), visit.at("version")
    found = await visit.source.version(name, wanted)
    origins = await visit.source.origins(name, wanted)
    aliases = await visit.source.aliases(name)
    mine = [one["alias"] for one in aliases if one["version"] == found["version"]]
    shown: Json = {"version": found, "origins": origins, "aliases": mine}
    return visit.page("version.html", title=f"{name} v{found['version']}", section=PATH, **shown)


async def diff(visit: Visit) -> Response:
    """What changed from one version to another, the texts side by side."""
    name, before, after = visit.at("name"), visit.asked("from") or "1", visit.asked("to") or "latest"
    found = await visit.source.diff(name, before, after, limit=DIFFERENCES_SHOWN)
    shown: Json = {"name": name, "before": before, "after": after, "found": found}
    return visit.page("diff.html", title=f"{name}: what changed", section=PATH, **shown)


async def restore(visit: Visit) -> Response:
    """Make its rows the draft."""
    await visit.source.restore(visit.at("name"), visit.at("version"), by=visit.who)
    return go(dataset_path(visit.at("name")))


async def name_version(visit: Visit) -> Response:
    """Give it a name."""
    sent = await form(visit.request)
    name, wanted = visit.at("name"), visit.at("version")
    await visit.source.put_alias(name, sent.get("alias", "").strip(), wanted, by=visit.who)
    return go(f"{dataset_path(name)}/versions/{wanted}")


ROUTES = (
    ("GET", "/datasets/{name}/versions/{version}", version),
    ("POST", "/datasets/{name}/versions/{version}/restore", restore),
    ("POST", "/datasets/{name}/versions/{version}/alias", name_version),
    ("GET", "/datasets/{name}/diff", diff),
)

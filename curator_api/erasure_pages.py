"""The pages of erasures: which there were, the form that counts and begins one, and the receipt."""

from urllib.parse import quote

from starlette.responses import Response

from tunemill.curator_api.errors import ClientError
from tunemill.curator_api.page_guard import form
from tunemill.curator_api.page_source import Json
from tunemill.curator_api.page_visit import Visit, go

PATH = "/erasures"
REFRESH_S = 2  # while one is under way
KINDS = ("subject", "log_id", "query")


async def erasures(visit: Visit) -> Response:
    """Every erasure, the newest first; with a kind and a value also how many logs it would be about."""
    found = await visit.source.erasures()
    kind, value = visit.asked("kind"), visit.asked("value")
    refresh_s = REFRESH_S if any(one["status"] == "running" for one in found) else None
    shown: Json = {"erasures": found, "kinds": KINDS, "kind": kind, "value": value, "total": None, "problem": None}
    if kind in KINDS and value:
        try:
            shown["total"] = await visit.source.count_erased({kind: value})
        except ClientError as error:
            shown["problem"] = error.detail
    return visit.page("erasures.html", title="Erasures", section=PATH, refresh_s=refresh_s, **shown)


async def erasure(visit: Visit) -> Response:
    """How far one is; once it is done, its receipt."""
    found = await visit.source.erasure(visit.at("request_id"))
    refresh_s = REFRESH_S if found["status"] == "running" else None
    return visit.page("erasure.html", title="Erasure", section=PATH, erasure=found, refresh_s=refresh_s)


async def start(visit: Visit) -> Response:
    """Begin one, if it still is about as many logs as the page showed."""
    sent = await form(visit.request)
    wanted: Json = {name: sent[name] for name in KINDS if sent.get(name)}
    wanted |= {"expected_total": sent["expected_total"]} if sent.get("expected_total") else {}
    return go(f"{PATH}/{quote(await visit.source.start_erasure(wanted, by=visit.who), safe='')}")

"""The pages of a log, and of logs like it. Forms edit tags, texts and consent, and overrule nobody whom the page did not show."""

import msgspec
from starlette.responses import Response

from tunemill.curator_api import page_text
from tunemill.curator_api.errors import BadRequest, EditedMeanwhile, TooLarge, Unprocessable
from tunemill.curator_api.page_edit import with_texts
from tunemill.curator_api.page_guard import form
from tunemill.curator_api.page_source import Json
from tunemill.curator_api.page_visit import Visit, go

_AS_IT_CAME = ""  # the consent that the log itself came with, as the form says it


async def show_log(visit: Visit) -> Response:
    """A log with its history, or its raw JSON."""
    log = await visit.source.log(visit.at("log_id"))
    if visit.asked("format") == "json":
        return Response(msgspec.json.format(msgspec.json.encode(log)), media_type="application/json")
    return _page(visit, log)


async def show_similar(visit: Visit) -> Response:
    """Logs that say much the same as a log."""
    log_id = visit.asked("log_id")
    if log_id is None:
        raise BadRequest("the address says no log: open one, and follow its link to logs like it")
    found = await visit.source.similar(log_id)
    return visit.page("similar.html", title="Logs like this one", section="/", log_id=log_id, found=found)


async def change_log(visit: Visit) -> Response:
    """Do what a form of the page asks for. What cannot be done is told on the page, with what was typed."""
    sent = await form(visit.request)
    log_id = visit.at("log_id")
    try:
        await _do(visit, log_id, sent)
    except EditedMeanwhile as error:
        log = await visit.source.log(log_id)
        since = [edit for edit in log["edits"] if edit["revision"] > _revision(sent)]
        seen = await visit.source.log(log_id, revision=_revision(sent))
        return _page(visit, log, status=error.status, typed=own_words(seen, sent), since=since)
    except (Unprocessable, TooLarge) as error:
        return _page(visit, await visit.source.log(log_id), status=error.status, typed=sent, refused=error.detail)
    return go(page_text.log_path(log_id))


def _page(
    visit: Visit,
    log: Json,
    *,
    status: int = 200,
    typed: Json | None = None,
    since: list[Json] | None = None,
    refused: str | None = None,
) -> Response:
    title = f"Log {log['log_id']}"
    typed = typed or {}
    editing = bool(visit.asked("edit")) or typed.get("act") == "edit"
    more = {"typed": typed, "editing": editing, "since": since or [], "refused": refused}
    return visit.page("log.html", title=title, section="/", status=status, log=log, **more)


async def _do(visit: Visit, log_id: str, sent: dict[str, str]) -> None:
    act = sent.get("act", "tags")
    if act == "tags":
        add, remove = ([value] if (value := sent.get(name, "").strip()) else [] for name in ("add", "remove"))
        await visit.source.edit_tags(log_id, add=add, remove=remove, by=visit.who)
    elif act == "edit":
        if change := edited(await visit.source.log(log_id), sent):
            await visit.source.edit_log(log_id, _said(sent) | change, by=visit.who)
    elif act == "consent":
        consent = sent.get("consent", _AS_IT_CAME)
        change = {"consent": None if consent == _AS_IT_CAME else consent}
        await visit.source.edit_log(log_id, _said(sent) | change, by=visit.who)
    elif act == "revert":
        await visit.source.revert_log(log_id, _said(sent) | {"revision": _number(sent, "to")}, by=visit.who)
    else:
        raise BadRequest("the form does not say what to do: tags, edit, consent or revert")


def edited(log: Json, sent: dict[str, str]) -> Json:
    """Those of the log's `messages` and `output` that the form's texts change; an answer where there was none is added."""
    changed = {name: with_texts(log[name], sent, name) for name in ("messages", "output")}
    if not log["output"] and (answer := sent.get("output-0", "")).strip():
        changed["output"] = [{"role": "assistant", "content": answer}]
    return {name: messages for name, messages in changed.items() if messages != log[name]}


def own_words(seen: Json, sent: dict[str, str]) -> dict[str, str]:
    """What the form says, without the texts that stand in the log that it showed: others may have changed those since."""
    not_own = {
        f"{name}-{place}"
        for name in ("messages", "output")
        for place, (before, after) in enumerate(zip(seen[name], with_texts(seen[name], sent, name), strict=True))
        if before == after
    }
    return {name: text for name, text in sent.items() if name not in not_own}


def _said(sent: dict[str, str]) -> Json:
    return {"why": sent.get("why", "").strip() or None, "expected_revision": _revision(sent)}


def _revision(sent: dict[str, str]) -> int:
    return _number(sent, "revision")


def _number(sent: dict[str, str], name: str) -> int:
    try:
        return int(sent.get(name, ""))
    except ValueError as error:
        raise BadRequest(f"the form lacks the log's {name}: reload the page") from error

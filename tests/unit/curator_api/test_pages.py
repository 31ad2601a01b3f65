"""The pages over a source in memory: what is shown, what is escaped, what the forms change, who may send them."""

import base64
import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import httpx
import msgspec
import pytest
from fakes.page_source import DAY_MS, KEY, MemoryPages, hit, log, message
from fastapi import FastAPI

from tunemill.curator_api import page_text
from tunemill.curator_api.body_work import BodyWork
from tunemill.curator_api.guard import Guard
from tunemill.curator_api.pages import HERE, ROUTES, pages_router
from tunemill.curator_api.recipe import Imported, Recipe, Search
from tunemill.curator_api.recipe_payloads import body_of
from tunemill.curator_api.settings import Settings

NASTY = '<script>alert(1)</script>\n  "quoted" & <img src=x onerror=alert(2)>'
DIGEST = "3f9a" * 16


def client_of(source: MemoryPages) -> httpx.AsyncClient:
    app = FastAPI()
    settings = Settings(require_key=source.keyed, max_body_bytes=2**20)
    app.add_middleware(
        Guard, settings=settings, admit=lambda _authorization, _host: "person:nobody", body_work=BodyWork()
    )
    app.include_router(pages_router(source))
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8080")


def row(row_key: str, *messages: dict[str, Any], split: str = "train") -> dict[str, Any]:
    return {"row_key": row_key, "messages": list(messages), "split": split, "tools": None, "tags": [], "edited": False}


def run(run_id: str, status: str, **more: Any) -> dict[str, Any]:
    return {
        "run_id": run_id, "run_key": DIGEST, "name": "tickets", "version": 1, "digest": DIGEST, "status": status,
        "recipe": {"method": "lora", "base": "/models/smol"}, "attempt": 1, "progress": None, "result": None, "error": None,
        "artefact_url": None, "trained_tokens": None, "seconds": None, "cancel_requested_ms": None,
        "created_ms": DAY_MS, "started_ms": None, "finished_ms": None,
    } | more  # fmt: skip


def erasure(request_id: str, status: str, **more: Any) -> dict[str, Any]:
    return {
        "request_id": request_id, "kind": "subject", "scope_digest": DIGEST, "status": status, "steps": ["find"], "logs": 3,
        "waits_for": None, "stores": [{"store": "topic llm.logs", "removed": 2, "kept_until_ms": DAY_MS, "note": NASTY}],
        "versions": [{"name": "tickets", "version": 1, "revision": 2, "rows_removed": 3, "digest": DIGEST,
                      "replaces_digest": DIGEST}],
        "runs": [{"run_id": "r1", "name": "tickets", "version": 1, "status": "succeeded", "artefact_url": None,
                  "exposure": "exposed", "aliases": ["champion"]}],
        "verified": True, "error": None, "by": "person:x", "created_ms": DAY_MS, "finished_ms": None,
    } | more  # fmt: skip


def job(job_id: str, status: str, **more: Any) -> dict[str, Any]:
    return {
        "job_id": job_id, "kind": "tags", "query": "refund", "work": {"add": ["team:x"]}, "why": None, "revision": None,
        "status": status, "waits_for": None, "total": 10, "seen": 4, "changed": 2, "undone": 0, "can_be_undone": True,
        "logs_per_s": 2.0, "eta_s": 3.0, "result": None, "error": None, "by": "person:x", "created_ms": DAY_MS,
        "finished_ms": None,
    } | more  # fmt: skip


def letter(n: int, **more: Any) -> dict[str, Any]:
    return {
        "rejected_id": f"llm.logs:2:{n}:0", "ts_ms": DAY_MS, "stage": "decode", "error_code": "not_json", "reason": "no JSON",
        "payload_bytes": 2048, "attempts": 1, "first_ts_ms": None, "topic": "llm.logs", "partition": 2, "offset": n,
        "payload": None, "payload_encoding": None,
    } | more  # fmt: skip


RESULT = {
    "before": {"exact_match": 0.0, "loss": 2.9, "stop_rate": 0.6, "json_fields": None},
    "after": {"exact_match": 0.917, "loss": 0.03, "stop_rate": 1.0, "json_fields": None},
    "retention": {"before": 4.0, "after": 4.3},
    "gates": [{"name": "retention", "outcome": "reject", "value": 0.3, "limit": 0.2, "says": "it forgot too much"}],
}
MEASURED = {
    **RESULT,
    "metrics": {
        "loss": {"unit": "nats", "better": "less", "rows": 12,
            "before": 2.9, "after": 0.03, "change": -2.87, "low": -3.1, "high": -2.5, "p": 0.001},
        "length_tokens": {"unit": "tokens", "better": "neither", "rows": 12,
            "before": 9.0, "after": 7.0, "change": -2.0, "low": -3.0, "high": -1.0, "p": 0.02},
        "of_our_own": {"unit": "points", "better": "more", "rows": 5,
            "before": 1.0, "after": 3.0, "change": 2.0, "low": 1.0, "high": 3.0, "p": 0.04},
        "chrf": {"unit": "share of letters", "better": "more", "rows": 12,
            "before": 0.5, "after": 0.625, "change": 0.125, "low": -0.25, "high": 0.5, "p": 0.4},
    },
    "slices": [
        {"slice": "language", "value": "de", "rows": 30, "loss_before": 1.0, "loss_after": 0.5, "low": -0.7, "high": -0.2},
        {"slice": "app", "value": NASTY, "rows": 20, "loss_before": 1.0, "loss_after": 1.9, "low": 0.4, "high": 1.2},
    ],
    "forgetting": {"loss": None, "f1": None, "says": ["7 of 60 general questions that it could answer are lost"],
        "answered": {"rows": 90, "before": 0.5, "after": 0.25, "change": -0.25, "low": -0.375, "high": -0.125, "p": 0.004},
        "by_topic": [
            {"topic": NASTY, "rows": 12, "could": 10, "lost": 4, "learned": 0, "loss_before": 1.0, "loss_after": 2.0},
            {"topic": "words", "rows": 12, "could": 6, "lost": 0, "learned": 3, "loss_before": 1.0, "loss_after": 1.0},
            {"topic": "of former days", "rows": 9, "could": 5, "lost": 2, "loss_before": 1.0, "loss_after": 1.0},
        ]},
    "judge": {"model": "judge-1", "rows": 9, "wins": 5, "losses": 1, "ties": 2, "failed": 1, "prompt_sha256": DIGEST},
    "plan": {"derived": [{"name": "epochs", "value": 3, "reason": "80 rows"}], "steps": 15, "estimate": {"total_bytes": 2e9}},
}  # fmt: skip
LENGTHS = {"min": 1, "median": 2, "p90": 3, "max": 4, "total": 90}
SHARE = {"logs": 9, "share_logs": 0.9, "rows": 8, "share_rows": 0.8, "duplicates": 1, "out": {"pii": 1}}
REPORT = {
    "matched": 93, "rows": 90, "excluded": {"pii": 3}, "splits": {"train": 80, "test": 10}, "characters_per_row": LENGTHS,
    "messages_per_row": LENGTHS, "imported": 1, "edited": 2, "corrected": 3, "masked": {"email": 1}, "private_data": "snapshot",
    "bad": {"no_answer": 1}, "slices": {"app": {NASTY: SHARE, "none": SHARE}}, "warnings": ["pii leaves out much of app"],
    "tokens_per_row": None, "near_duplicates": None, "contamination": None, "balance": {}, "licences": {"yes": 90},
    "point_ms": DAY_MS,
}  # fmt: skip
VERSION = {
    "name": "tickets", "version": 1, "digest": DIGEST, "rows": 90, "splits": {"train": 80, "test": 10}, "note": "the first",
    "report": REPORT, "created_ms": DAY_MS, "revision": 2, "shape": "chat", "parent": 3, "by": "person:x",
    "manifest_url": "/files/m.json", "sources_url": "/files/s.json",
}  # fmt: skip
ORIGINS = {
    "lineage": {
        "searches": [{"query": NASTY, "spelled_out": "app:x", "saved": [], "matched": 93}],
        "versions": [{"version": "general@v2", "matched": 5}], "imports": ["rows.jsonl"], "logs": 90, "feedback": 2, "amends": 3,
    },
    "runs": [{"run_id": "r1", "status": "rejected", "digest": DIGEST, "created_ms": DAY_MS}],
    "redactions": [{"revision": 2, "rows_removed": 4, "replaces_digest": DIGEST, "digest": DIGEST, "ts_ms": DAY_MS}],
}  # fmt: skip


@pytest.fixture
def source() -> MemoryPages:
    made = MemoryPages(
        [log("one", NASTY, '{"team":"billing"}'), log("a/b c", "second", None, status="error", error="timeout")]
    )
    made.facets = {"tag": [{"value": "topic:math", "count": 7}], "app": [{"value": "two words", "count": 1}]}
    recipe = Recipe(ingredients=(Search(query="app:support-router"), Imported()))
    draft = body_of(recipe).model_dump()
    made.found_datasets = {"tickets": {"name": "tickets", "draft": draft, "updated_ms": DAY_MS, "versions": [VERSION]}}
    found = [{"ingredient": one, "matched": 93} for one in draft["ingredients"]]
    made.previews = {"tickets": {"recipe": draft, "ingredients": found, "report": REPORT}}
    made.version_origins = ORIGINS
    changed = {"row_key": NASTY, "change": "changed", "fields": ["messages[1].content"], "before_rejected": None}
    texts = {
        "before": [message("user", NASTY)],
        "after": [message("user", "hi")],
        "after_rejected": [message("assistant", NASTY)],
    }
    made.differences = {"added": 1, "removed": 0, "changed": 1, "rows": [changed | texts]}
    made.bad = [{"row_key": "a/b c", "reason": "no_answer", "why": "there is no answer"}]
    made.draft_rows = [row("one", message("user", NASTY), message("assistant", "yes\nno"), split="test")]
    made.dead_letters = [letter(1), letter(2, payload=NASTY, payload_encoding="text")]
    made.found_runs = {
        "r1": run("r1", "rejected", result=RESULT, artefact_url="/files/adapters/r1"),
        "r2": run("r2", "running", progress={"step": 3, "steps": 9, "loss": 1.5}),
        "r4": run("r4", "succeeded", result=MEASURED, artefact_url="/files/adapters/r4", digest="e" * 64),
        "r3": run("r3", "failed", error={"code": "no-base", "message": "no such folder", "remedy": "name one"}),
    }
    made.samples = [
        {"of": "held_out", "prompt": [{"role": "user", "content": NASTY}, {"role": "assistant", "tool_calls": []}],
         "expected": "exp", "before": NASTY, "after": "aft"},
        {"of": "retention", "topic": "words", "prompt": [], "expected": "", "before": "", "after": "",
         "answered": {"before": True, "after": False}},
    ]  # fmt: skip
    made.knobs = [{"knob": "gates.a", "a": 1, "b": None}]
    score = {"name": "Exact match", "on": "held-out rows", "unit": "", "before_a": 0.1, "before_b": 0.1}
    made.compared = [
        {**score, "a": 0.5, "b": 0.25, "change": -0.25, "low": -0.5, "high": -0.125, "better": "a"},
        {**score, "a": 0.5, "b": 0.25, "change": -0.25, "low": None, "high": None, "better": "not_comparable"},
    ]
    made.found_models = {
        "aliases": [{"alias": "champion", "run_id": "r4", "by": "person:x", "reason": None, "updated_ms": DAY_MS}],
        "models": [{"run_id": "r4", "version": 1, "status": "succeeded", "method": "lora", "base": "/models/smol",
                    "artefact_url": "/files/adapters/r4", "finished_ms": DAY_MS, "aliases": ["champion"]}],
    }  # fmt: skip
    made.found_erasures = {
        "e1": erasure("e1", "done"),
        "e2": erasure("e2", "running", waits_for="e0", verified=False, runs=[], versions=[]),
    }
    made.found_jobs = {
        "j1": job("j1", "running", waits_for="j2"),
        "j2": job("j2", "failed", query=NASTY, why=NASTY, error={"code": "internal", "message": "it refused one"}),
        "j3": job("j3", "done", kind="delete", work={}, can_be_undone=False, result={"dropped": 3}),
        "j4": job(
            "j4",
            "running",
            kind="retention",
            work={"max_age_days": 30, "max_bytes": None, "before": {"logs": 7, "bytes": 9}},
        ),
    }
    return made


@pytest.fixture
async def client(source: MemoryPages) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(source) as opened:
        yield opened


class Page(HTMLParser):
    """What a browser makes of the HTML: its elements and its text."""

    VOID = frozenset({"meta", "link", "input", "br", "img", "rect", "line", "circle", "polyline", "path"})

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.unclosed: list[str] = []
        self.texts: list[str] = []
        self.feed(answer.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID and (not self.open or self.open.pop() != tag):
            self.unclosed.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def links(self) -> list[str | None]:
        return [attributes.get("href") for attributes in self.all("a")]


PAGES = ["/", "/?q=math", "/?q=math+AND", "/logs/one", "/logs/a%2Fb%20c", "/datasets", "/datasets/tickets",
         "/datasets/tickets/preview", "/datasets/tickets/versions/1",
         "/datasets/tickets/diff?from=1&to=best", "/runs", "/runs/r1", "/runs/r2", "/runs?status=queued&name=x",
         "/runs/r3", "/runs/r4", "/runs/compare?run=r1&run=r4", "/runs/compare?run=r1",
         "/rejected", "/rejected/llm.logs:2:1:0", "/rejected/llm.logs:2:2:0", "/rejected/none", "/sign-in",
         "/logs/none", "/similar?log_id=one", "/similar", "/review",
         "/review?q=a&undo=one&to=3", "/review?log=a%2Fb%20c", "/searches", "/searches?q=a",
         "/erasures", "/erasures?kind=subject&value=u", "/erasures?kind=query&value=x", "/erasures/e1", "/erasures/e2",
         "/jobs", "/jobs/j1", "/jobs/j2", "/jobs/none", "/jobs/new", "/jobs/new?q=math", "/jobs/new?q=math+AND"]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_whole_and_needs_nothing_inline(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    page = Page(answer)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert page.open == [] and page.unclosed == []
    assert len(page.all("main")) == len(page.all("h1")) == len(page.all("title")) == 1
    assert not page.all("style")
    assert all(script.get("src", "").startswith("/static/") for script in page.all("script"))  # type: ignore[union-attr]
    assert not [name for _, given in page.elements for name in given if name == "style" or name.startswith("on")]
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


@pytest.mark.parametrize("path", PAGES)
async def test_every_field_has_a_label_and_no_id_comes_twice(client: httpx.AsyncClient, path: str) -> None:
    page = Page(await client.get(path))
    labelled = {label.get("for") for label in page.all("label")}
    fields = [
        field for tag in ("input", "select", "textarea") for field in page.all(tag) if field.get("type") != "hidden"
    ]
    assert {field.get("id") for field in fields} <= labelled
    ids = [given["id"] for _, given in page.elements if "id" in given]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "path",
    ["/", "/logs/one", "/similar?log_id=one", "/review", "/datasets/tickets", "/datasets/tickets/diff", "/runs/r4"],
)
async def test_log_text_is_always_text(client: httpx.AsyncClient, path: str) -> None:
    page = Page(await client.get(path))
    assert not page.all("img")
    assert not [script for script in page.all("script") if "src" not in script]
    assert NASTY in page.texts  # with its line break and spaces


async def test_every_route_is_visited_here() -> None:
    visited = {path for method, path, _ in ROUTES if method == "GET"}
    assert visited == {
        "/",
        "/logs/{log_id:path}",
        "/similar",
        "/review",
        "/searches",
        "/erasures",
        "/erasures/{request_id}",
        "/jobs",
        "/jobs/new",
        "/jobs/{job_id}",
        "/datasets",
        "/datasets/{name}",
        "/datasets/{name}/preview",
        "/datasets/{name}/versions/{version}",
        "/datasets/{name}/diff",
        "/runs",
        "/runs/compare",
        "/runs/{run_id}",
        "/rejected",
        "/rejected/{rejected_id}",
    }


async def test_a_search_reaches_the_source_as_it_was_typed(client: httpx.AsyncClient, source: MemoryPages) -> None:
    source.cursor = "next-one"
    page = Page(await client.get("/", params={"q": "tag:topic:math (a OR b)", "sort": "newest", "cursor": "here"}))
    assert source.searches == [("tag:topic:math (a OR b)", "here", "newest")]
    assert "/?q=tag%3Atopic%3Amath+%28a+OR+b%29&sort=newest&cursor=next-one" in page.links()
    assert page.all("input")[0]["value"] == "tag:topic:math (a OR b)"


async def test_a_facet_narrows_and_widens_the_search(client: httpx.AsyncClient) -> None:
    narrow = Page(await client.get("/", params={"q": "a OR b"})).links()
    assert "/?q=%28a+OR+b%29+tag%3Atopic%3Amath" in narrow
    assert "/?q=%28a+OR+b%29+app%3A%22two+words%22" in narrow
    assert "/?q=pie" in Page(await client.get("/", params={"q": "pie tag:topic:math"})).links()


async def test_a_link_to_a_log_cannot_lead_elsewhere(client: httpx.AsyncClient, source: MemoryPages) -> None:
    source.hits.append(hit(log("../runs", "hostile", "id")))
    assert "/logs/..%2Fruns" in Page(await client.get("/")).links()


async def test_a_search_that_cannot_be_read_points_at_the_column(client: httpx.AsyncClient) -> None:
    answer = await client.get("/", params={"q": "math AND"})
    assert answer.status_code == 400
    assert "math AND\n    ^</pre>" in answer.text


async def test_highlights_are_marked(client: httpx.AsyncClient, source: MemoryPages) -> None:
    source.hits[0]["highlights"] = [[["the <b>", False], ["math", True], [" tutor", False]]]
    assert "… the &lt;b&gt;<mark>math</mark> tutor …" in (await client.get("/")).text


async def test_a_failed_call_says_so(client: httpx.AsyncClient) -> None:
    text = (await client.get("/logs/a/b%20c")).text
    assert "The call failed: <code>timeout</code>" in text


async def test_tool_calls_are_laid_out_and_broken_ones_shown_as_they_are(
    client: httpx.AsyncClient, source: MemoryPages
) -> None:
    calls = [{"id": "c1", "name": "run", "arguments": '{"a":1}'}, {"id": "c2", "name": "run", "arguments": '{"a":'}]
    source.logs["one"]["output"] = [message("assistant", None, tool_calls=calls)]
    page = Page(await client.get("/logs/one"))
    assert '{\n  "a": 1\n}' in page.texts
    assert '{"a":' in page.texts


async def test_a_tools_result_stands_beside_its_call(client: httpx.AsyncClient, source: MemoryPages) -> None:
    calls = [{"id": name, "name": "parcel", "arguments": "{}"} for name in ("c1", "c2", "c1")]
    results = [message("tool", f"result {name}", tool_call_id=name) for name in ("c2", "c1", "c1", "c9")]
    source.logs["one"]["messages"] = [message("assistant", None, tool_calls=calls), *results]
    text = (await client.get("/logs/one")).text
    pairs = re.findall(
        r'class="pair">.*?as <code>(c\d)</code>.*?answers <code>(c\d)</code>.*?(result c\d)', text, re.DOTALL
    )
    assert pairs == [("c1", "c1", "result c1"), ("c2", "c2", "result c2"), ("c1", "c1", "result c1")]
    assert text.count("result c") == 4  # one that answers no call stands by itself
    assert text.index("result c9") > text.rindex("result c1")


async def test_half_a_character_in_arguments_is_shown_as_it_was_written(
    client: httpx.AsyncClient, source: MemoryPages
) -> None:
    calls = [{"id": "c1", "name": "run", "arguments": '{"a":"\\ud800"}'}]
    source.logs["one"]["output"] = [message("assistant", None, tool_calls=calls)]
    assert '{"a":"\\ud800"}' in Page(await client.get("/logs/one")).texts


def test_json_that_indentation_would_make_huge_is_not_laid_out() -> None:
    assert page_text.pretty('{"a":[1]}') == '{\n  "a": [\n    1\n  ]\n}'
    deep = "[" * 500 + ",".join("1" * 5_000) + "]" * 500
    assert page_text.pretty(deep) == deep
    assert len(page_text.pretty(json.loads(deep))) < 2 * len(deep)


async def parts_shown(source: MemoryPages, *parts: object, content: str | None = None) -> tuple[Page, str]:
    """The page of a log with these content parts, and its text in one line."""
    source.logs["one"]["messages"] = [message("user", content, parts=list(parts))]
    async with client_of(source) as client:
        page = Page(await client.get("/logs/one"))
    return page, " ".join(" ".join(page.texts).split())


def picture(size_bytes: int, media_type: str = "image/png", head: bytes = b"\x89PNG\r\n\x1a\n") -> dict[str, Any]:
    data = base64.b64encode(head.ljust(size_bytes, b"\0")).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}}


async def test_a_small_picture_that_the_log_holds_is_shown(source: MemoryPages) -> None:
    page, text = await parts_shown(source, picture(1_234))
    assert [image["src"] for image in page.all("img")] == [picture(1_234)["image_url"]["url"]]
    assert "image image/png, 1,234 bytes" in text


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (picture(400_000), "image image/png, 400,000 bytes"),
        (picture(100, "image/svg+xml", b"<svg>"), "image image/svg+xml, 100 bytes"),
        (picture(100, "image/png", b"<svg>"), "image image/png, 100 bytes"),  # not what it says
        ({"type": "image_url", "image_url": {"url": "data:image/png,%89PNG"}}, "image image/png, 4 bytes"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,???"}}, "image image/png, 2 bytes"),
        ({"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}, "image https://a.example/x.png"),
        ({"type": "image_url", "image_url": "javascript:alert(1)"}, "image javascript:alert(1)"),
        ({"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}, "audio wav, 3 bytes"),
        (
            {"type": "file", "file": {"filename": NASTY, "file_data": "data:application/pdf;base64,QUI="}},
            f"file {' '.join(NASTY.split())} application/pdf, 2 bytes",
        ),
        ({"type": "file", "file": {"file_id": "file-7"}}, "file file-7"),
        ({"type": "video", "source": {"type": "base64", "media_type": "video/mp4", "data": "QUJD"}}, "video video/mp4, 3 bytes"),
        ({"type": NASTY, "odd": [1]}, '"odd": ['),
        ({"type": 5}, 'part As sent { "type": 5 }'),
        ("loose", '"part": "loose"'),
        (None, '"part": null'),
    ],
)  # fmt: skip
async def test_what_is_no_small_picture_is_only_named(source: MemoryPages, part: object, said: str) -> None:
    page, text = await parts_shown(source, part)
    assert said in text
    assert not page.all("img") and not page.all("svg")
    assert not [link for link in page.links() if link and not link.startswith(("/", "#"))]
    assert page.open == [] and page.unclosed == []


async def test_parts_stand_in_the_order_they_were_sent(source: MemoryPages) -> None:
    sent = [
        {"type": "text", "text": "First"},
        {"type": "file", "file": {"file_id": "f-1"}},
        {"type": "text", "text": "last"},
    ]
    _, text = await parts_shown(source, *sent, content="First\nlast")
    assert "First file f-1 last" in text and text.count("First") == 1
    _, text = await parts_shown(source, *sent, content="Edited")
    assert "Edited file f-1" in text and "First" not in text


async def test_a_token_of_langfuse_is_named_wherever_it_stands(source: MemoryPages) -> None:
    token = "@@@langfuseMedia:type=image/png|id=xBTN|source=base64_data_uri@@@"
    _, text = await parts_shown(source, {"type": "image_url", "image_url": {"url": token}})
    assert "image image/png xBTN" in text and "@@@" not in text
    _, text = await parts_shown(source, content=f"see {token} here")
    assert "see image image/png xBTN here" in text and "@@@" not in text
    source.hits[0]["prompt"] = f"see {token}"
    async with client_of(source) as client:
        assert "see  [image/png]" in (await client.get("/")).text


async def test_feedback_is_shown_as_text(client: httpx.AsyncClient, source: MemoryPages) -> None:
    said = {
        "feedback_id": "f",
        "ts_ms": DAY_MS,
        "name": NASTY,
        "score": 0.0,
        "label": NASTY,
        "correction": NASTY,
        "comment": NASTY,
        "by": NASTY,
    }
    bare = {**said, "name": "thumbs", "score": None, "label": None, "correction": "", "comment": None, "by": None}
    source.logs["one"]["messages"] = [message("user", "question")]
    source.logs["one"]["feedback"] = [said, bare]
    page = Page(await client.get("/logs/one"))
    assert page.texts.count(NASTY) == 4 and f"by {NASTY}" in page.texts
    assert not page.all("img") and "Feedback (2)" in page.texts and "0" in page.texts
    assert page.texts.count("A better answer:") == 2  # saying nothing may be better


async def test_what_else_is_known_is_there_as_text(client: httpx.AsyncClient, source: MemoryPages) -> None:
    source.logs["one"] |= {
        "messages": [message("user", "question", name=NASTY)],
        "output": [message("assistant", "a", reasoning=NASTY), message("assistant", None, refusal=NASTY)],
        "metadata": {NASTY: NASTY, "long": "x" * 500}, "extra": {NASTY: 1}, "params": {NASTY: 2}, "tools": [{NASTY: 3}],
        "cost_usd": 0.0000123, "latency_ms": 83012.44,
    }  # fmt: skip
    page = Page(await client.get("/logs/one"))
    assert not page.all("img") and page.open == [] and page.unclosed == []
    assert page.texts.count(NASTY) == 4
    for shown in ({NASTY: 1}, {NASTY: 2}, [{NASTY: 3}]):
        assert json.dumps(shown, indent=2) in page.texts
    assert {"$0.0000123", "83,012 ms", "x" * 500} <= set(page.texts)
    assert {"Tools offered to the model (1)", "Parameters", "What else the source sent", "Reasoning"} <= set(page.texts)


async def test_the_other_calls_are_a_click_away(client: httpx.AsyncClient, source: MemoryPages) -> None:
    source.logs["one"] |= {"trace_id": 'a "b" c', "session_id": "s-1", "user_id": "u*"}
    links = Page(await client.get("/logs/one")).links()
    assert {"/?q=trace%3A%22a+%5C%22b%5C%22+c%22", "/?q=session%3As-1", "/?q=user%3A%22u%2A%22"} <= set(links)


async def test_a_call_whose_messages_are_still_to_come_has_not_failed(
    client: httpx.AsyncClient, source: MemoryPages
) -> None:
    source.logs["one"] |= {"messages": [], "output": [], "extra": {"joined": {"rank": 1}}}
    source.hits[0] |= {"prompt": None, "answer": None}
    text = (await client.get("/logs/one")).text
    assert "This call is told in parts" in text and "No answer has come yet." in text and "failed" not in text
    assert {"(no text) ", "one"} <= set(Page(await client.get("/")).texts)


async def test_a_failed_call_shows_what_came_and_why_it_ended(client: httpx.AsyncClient, source: MemoryPages) -> None:
    source.logs["one"] |= {"status": "error", "error": "429", "extra": {"error": {"message": NASTY}, "stream": "cut"}}
    page = Page(await client.get("/logs/one"))
    assert page.texts.count(NASTY) == 2 and '{"team":"billing"}' in page.texts  # the question, and the error
    assert "The stream was cut off: it may have gone on." in page.texts
    for odd in ("slow down", [1], None, {"message": 5}):
        source.logs["one"]["extra"] = {"error": odd}
        assert ("slow down" in (await client.get("/logs/one")).text) == (odd == "slow down")
    source.logs["one"] |= {"extra": ["odd"], "tools": 5}
    assert (await client.get("/logs/one")).status_code == 200


async def test_what_is_no_list_of_tools_is_not_counted(client: httpx.AsyncClient, source: MemoryPages) -> None:
    for tools in (5, "two", {"a": 1, "b": 2}):
        source.logs["one"]["tools"] = tools
        assert "Tools offered to the model" in Page(await client.get("/logs/one")).texts


async def test_the_raw_record_is_json(client: httpx.AsyncClient, source: MemoryPages) -> None:
    answer = await client.get("/logs/one?format=json")
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.text) == source.logs["one"]


async def test_tags_are_added_and_removed(client: httpx.AsyncClient, source: MemoryPages) -> None:
    answer = await client.post("/logs/a/b%20c", data={"add": " topic:refund "})
    assert (answer.status_code, answer.headers["location"]) == (303, "/logs/a%2Fb%20c")
    await client.post("/logs/one", data={"remove": "lang:en"})
    assert source.changes == [
        ("tags", "a/b c", ["topic:refund"], [], "person:local"),
        ("tags", "one", [], ["lang:en"], "person:local"),
    ]


def edit(revision: int, kind: str, **more: Any) -> dict[str, Any]:
    said = {"tag": None, "value": None, "as_it_came": False, "why": None, "by": "person:ann", "ts_ms": DAY_MS}
    return {"revision": revision, "kind": kind, "job_id": None, **said, **more}


async def test_a_log_is_edited_where_its_texts_changed(client: httpx.AsyncClient, source: MemoryPages) -> None:
    called = message("assistant", None, tool_calls=[{"id": "c1", "name": "run", "arguments": "{}"}])
    source.logs["one"] |= {"messages": [message("user", "a\r\nb"), called], "revision": 3}
    shown = Page(await client.get("/logs/one"))
    assert "/logs/one?edit=1#edit" in shown.links() and not shown.all("textarea")
    page = Page(await client.get("/logs/one?edit=1"))
    assert [area["name"] for area in page.all("textarea")] == ["messages-0", "output-0"]
    assert {"name": "revision", "value": "3"}.items() <= next(
        one for one in page.all("input") if one.get("name") == "revision"
    ).items()
    sent = {"act": "edit", "revision": "3", "messages-0": "a\nb", "output-0": "better", "why": " wrong "}
    answer = await client.post("/logs/one", data=sent)
    assert (answer.status_code, answer.headers["location"]) == (303, "/logs/one")
    wanted = {"why": "wrong", "expected_revision": 3, "output": [message("assistant", "better")]}
    assert source.changes == [("edit log", "one", wanted, "person:local")]
    await client.post("/logs/one", data=sent | {"output-0": '{"team":"billing"}'})
    assert len(source.changes) == 1  # nothing is different


async def test_an_answer_can_be_given_where_there_was_none(client: httpx.AsyncClient, source: MemoryPages) -> None:
    for answer in (" ", "given"):
        await client.post("/logs/a/b%20c", data={"act": "edit", "revision": "0", "output-0": answer})
    ((_, _, change, _),) = source.changes
    assert change["output"] == [{"role": "assistant", "content": "given"}] and "messages" not in change


async def test_an_edit_over_somebody_elses_shows_theirs_and_keeps_what_was_typed(
    client: httpx.AsyncClient, source: MemoryPages
) -> None:
    theirs = [edit(1, "tag", tag="team:x"), edit(2, "messages", why=NASTY)]
    source.logs["one"] |= {"revision": 2, "edits": theirs}
    answer = await client.post("/logs/one", data={"act": "edit", "revision": "1", "output-0": "my own", "why": "mine"})
    page = Page(answer)
    assert answer.status_code == 409 and source.changes == []
    assert "Somebody edited this log since you opened it" in answer.text
    assert page.texts.count("r1") == 1 and page.texts.count("r2") == 2  # in the notice only what is new
    assert ">\nmy own</textarea>" in answer.text and NASTY in page.texts and not page.all("img")
    assert {one.get("value") for one in page.all("input") if one.get("name") in ("revision", "why")} == {"2", "mine"}
    answer = await client.post("/logs/one", data={"act": "consent", "revision": "0", "consent": "none"})
    assert answer.status_code == 409


async def test_what_one_did_not_touch_is_not_put_back_over_what_others_wrote(
    client: httpx.AsyncClient, source: MemoryPages
) -> None:
    came = {"messages": [message("user", "hi"), message("user", "there")], "output": [message("assistant", "old")]}
    first = came | {"messages": [message("user", "hello"), message("user", "there")]}
    theirs = first | {"messages": [message("user", "hello"), message("user", "theirs")]}
    for seen, shown in ((came, "hi"), (first, "hello")):
        revision = 0 if seen is came else 1
        edits = [edit(1, "messages"), edit(2, "messages")]
        source.logs["one"] |= theirs | {"original": came, "revision": 2, "edits": edits}
        source.revisions = {("one", 0): came, ("one", 1): first}
        sent = {"messages-0": shown, "messages-1": "there", "output-0": "mine"}
        answer = await client.post("/logs/one", data={"act": "edit", "revision": str(revision), **sent})
        typed = re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", answer.text)
        assert (answer.status_code, typed) == (409, ["hello", "theirs", "mine"])


async def test_what_cannot_be_saved_is_told_beside_what_was_typed(client: httpx.AsyncClient) -> None:
    answer = await client.post("/logs/one", data={"act": "edit", "revision": "0", "output-0": "my secret"})
    assert answer.status_code == 422 and "output[0] holds what looks like" in answer.text
    assert ">\nmy secret</textarea>" in answer.text


async def test_consent_is_set_and_given_back_to_the_sender(client: httpx.AsyncClient, source: MemoryPages) -> None:
    source.logs["one"] |= {"consent_said": "eval_only", "revision": 1, "consent": "eval_only"}
    chosen = [one["value"] for one in Page(await client.get("/logs/one")).all("option") if "selected" in one]
    assert chosen == ["eval_only"]
    for word in ("none", ""):
        await client.post("/logs/one", data={"act": "consent", "revision": "1", "consent": word})
    assert [change["consent"] for _, _, change, _ in source.changes] == ["none", None]


async def test_what_came_is_shown_and_can_be_gone_back_to(client: httpx.AsyncClient, source: MemoryPages) -> None:
    came = {"messages": [message("user", NASTY)], "output": []}
    done = [
        edit(1, "messages"),
        edit(2, "messages", as_it_came=True),
        edit(3, "messages", job_id="j1", why=NASTY),
    ]
    source.logs["one"] |= {"original": came, "edits": done, "revision": 3, "messages": []}
    page = Page(await client.get("/logs/one"))
    assert {"edited", "As it came", "History", "j1"} <= set(page.texts) and not page.all("img")
    assert page.texts.count(NASTY) == 2  # what came, and the reason
    said = "".join(page.texts)
    assert said.count("as it came") == 2 and "earlier" not in said  # of the second, and on the button
    places = [one["value"] for one in page.all("input") if one.get("name") == "to"]
    assert places == ["1", "2", "0"]  # not the one in force
    await client.post("/logs/one", data={"act": "revert", "revision": "3", "to": "1"})
    wanted = {"revision": 1, "expected_revision": 3, "why": None}
    assert source.changes == [("revert", "one", wanted, "person:local")]
    assert (await client.post("/logs/one", data={"act": "revert", "to": "x", "revision": "3"})).status_code == 400
    assert (await client.post("/logs/one", data={"act": "forget"})).status_code == 400


async def test_a_dataset_is_started_from_a_search(client: httpx.AsyncClient, source: MemoryPages) -> None:
    sent = {"name": "pies", "query": "tag:topic:pie", "limit": "50", "test_share": ""}
    answer = await client.post("/datasets", data=sent)
    assert (answer.status_code, answer.headers["location"]) == (303, "/datasets/pies")
    assert source.changes == [("create", "pies", {"query": "tag:topic:pie", "limit": 50}, "person:local")]
    assert (await client.post("/datasets", data={"name": "pies", "limit": "many"})).status_code == 400


async def test_nothing_held_out_is_a_choice(client: httpx.AsyncClient, source: MemoryPages) -> None:
    await client.post("/datasets", data={"name": "pies", "query": "", "test_share": "0"})
    assert source.changes == [("create", "pies", {"query": "", "test_share": 0.0}, "person:local")]


async def test_an_edit_changes_the_text_and_keeps_the_rest(client: httpx.AsyncClient, source: MemoryPages) -> None:
    called = message("assistant", None, tool_calls=[{"id": "c1", "name": "run", "arguments": "{}"}])
    windows = message("tool", "a\r\nb", tool_call_id="c1")
    source.draft_rows = [row("one", message("user", "question"), called, windows, message("assistant", "old"))]
    page = Page(await client.get("/datasets/tickets"))
    hidden = {field["name"]: field["value"] for field in page.all("input") if field.get("type") == "hidden"}
    assert [area["name"] for area in page.all("textarea")] == ["content-0", "content-2", "content-3"]
    sent = {**hidden, "content-0": "question", "content-2": "a\r\nb", "content-3": "new\r\nanswer"}
    answer = await client.post("/datasets/tickets/edit-row", data=sent)
    assert answer.status_code == 303
    wanted = [message("user", "question"), called, windows, message("assistant", "new\nanswer")]
    assert source.changes == [("edit", "tickets", "one", wanted, "person:local")]


INGREDIENTS = [
    ({"kind": "search", "query": "a b", "limit": 5, "take": "balanced", "by": "app"}, ["a b", "balanced by app 5"]),
    ({"kind": "search", "query": "a", "answer": "corrected_only"}, ["only where corrected"]),
    ({"kind": "search", "query": ""}, ["every log"]),
    ({"kind": "pairs", "query": "x", "source": "models", "prefer": "grade"}, ["better and worse answers", "of models by grade"]),
    ({"kind": "logs", "log_ids": ["a"]}, ["1 picked log"]),
    ({"kind": "imported", "source": NASTY}, ["imported rows from", NASTY]),
    ({"kind": "version", "of": "general@v1", "share": 0.25}, ["general@v1", "25 % of the rows"]),
]  # fmt: skip


@pytest.mark.parametrize(("ingredient", "told"), INGREDIENTS)
async def test_a_page_says_what_a_draft_is_made_of(
    client: httpx.AsyncClient, source: MemoryPages, ingredient: dict[str, Any], told: list[str]
) -> None:
    draft = body_of(msgspec.convert({"ingredients": [ingredient]}, Recipe)).model_dump()
    source.found_datasets["tickets"]["draft"] = draft
    for path in ("/datasets", "/datasets/tickets"):
        page = Page(await client.get(path))
        text = "".join(page.texts)
        assert not page.all("img")
        assert [piece for piece in told if piece not in text] == []


async def test_a_preview_shows_the_report_and_leads_to_bad_rows(client: httpx.AsyncClient, source: MemoryPages) -> None:
    page = Page(await client.get("/datasets/tickets/preview"))
    assert {"there is no answer", "pii leaves out much of app", NASTY} <= set(page.texts)
    assert "/logs/a%2Fb%20c" in page.links()
    assert not page.all("img")
    source.bad = []
    assert "None." in Page(await client.get("/datasets/tickets/preview")).texts
    assert (await client.get("/datasets/nobody/preview")).status_code == 404


async def test_a_pair_shows_the_worse_answer_as_text(client: httpx.AsyncClient, source: MemoryPages) -> None:
    pair = row("one", message("user", "Why?"), message("assistant", "So."))
    source.draft_rows = [{**pair, "rejected": [message("assistant", NASTY)], "corrected": True}]
    page = Page(await client.get("/datasets/tickets"))
    assert {"The worse answer:", "corrected", NASTY} <= set(page.texts) and not page.all("img")


async def test_a_text_area_keeps_a_leading_line_break(client: httpx.AsyncClient, source: MemoryPages) -> None:
    source.draft_rows = [row("one", message("user", "\n\nlate start"), message("assistant", "yes"))]
    area = re.search(r"<textarea[^>]*>(.*?)</textarea>", (await client.get("/datasets/tickets")).text, re.DOTALL)
    assert area is not None and area[1] == "\n\n\nlate start"  # a browser drops the first


async def test_a_row_is_deleted_and_a_version_published(client: httpx.AsyncClient, source: MemoryPages) -> None:
    await client.post("/datasets/tickets/delete-row", data={"row_key": "one"})
    answer = await client.post(
        "/datasets/tickets/versions", data={"note": "", "method": "lora", "base": "/models/smol"}
    )
    assert answer.headers["location"] == "/datasets/tickets?published=2"
    await client.post("/datasets/tickets/versions", data={"note": "calm", "method": "", "base": ""})
    assert source.changes == [
        ("delete", "tickets", "one", "person:local"),
        ("publish", "tickets", None, {"method": "lora", "base": "/models/smol"}, "person:local"),
        ("publish", "tickets", "calm", None, "person:local"),
    ]


async def test_a_version_says_where_it_came_from_and_can_be_named_and_restored(
    client: httpx.AsyncClient, source: MemoryPages
) -> None:
    page = Page(await client.get("/datasets/tickets/versions/1"))
    assert {"/runs/r1", "/datasets/tickets/diff?from=3&to=1", "/datasets/tickets/versions/3"} <= set(page.links())
    told = " ".join(page.texts)
    assert NASTY in told and "general@v2" in told and "revision 2" in told and "best" in told
    assert (await client.get("/datasets/tickets/versions/9")).status_code == 404
    named = await client.post("/datasets/tickets/versions/1/alias", data={"alias": " calm "})
    assert named.headers["location"] == "/datasets/tickets/versions/1"
    restored = await client.post("/datasets/tickets/versions/1/restore")
    assert restored.headers["location"] == "/datasets/tickets"
    assert source.changes == [
        ("alias", "tickets", "calm", "1", "person:local"),
        ("restore", "tickets", "1", "person:local"),
    ]


async def test_a_difference_shows_both_texts_and_the_fields(client: httpx.AsyncClient) -> None:
    page = Page(await client.get("/datasets/tickets/diff?from=1&to=2"))
    assert page.texts.count(NASTY) >= 2  # before, and the worse answer after
    assert "messages[1].content" in page.texts
    assert "the first 1 are shown" in " ".join(page.texts)


async def test_training_without_a_base_model_is_refused(client: httpx.AsyncClient, source: MemoryPages) -> None:
    answer = await client.post("/datasets/tickets/versions", data={"method": "lora", "base": " "})
    assert answer.status_code == 422 and "needs a base model" in answer.text
    assert source.changes == []


async def test_a_run_shows_what_changed_and_why_it_was_rejected(client: httpx.AsyncClient, source: MemoryPages) -> None:
    source.events = [
        {
            "ts_ms": DAY_MS,
            "level": "info",
            "type": "metrics",
            "message": f"step {step}",
            "data": {"step": step, "loss": 3 / step},
        }
        for step in (1, 2, 3)
    ]
    page = Page(await client.get("/runs/r1"))
    text = " ".join(page.texts)
    assert "0.917" in text and "it forgot too much" in text and "/files/adapters/r1" in text
    drawn = {svg.get("aria-label") for svg in page.all("svg")}
    assert "Exact match, held-out rows: 0 before, 0.917 after" in drawn
    assert next(bar["width"] for bar in page.all("rect") if bar["class"] == "bar-after") == "458.5"
    assert len((page.all("polyline")[0]["points"] or "").split()) == 3
    assert "step 2" not in text  # metrics are drawn, not listed


async def test_a_loss_curve_is_of_the_model_that_there_is(client: httpx.AsyncClient, source: MemoryPages) -> None:
    died, went_on, told_late = (
        [(1, 1), (2, 2), (5, 5), (6, 6)],
        [(9, 4), (10, 5)],
        [(3, 3), (4, 4)],
    )  # when, and its step
    source.events = [
        {"ts_ms": ts_ms, "level": "info", "type": "metrics", "message": "", "data": {"step": step, "loss": 1.0 / ts_ms}}
        for ts_ms, step in died + went_on[:1] + told_late + went_on[1:]
    ]
    page = Page(await client.get("/runs/r1"))

    drawn = (page.all("polyline")[0]["points"] or "").split()
    heights = [float(point.split(",")[1]) for point in drawn]
    assert len(drawn) == 5, "steps 1 to 5, and no 6"
    assert heights == sorted(heights), "4 and 5 are those of the later attempt"


async def test_a_change_for_the_worse_looks_like_one(client: httpx.AsyncClient) -> None:
    badges = re.findall(r'badge (good|bad)?">([+-][\d.]+)<', (await client.get("/runs/r1")).text)
    assert badges == [("good", "+0.917"), ("good", "+0.4"), ("good", "-2.87"), ("bad", "+0.3")]


async def test_only_what_moves_refreshes_itself(client: httpx.AsyncClient) -> None:
    moving = {
        path: Page(await client.get(path)).all("main")[0].get("data-refresh-s")
        for path in ("/runs", "/runs/r2", "/runs/r1")
    }
    assert moving == {"/runs": "2", "/runs/r2": "2", "/runs/r1": None}


async def test_a_run_is_cancelled(client: httpx.AsyncClient, source: MemoryPages) -> None:
    answer = await client.post("/runs/r2/cancel")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/r2")
    assert source.changes == [("cancel", "r2", "person:local")]


async def test_a_run_shows_how_sure_it_is_what_was_lost_and_what_was_settled(client: httpx.AsyncClient) -> None:
    page = Page(await client.get("/runs/r4"))
    text = " ".join(" ".join(page.texts).split())
    assert "7 of 60 general questions that it could answer are lost" in text
    assert "-3.1 to -2.5" in text and "0.001" in text
    assert "80 rows" in text and "2.0 GB" in text
    assert "5 better, 1 worse, 2 alike or disputed, 1 not judged" in text
    assert "Held-out row 1" in page.texts and "General question 1: words" in text, "each kind has its own numbers"
    assert text.index("app: ") < text.index("language: de"), "what rose most comes first"
    html = (await client.get("/runs/r4")).text
    assert re.findall(r'badge (\w*)">([^<]* to [^<]*)<', html) == [("bad", "0.4 to 1.2"), ("good", "-0.7 to -0.2")]
    changes = re.findall(r'badge (\w*) ?">([+-][\d.]+)<', html)
    assert ("", "-2") in changes and ("good", "+2") in changes, "a shorter answer is neither better nor worse"
    assert ("", "+0.125") in changes, "what may be chance is not called better"
    assert "of our own" in text
    assert "-0.375 to -0.125" in text, "how sure it is that fewer are answered"


async def test_a_run_s_page_says_what_was_lost_and_learned_by_topic(client: httpx.AsyncClient) -> None:
    html = (await client.get("/runs/r4")).text
    rows = re.findall(r'<th scope="row">(words|of former days)</th>(.*?)</tr>', html, re.DOTALL)
    cells = {topic: [re.sub("<[^>]*>", "", cell) for cell in re.findall("<td.*?</td>", row)] for topic, row in rows}

    assert cells == {"words": ["12", "6", "0", "3", "1", "1"], "of former days": ["9", "5", "2", "–", "1", "1"]}
    assert 'badge bad">4<' in html and 'badge good">3<' in html
    assert re.findall(r'General question \d+: words <span class="badge (\w+)">(\w+)', html) == [("bad", "lost")]


async def test_runs_are_asked_for_by_dataset_and_status(client: httpx.AsyncClient) -> None:
    async def shown(**asked: str) -> set[str | None]:
        links = Page(await client.get("/runs", params=asked)).links()
        return {link for link in links if link and link.startswith("/runs/")}

    assert await shown(status="failed") == {"/runs/r3"}
    assert await shown(name="elsewhere") == set()
    assert len(await shown()) == 4


async def test_two_runs_are_compared_and_not_one(client: httpx.AsyncClient) -> None:
    page = Page(await client.get("/runs/compare?run=r1&run=r4"))
    assert {"/runs/r1", "/runs/r4"} <= set(page.links())
    text = " ".join(page.texts)
    assert "gates.a" in text and "-0.25" in text and "other rows" in text
    assert "-0.5 to -0.125" in text and "cannot be compared row by row" in text
    assert (await client.get("/runs/compare?run=r1")).status_code == 422


async def test_a_run_is_resumed_only_where_it_can_be(client: httpx.AsyncClient, source: MemoryPages) -> None:
    forms = {
        path: {one.get("action") for one in Page(await client.get(path)).all("form")}
        for path in ("/runs/r1", "/runs/r2", "/runs/r3", "/runs/r4")
    }
    assert {path: f"{path}/resume" in actions for path, actions in forms.items()} == {
        "/runs/r1": False, "/runs/r2": False, "/runs/r3": True, "/runs/r4": False,
    }  # fmt: skip
    assert {path: f"{path}/promote" in actions for path, actions in forms.items()} == {
        "/runs/r1": True, "/runs/r2": False, "/runs/r3": False, "/runs/r4": True,
    }  # fmt: skip
    answer = await client.post("/runs/r3/resume")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/r3")
    assert source.changes == [("resume", "r3", "person:local")]


async def test_a_model_is_promoted_and_a_rejected_one_with_a_reason(
    client: httpx.AsyncClient, source: MemoryPages
) -> None:
    assert "override" in {field.get("name") for field in Page(await client.get("/runs/r1")).all("input")}
    assert "override" not in {field.get("name") for field in Page(await client.get("/runs/r4")).all("input")}
    await client.post("/runs/r4/promote", data={"alias": "champion"})
    await client.post("/runs/r1/promote", data={"alias": "test", "override": " German only "})
    assert source.changes == [
        ("promote", "r4", {"alias": "champion"}, "person:local"),
        ("promote", "r1", {"alias": "test", "override": "German only"}, "person:local"),
    ]


async def test_a_draft_of_a_version_that_is_gone_is_still_shown(client: httpx.AsyncClient, source: MemoryPages) -> None:
    source.gone_from_draft = "there is no version 'best' of a dataset 'general'"
    answer = await client.get("/datasets/tickets")
    assert answer.status_code == 200
    page = Page(answer)
    assert page.unclosed == []
    assert source.gone_from_draft in " ".join(page.texts)
    assert "the first" in page.texts  # the note of the version that it has
    assert (await client.get("/datasets/nobody")).status_code == 404


async def test_a_run_on_a_dataset_from_elsewhere_has_a_page(client: httpx.AsyncClient, source: MemoryPages) -> None:
    source.found_runs["r9"] = run("r9", "succeeded", name="elsewhere", artefact_url="/files/r9")
    assert "/files/r9" in Page(await client.get("/runs/r9")).texts


async def test_a_dataset_shows_its_models_and_is_trained_by_itself(
    client: httpx.AsyncClient, source: MemoryPages
) -> None:
    page = Page(await client.get("/datasets/tickets"))
    assert "/runs/r4" in page.links() and "champion" in page.texts
    sent = {"on": "alias", "alias": "prod", "method": "full", "base": " /m ", "quiet_s": "60"}
    assert (await client.post("/datasets/tickets/training", data=sent)).status_code == 303
    source.policies = {
        "tickets": {"on": "alias:prod", "recipe": {"method": "full", "base": "/m", "epochs": 2}, "quiet_s": 60,
                    "priority": 5, "due_ms": DAY_MS, "due_version": 1},
    }  # fmt: skip
    text = " ".join(Page(await client.get("/datasets/tickets")).texts)
    assert "v1 is due" in text
    await client.post("/datasets/tickets/training", data={**sent, "on": "version"})
    await client.post("/datasets/tickets/training", data={"on": ""})
    recipe = {"method": "full", "base": "/m"}
    assert source.changes == [
        ("policy", "tickets", {"on": "alias:prod", "recipe": recipe, "quiet_s": 60, "priority": 0}, "person:local"),
        ("policy", "tickets", {"on": "version", "recipe": {**recipe, "epochs": 2}, "quiet_s": 60, "priority": 5},
         "person:local"),
        ("no policy", "tickets", "person:local"),
    ]  # fmt: skip
    for wrong in ({"base": ""}, {"quiet_s": "soon"}, {"quiet_s": "²"}, {"quiet_s": "9" * 5_000}):
        assert (await client.post("/datasets/tickets/training", data={**sent, **wrong})).status_code == 422


async def test_dead_letters_are_listed_and_counted_by_kind(client: httpx.AsyncClient, source: MemoryPages) -> None:
    again = letter(78, attempts=3, first_ts_ms=DAY_MS - 86_400_000, stage="index", error_code="mapping")
    source.dead_letters = [letter(77), again]
    text = (await client.get("/rejected")).text
    assert "not_json" in text and "2,048" in text and "llm.logs[2]@77" in text
    assert "2026-04-30 08:00:00" in text, "when it was rejected first"
    page = Page(await client.get("/rejected"))
    assert [at["href"] for at in page.all("a") if "stage=" in (at["href"] or "")] == [
        "/rejected?stage=decode&error_code=not_json",
        "/rejected?stage=index&error_code=mapping",
    ]
    one_kind = (await client.get("/rejected?stage=index&error_code=mapping")).text
    assert "llm.logs[2]@78" in one_kind and "llm.logs[2]@77" not in one_kind


async def test_dead_letters_beyond_those_held_are_counted(client: httpx.AsyncClient, source: MemoryPages) -> None:
    source.dead_letters, source.older = [letter(n) for n in range(201)], 12
    text = (await client.get("/rejected")).text
    assert "The newest 200 of 201." in text and "12 older ones" in text


async def test_a_dead_letter_and_a_kind_of_them_are_sent_again(client: httpx.AsyncClient, source: MemoryPages) -> None:
    source.dead_letters = [letter(77)]
    answer = await client.post("/rejected", data={"rejected_id": "llm.logs:2:77:0"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/rejected?redriven=1")
    assert "1 sent again." in (await client.get("/rejected?redriven=1")).text
    await client.post("/rejected", data={"stage": "decode", "error_code": "not_json"})
    assert source.changes == [
        ("redrive", {"ids": ["llm.logs:2:77:0"]}, "person:local"),
        ("redrive", {"stage": "decode", "error_code": "not_json"}, "person:local"),
    ]


async def test_a_dead_letters_payload_is_text_and_never_markup(client: httpx.AsyncClient, source: MemoryPages) -> None:
    source.dead_letters = [letter(77, payload="<script>alert(1)</script>", payload_encoding="text"), letter(78)]
    text = (await client.get("/rejected/llm.logs:2:77:0")).text
    assert "&lt;script&gt;alert(1)" in text and "<script>alert" not in text
    assert "were not kept" in (await client.get("/rejected/llm.logs:2:78:0")).text
    assert (await client.get("/rejected/llm.logs:2:79:0")).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
@pytest.mark.parametrize("keyed", [True, False])
async def test_a_form_of_another_site_is_refused(headers: dict[str, str], keyed: bool) -> None:
    source = MemoryPages([log("one", "q", "a")], keyed=keyed)
    async with client_of(source) as client:
        client.cookies.set("tunemill_key", KEY)
        answer = await client.post("/logs/one", data={"add": "a:b"}, headers=headers)
        assert answer.status_code == 403
        assert source.changes == []
        own = await client.post("/logs/one", data={"add": "a:b"}, headers={"Origin": "http://localhost:8080"})
        assert own.status_code == 303


async def test_something_is_done_to_all_that_match_once_they_were_counted(
    client: httpx.AsyncClient, source: MemoryPages
) -> None:
    counted = await client.get("/jobs/new", params={"q": "math"})
    page = Page(counted)
    assert "/logs/one" in page.links()
    kinds = [given["value"] for given in page.all("input") if given.get("name") == "kind"]
    assert kinds == ["tags", "consent", "delete"]
    assert {given["value"] for given in page.all("input") if given.get("name") == "expected_total"} == {"2"}
    assert not [given for given in page.all("input") if given.get("name") == "everything"]
    assert "everything" in (await client.get("/jobs/new")).text
    common = {"query": "math", "expected_total": "2"}
    forms = [
        {**common, "kind": "tags", "add": " a:b  c:d ", "remove": "", "why": " a reason "},
        {**common, "kind": "consent", "consent": "none", "why": ""},
        {**common, "kind": "delete", "everything": "yes"},
    ]
    for sent in forms:
        answer = await client.post("/jobs", data=sent)
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/j%2F1")
    assert [wanted for _, wanted, _ in source.changes] == [
        {**common, "kind": "tags", "add": ["a:b", "c:d"], "why": "a reason"},
        {**common, "kind": "consent", "consent": "none"},
        {**common, "kind": "delete", "everything": True},
    ]


async def test_an_erasure_is_counted_then_begun_and_its_receipt_is_shown(
    client: httpx.AsyncClient, source: MemoryPages
) -> None:
    counted = Page(await client.get("/erasures", params={"kind": "subject", "value": "u-1"}))
    hidden = {given["name"]: given["value"] for given in counted.all("input") if given.get("type") == "hidden"}
    assert hidden == {"subject": "u-1", "expected_total": "3"}
    answer = await client.post("/erasures", data=hidden)
    assert (answer.status_code, answer.headers["location"]) == (303, "/erasures/e%2F1")
    assert source.changes == [("erasure", hidden, "person:local")]
    refused = Page(await client.get("/erasures", params={"kind": "query", "value": ""}))
    assert not [given for given in refused.all("input") if given.get("type") == "hidden"]
    everything = Page(await client.get("/erasures", params={"kind": "query", "value": "*"}))
    assert "the query matches every log: name what is to be erased" in everything.texts
    receipt = Page(await client.get("/erasures/e1"))
    assert {"/datasets/tickets", "/runs/r1"} <= set(receipt.links())
    assert "exposed" in receipt.texts and NASTY in receipt.texts
    assert "data-refresh-s" not in receipt.all("main")[0]
    waiting = Page(await client.get("/erasures/e2"))
    assert waiting.all("main")[0]["data-refresh-s"] == "2"
    assert "/erasures/e0" in waiting.links()


async def test_a_job_is_followed_stopped_and_taken_back(client: httpx.AsyncClient, source: MemoryPages) -> None:
    def forms(page: Page) -> list[str | None]:
        return [given["action"] for given in page.all("form") if given["action"] != "/sign-out"]

    running = Page(await client.get("/jobs/j1"))
    assert forms(running) == ["/jobs/j1/cancel"] and "/jobs/j2" in running.links()
    assert running.all("main")[0]["data-refresh-s"] == "2"
    failed = Page(await client.get("/jobs/j2"))
    assert forms(failed) == ["/jobs/j2/undo"] and "data-refresh-s" not in failed.all("main")[0]
    assert "it refused one" in failed.texts and NASTY in failed.texts
    deleted = Page(await client.get("/jobs/j3"))
    assert forms(deleted) == [], "a deletion is for good"
    assert any('"dropped": 3' in text for text in deleted.texts)
    limits = Page(await client.get("/jobs/j4")).texts
    assert "30" in limits and "None" not in limits and any('"logs": 7' in text for text in limits)
    for act in ("cancel", "undo"):
        assert (await client.post(f"/jobs/j1/{act}")).headers["location"] == "/jobs/j1"
    assert [change[:2] for change in source.changes] == [("cancel job", "j1"), ("undo job", "j1")]


async def test_a_keyed_server_asks_for_its_key_first() -> None:
    source = MemoryPages([log("one", "q", "a")], keyed=True)
    async with client_of(source) as client:
        for method, path, _ in ROUTES:
            answer = await client.request(
                method, path.replace("{log_id:path}", "one").replace("{", "").replace("}", "")
            )
            assert answer.status_code == 303 and answer.headers["location"].startswith("/sign-in"), path
        assert source.changes == [] and source.searches == []
        wanted = await client.get("/logs/one?format=json")
        assert wanted.headers["location"] == "/sign-in?next=%2Flogs%2Fone%3Fformat%3Djson"


async def test_the_key_is_kept_where_no_script_reads_it() -> None:
    source = MemoryPages([log("one", "q", "a")], keyed=True)
    async with client_of(source) as client:
        wrong = await client.post("/sign-in", data={"key": "guess", "next": "/runs"})
        assert wrong.status_code == 401 and "set-cookie" not in wrong.headers and "guess" not in wrong.text
        right = await client.post("/sign-in", data={"key": KEY, "next": "/logs/one"})
        assert (right.status_code, right.headers["location"]) == (303, "/logs/one")
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(right.headers["set-cookie"].split("; "))
        shown = await client.get("/logs/one")
        assert shown.status_code == 200 and KEY not in shown.text
        await client.post("/logs/one", data={"add": "a:b"})
        assert source.changes == [("tags", "one", ["a:b"], [], "person:testkey1")]
        await client.post("/sign-out")
        assert (await client.get("/logs/one")).status_code == 303


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "runs", "javascript:alert(1)"]
)
async def test_signing_in_never_leads_to_another_site(elsewhere: str) -> None:
    async with client_of(MemoryPages(keyed=True)) as client:
        answer = await client.post("/sign-in", data={"key": KEY, "next": elsewhere})
        assert answer.headers["location"] == "/"


async def test_our_own_files_are_served_and_no_others(client: httpx.AsyncClient) -> None:
    for file in (HERE / "static").iterdir():
        assert (await client.get(f"/static/{file.name}")).content == file.read_bytes()
    assert (await client.get("/static/..%2Fpages.py")).status_code == 404


async def test_what_is_not_there_is_a_page_that_says_so(client: httpx.AsyncClient) -> None:
    answer = await client.get("/logs/none")
    assert answer.status_code == 404 and "there is no log" in answer.text


async def test_a_form_that_is_no_form_is_refused(client: httpx.AsyncClient, source: MemoryPages) -> None:
    answer = await client.post("/logs/one", content=b"add=%ff\xff")
    assert answer.status_code == 400 and source.changes == []

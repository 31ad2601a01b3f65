"""The search page of a running API: its histogram, sorts and facets lead to what they show."""

import html
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
from fakes.curator_api import Running, running_api, tagged

from tunemill.curator_api.charts import WIDTH, columns
from tunemill.curator_api.settings import Settings
from tunemill.indexer.search import SORTS
from tunemill.schemas.records import Said
from tunemill.streams.fingerprint import fingerprints

AT_MS = 1_699_999_200_000  # a full hour
LOGS = [
    tagged(f"l{at}", f"apple {at}", ts_ms=AT_MS + minute * 60_000, finish_reason="stop", provider="sample", latency_ms=9.0 - at)
    for at, minute in enumerate((0, 0, 5, 5, 10, 10, 240))
]  # fmt: skip
JUDGED = msgspec.structs.replace(tagged("judged", "pear", ts_ms=AT_MS), feedback=(Said(name="correct", score=0.0),))
OPEN = Settings(require_key=False)


async def shown(api: Running, path: str) -> str:
    answer = await api.client.get(path)
    assert answer.status_code == 200
    return html.unescape(answer.text)


async def test_a_column_of_the_histogram_leads_to_the_logs_that_it_counts(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS, settings=OPEN) as api:
        page = await shown(api, "/?q=apple")
        found = re.findall(r'<a href="([^"]+)"><rect[^>]*><title>([^:]+:[^:]+:[^:]+): (\d+)</title>', page)
        assert [(time, int(count)) for _, time, count in found] == [
            *((f"2023-11-14 22:{minute}:00", 2) for minute in ("00", "05", "10")),
            ("2023-11-15 02:00:00", 1),
        ]
        for link, _, count in found:
            (query,) = parse_qs(urlsplit(link).query)["q"]
            answer = (await api.client.get("/v1/search", params={"q": query})).json()
            assert answer["total"] == int(count)


async def test_every_sort_and_facet_can_be_chosen(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS, JUDGED, settings=OPEN) as api:
        page = await shown(api, "/?sort=latency")
        links = re.findall(r"[?&]sort=(\w+)\">(\w+)<", page)
        assert links == [(name, name) for name in SORTS if name not in ("relevance", "latency")]
        assert page.index("/logs/l0") < page.index("/logs/l6") < page.index("/logs/judged")
        assert "<strong>latency</strong>" in page
        for term in ("provider%3Asample", "finish%3Astop", "feedback%3Acorrect%3A0"):
            assert f"/?q={term}&sort=latency" in page
        assert "<strong>relevance</strong>" in await shown(api, "/?sort=nonsense")


async def test_logs_with_some_of_the_words_stand_under_a_heading_of_their_own(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS, JUDGED, tagged("both", "apple pear"), settings=OPEN) as api:
        page = await shown(api, "/?q=apple+pear")
        assert "<strong>1</strong> log with all words" in page
        places = [page.index(part) for part in ("/logs/both", "<h2>8 logs with some of the words</h2>", "/logs/l0")]
        assert places == sorted(places)
        assert "consent of all 1" in page
        page = await shown(api, "/?q=apple+quince")
        places = [page.index(part) for part in ("<strong>0</strong> logs with all words", "<h2>8 logs", "/logs/l0")]
        assert places == sorted(places)
        assert "consent of all" not in page
        for text in ("apple", "plum+cherry", "apple+pear&sort=newest"):
            assert "with some of the words" not in await shown(api, f"/?q={text}")


async def test_where_no_log_has_all_words_those_with_one_are_offered(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS, JUDGED, settings=OPEN) as api:
        offer = '<a href="/?q=apple+OR+pear">8 with one of them</a>'
        assert offer in await shown(api, "/?q=apple+pear&sort=newest")
        assert "Try fewer words" in await shown(api, "/?q=plum")


async def test_a_log_leads_to_its_neighbours_in_its_session(tmp_path: Path) -> None:
    logs = [tagged(f"l{at}", f"question <{at}>", ts_ms=AT_MS + at, session_id="s") for at in range(3)]
    async with running_api(tmp_path, *logs, tagged("alone", session_id="t"), settings=OPEN) as api:
        page = (await api.client.get("/logs/l1")).text
        assert "2 of 3" in page
        links = re.findall(r'<li><a class="clamp" href="/logs/(l\d)">([^<]+)</a></li>', page)
        assert links == [("l0", "question &lt;0&gt;"), ("l2", "question &lt;2&gt;")]
        assert "In its session" not in (await api.client.get("/logs/alone")).text


def test_columns_stand_where_their_time_is() -> None:
    assert columns(10, []) == []
    first, second, last = columns(10, [(100, 4), (120, 1), (190, 100)])
    assert (first.x, second.x, last.x + WIDTH / 10) == (0.0, 2 * WIDTH / 10, WIDTH)
    assert (first.start_ms, first.end_ms, first.logs) == (100, 110, 4)
    assert second.height == first.height == 2 < last.height
    assert first.width < WIDTH / 10


async def test_the_page_of_a_log_leads_to_logs_like_it(tmp_path: Path) -> None:
    words = " ".join(f"word{at}" for at in range(60))
    sketched = []
    for log in (tagged("a/b", words), tagged("near", f"{words} more"), tagged("other", "nothing of it")):
        (sketch,) = fingerprints([log.log])
        sketched.append(msgspec.structs.replace(log, fingerprint=sketch))
    async with running_api(tmp_path, *sketched, settings=OPEN) as api:
        (link,) = re.findall(r'<a href="([^"]+)">Logs like this one<', await shown(api, "/logs/a%2Fb"))
        nearly, alike = (await shown(api, link)).split("<h2>Alike</h2>")
        assert re.findall(r'href="(/logs/[^"]+)">([^<]+)</a> <span[^>]*>about (\d+)', nearly)[0][:2] == (
            "/logs/near",
            "near",
        )
        assert "/logs/near" in alike and "/logs/other" not in nearly + alike
        assert (await api.client.get("/similar?log_id=none")).status_code == 404
        assert (await api.client.get("/similar")).status_code == 400

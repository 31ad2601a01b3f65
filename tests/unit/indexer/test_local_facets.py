"""Facets of the embedded index: logs with the same values are counted at once, and one by one where few have the same."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import pytest

from tunemill.indexer import local_facets
from tunemill.indexer.local import LocalIndex
from tunemill.indexer.query import parse
from tunemill.indexer.search import FACET_VALUES, SearchPage, SearchRequest
from tunemill.schemas.records import LogRecord, Message, Tag, TaggedLog


def log(log_id: str, *tags: str, app: str | None = None, text: str = "apple") -> TaggedLog:
    record = LogRecord(log_id=log_id, ts_ms=1, app=app, messages=(Message(role="user", content=text),))
    return TaggedLog(log=record, tags=tuple(Tag(tag, "rule@1") for tag in tags), content_digest="d")


async def page_of(folder: Path, logs: list[TaggedLog], request: SearchRequest) -> SearchPage:
    index = LocalIndex(folder, project="default")
    try:
        await index.write(logs)
        return await index.search(request)
    finally:
        await index.close()


async def facets(folder: Path, logs: list[TaggedLog], query: str) -> Mapping[str, list[tuple[str, int]]]:
    page = await page_of(folder, logs, SearchRequest(parse(query), limit=0))
    return {name: [(item.value, item.count) for item in items] for name, items in page.facets.items()}


def ranked(values: Iterable[str | None]) -> list[tuple[str, int]]:
    counted = Counter(value for value in values if value is not None)
    return sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))[:FACET_VALUES]


@pytest.mark.parametrize("most_texts", [1, 10, local_facets.MOST_TEXTS])
async def test_values_are_counted_alike_however_many_go_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_texts: int
) -> None:
    monkeypatch.setattr(local_facets, "MOST_TEXTS", most_texts)
    draw = random.Random(0)
    tags, apps = [f"t:{tag:02}" for tag in range(30)], [None, "a", "b", 'c"\\\0', ""]
    logs = [
        log(str(at), *draw.sample(tags, draw.randrange(5)), app=draw.choice(apps), text=draw.choice("xy"))
        for at in range(200)
    ]
    some = [one for one in logs if one.log.messages[0].content == "x"]
    found = await facets(tmp_path, logs, "x")
    assert found["tag"] == ranked(tag.tag for one in some for tag in one.tags)
    assert found["app"] == ranked(one.log.app for one in some)
    assert found["language"] == found["feedback"] == []


async def test_logs_with_very_many_tags_are_counted_too(tmp_path: Path) -> None:
    """All of their tags in one text are longer than any that tantivy tells apart."""
    many = [f"{at:03}" + "x" * 1_000 for at in range(100)]
    found = await facets(tmp_path, [log("a", *many, "z"), log("b", *many, "z", "zz"), log("c", "z")], "apple")
    assert found["tag"] == [("z", 3), *((tag, 2) for tag in many[: FACET_VALUES - 1])]


@pytest.mark.parametrize("counts", [True, False])
async def test_logs_are_counted_whether_they_were_tagged_or_not(tmp_path: Path, counts: bool) -> None:
    failed = [msgspec.structs.replace(log(f"failed-{at}"), tag_status="failed") for at in range(3)]
    page = await page_of(tmp_path, [log("a"), *failed, log("b")], SearchRequest(parse("apple"), limit=0, counts=counts))
    assert page.total == 5
    assert page.histogram is None or page.histogram.buckets == ((0, 5),)

"""What is deleted from an index or the registry can be taken off its disk, on every engine that can."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from elasticsearch import AsyncElasticsearch
from fakes.curator_api import tagged
from sqlalchemy import delete, insert, update

from tunemill.indexer.open import open_index
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchRequest
from tunemill.registry.open import expunge, migrate, open_registry
from tunemill.registry.tables import saved_searches
from tunemill.schemas.records import Feedback

WORDS = [f"canary{number:03d}x" for number in range(300)]


@pytest.fixture(params=["embedded", pytest.param("elasticsearch", marks=pytest.mark.live)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield f"local:{tmp_path}" if request.param == "embedded" else request.getfixturevalue("elasticsearch_url")


async def test_what_was_deleted_is_gone_from_the_disk(url: str, tmp_path: Path) -> None:
    index = open_index(url, project="expunged")
    await index.setup()
    logs = [
        tagged(word, f"{word} asks", f"{word} answers " * (number % 40), user_id=word)
        for number, word in enumerate(WORDS)
    ]
    await index.write(logs)
    await index.refresh()
    await index.add_feedback(
        [Feedback(feedback_id=word, ts_ms=1, name="f", log_id=word, comment=word) for word in WORDS]
    )
    gone, kept = WORDS[::2], WORDS[1::2]
    try:
        await index.delete(gone)
        await index.expunge()
        await index.refresh()
        for word in (gone[0], gone[-1], kept[0], kept[-1]):
            page = await index.search(SearchRequest(parse(word)))
            assert page.total == (word in kept)
        if url.startswith("local:"):
            raw = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
            assert not [word for word in gone if word.encode() in raw]
            assert all(word.encode() in raw for word in kept)
        else:
            await nothing_deleted_is_left(url)
        log = await index.get(kept[0])
        assert log is not None
        assert [item.comment for item in await index.feedback_of(log.log)] == [kept[0]]
        await index.expunge()  # nothing was deleted since
        assert [found.log.log_id async for found in index.scan(parse(""), limit=None)] == sorted(kept)
    finally:
        await index.delete(kept)
        await index.close()


async def nothing_deleted_is_left(url: str) -> None:
    client = AsyncElasticsearch(url)
    try:
        stats = await client.indices.stats(index="*-expunged-*", metric=["docs", "translog"])
    finally:
        await client.close()
    total = stats["_all"]["total"]
    assert total["docs"]["deleted"] == 0
    assert total["translog"]["operations"] == 0


async def test_nothing_is_made_anew_where_nothing_was_deleted(tmp_path: Path) -> None:
    index = open_index(f"local:{tmp_path}")
    await index.write([tagged("one")])
    folder = tmp_path / "logs-default" / "search"
    before = folder.stat().st_ino
    await index.delete(["another"])
    await index.expunge()
    assert folder.stat().st_ino == before
    await index.delete(["one"])
    await index.expunge()
    assert folder.stat().st_ino != before
    await index.close()


def test_what_was_deleted_from_the_registry_is_gone_from_its_file(tmp_path: Path) -> None:
    registry = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(registry)
    chance = random.Random(1)
    names = [f"canary{number:04d}" for number in range(1500)]

    def values(name: str) -> dict[str, str]:
        return {"name": name, "query": f"{name} {'x' * chance.randint(1, 900)}"}

    with registry.begin() as connection:
        said = {"project": "p", "by": "b", "created_ms": 1, "updated_ms": 1}
        connection.execute(insert(saved_searches), [{**said, **values(name)} for name in names])
        for name in chance.sample(names, 700):  # rows that grow and shrink are moved, and leave copies behind
            connection.execute(update(saved_searches).where(saved_searches.c.name == name).values(**values(name)))
        connection.execute(delete(saved_searches).where(saved_searches.c.name.in_(names[::2])))
    assert expunge(registry)
    raw = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not [name for name in names[::2] if name.encode() in raw]
    assert all(name.encode() in raw for name in names[1::2])
    registry.dispose()

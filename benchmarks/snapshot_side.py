"""One side of `benchmarks.snapshot`, in a process of its own, so that its memory is its own.

    python -m benchmarks.snapshot_side SIDE URL PROJECT FOLDER

It works in a new folder within the one that is named, and ends with one line of JSON.
"""

import asyncio
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunemill.curator_api import draft_store, version_store
from tunemill.curator_api.amend import amend
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.gather import policy
from tunemill.curator_api.publish import Order, publish
from tunemill.curator_api.publish_files import folder as dataset_folder
from tunemill.curator_api.published import stored_rows
from tunemill.curator_api.recipe import Recipe, Search
from tunemill.curator_api.rows import RowEdit, RowMessage
from tunemill.curator_api.settings import Settings
from tunemill.curator_api.store import Files
from tunemill.indexer.open import open_index
from tunemill.indexer.query import parse
from tunemill.registry.open import migrate, open_registry
from tunemill.streams.tagging import StreamTagging

NAME = "measured"
CHANGED_SHARE = 0.001

Found = dict[str, Any]


class CountedFiles(Files):
    """`Files` that count the bytes they really write."""

    written_bytes = 0

    def put(self, path: str, content: bytes) -> str:
        """As `Files` does."""
        self.written_bytes += len(content)
        return super().put(path, content)

    def put_many(self, contents: Mapping[str, bytes]) -> int:
        """As `Files` does."""
        written = super().put_many(contents)
        self.written_bytes += written
        return written


def main() -> None:
    """Measure one side."""
    side, url, project, folder = sys.argv[1:]
    pa.array([["imports"]])  # what pyarrow loads when it is first used, on both sides: no time of either
    sides = {"publish": _publish, "change": _change, "hand_written": _hand_written}
    found = sides[side](url, project, Path(tempfile.mkdtemp(dir=folder)))
    print(json.dumps({**found, "peak_bytes": _peak_bytes()}))


def _publish(url: str, project: str, place: Path) -> Found:
    async def once() -> Found:
        curator = _curator(url, project, place)
        try:
            return await _published(curator)
        finally:
            await curator.index.close()

    return asyncio.run(once())


def _change(url: str, project: str, place: Path) -> Found:
    """A whole version, and then 0.1 % of its answers edited: scattered over it, and neighbours."""

    async def all_three() -> Found:
        curator = _curator(url, project, place)
        try:
            whole = await _published(curator)
            version = version_store.find_version(curator.registry, project, NAME, 1)
            rows = list(stored_rows(curator.files, dataset_folder(project, NAME), version))
            count = max(1, round(CHANGED_SHARE * len(rows)))
            scattered = random.Random(7).sample(rows, count)
            start = len(rows) // 3
            found = {"whole": whole}
            for kind, some in (("scattered", scattered), ("neighbours", rows[start : start + count])):
                for row in some:
                    answer = RowMessage(role="assistant", content=f"an edited answer, {kind}")
                    edit = RowEdit((*row.row.messages[:-1], answer))
                    draft_store.edit_rows(curator.registry, project, NAME, {row.row_keys[0]: edit}, by="benchmark")
                found[kind] = {"changed": count, **await _timed(curator, amends=True)}
            return found
        finally:
            await curator.index.close()

    return asyncio.run(all_three())


async def _published(curator: Curator) -> Found:
    draft = Recipe(ingredients=(Search(query=""),))
    draft_store.create(curator.registry, curator.project, NAME, draft)
    policy(curator)  # a service has read the rules in force long before
    return await _timed(curator, amends=False)


async def _timed(curator: Curator, *, amends: bool) -> Found:
    files: Any = curator.files
    before, floor = files.written_bytes, _peak_bytes()
    begun, cpu = time.perf_counter(), time.process_time()
    order = Order(name=NAME, by="benchmark")
    version = await (amend(curator, order, "latest") if amends else publish(curator, order))
    return {
        "seconds": time.perf_counter() - begun,
        "cpu_s": time.process_time() - cpu,
        "rows": version.rows,
        "written_bytes": files.written_bytes - before,
        "floor_bytes": floor,
    }


def _curator(url: str, project: str, place: Path) -> Curator:
    registry = open_registry(f"sqlite:///{place / 'registry.db'}")
    migrate(registry)
    unused: Any = None
    return Curator(
        bus=unused,
        index=open_index(url, project=project),
        registry=registry,
        files=CountedFiles(str(place / "files")),
        settings=Settings(project=project),
        examine=unused,
        mask=unused,
        records_in=unused,
        told_in=unused,
        tagging=StreamTagging(),
        dead_letters=unused,
    )


def _hand_written(url: str, project: str, place: Path) -> Found:
    """What one writes by hand: scan, one line of JSON a row, and the `datasets` library to make Parquet of the lines."""
    os.environ["HF_DATASETS_CACHE"] = str(place / "cache")
    import datasets

    datasets.disable_progress_bars()
    lines, floor = place / "rows.jsonl", _peak_bytes()
    begun, cpu = time.perf_counter(), time.process_time()
    with lines.open("w", encoding="utf-8") as file:
        for record in _records(url, project):
            file.write(json.dumps(_row(record)) + "\n")
    dataset = datasets.Dataset.from_generator(_read, gen_kwargs={"path": str(lines)}, cache_dir=str(place / "cache"))
    dataset.to_parquet(str(place / "dataset.parquet"))
    return {
        "seconds": time.perf_counter() - begun,
        "cpu_s": time.process_time() - cpu,
        "rows": len(dataset),
        "written_bytes": (place / "dataset.parquet").stat().st_size,
        "floor_bytes": floor,
    }


def _records(url: str, project: str) -> Iterator[Mapping[str, Any]]:
    if url.startswith("local:"):
        yield from _dumped(url, project)
        return
    from elasticsearch import Elasticsearch
    from elasticsearch.helpers import scan

    from tunemill.indexer.mapping import alias

    with Elasticsearch(url, request_timeout=60) as client:
        for hit in scan(client, index=alias(project), query={"query": {"match_all": {}}}, size=1_000):
            yield hit["_source"]["record"]


def _dumped(url: str, project: str) -> Iterator[Mapping[str, Any]]:
    """The embedded index has no scan of its own: its dump, decoded."""
    index = open_index(url, project=project)
    with asyncio.Runner() as runner:
        pages = index.dump(parse(""))
        while (page := runner.run(_next(pages))) is not None:
            yield from (json.loads(one.record) for one in page)
        runner.run(index.close())


async def _next(pages: Any) -> Any:
    return await anext(pages, None)


def _row(record: Mapping[str, Any]) -> Found:
    log = record["log"]
    said = [*log["messages"], *log["output"][:1]]
    return {"id": log["log_id"], "messages": [{"role": one["role"], "content": one["content"]} for one in said]}


def _read(path: str) -> Iterator[Any]:
    with Path(path).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _peak_bytes() -> int:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()

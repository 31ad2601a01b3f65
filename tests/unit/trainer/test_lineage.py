"""From a run's manifest alone to the logs that each of its training rows came from."""

import hashlib
import json
from contextlib import closing
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
from fakes.tiny_model import publish_dataset, sources_url, tickets

from tunemill.schemas.manifest import DatasetManifest, SourcesManifest, manifest_digest, sources_file
from tunemill.schemas.origin import read_origins
from tunemill.trainer.attempt import run
from tunemill.trainer.job import Listener, Order, Speaker, WorkFolder
from tunemill.trainer.publish import MANIFEST
from tunemill.trainer.recipe import resolve

QUICK = {"max_steps": 1, "eval_generate_rows": 0, "precision": "fp32", "replay_share": 0.0}


def logs_by_question(artefact: Path) -> dict[str, tuple[str, ...]]:
    """What each training row's user asks, and the logs that it came from; every file is checked against the name that led to it."""
    said = json.loads((artefact / MANIFEST).read_bytes())["dataset"]
    manifest, named = Path(said["manifest_url"]).read_bytes(), Path(said["sources_url"]).read_bytes()
    assert manifest_digest(manifest) == said["digest"]
    assert hashlib.sha256(named).hexdigest() == Path(said["sources_url"]).stem
    dataset, sources = (
        msgspec.json.decode(manifest, type=DatasetManifest),
        msgspec.json.decode(named, type=SourcesManifest),
    )
    assert sources.digest == said["digest"]
    folder, found = Path(said["manifest_url"]).parents[1], {}
    for part, beside in zip(dataset.parts, sources.sources, strict=True):
        if part.split == "train":
            rows = pq.read_table(folder / part.path).to_pylist()
            for row, origin in zip(rows, read_origins((folder / sources_file(beside)).read_bytes()), strict=True):
                assert row["row_id"] == origin.row_id
                found[json.loads(row["messages"][1])["content"]] = origin.log_ids
    return found


def test_a_run_s_manifest_leads_to_the_logs_of_the_rows_that_it_was_trained_on(tmp_path: Path, tiny_base: Path) -> None:
    splits = {"train": tickets(6), "test": tickets(6, start=500)}
    logs = {split: [(f"{split}-{i}", f"{split}-{i}-again") for i in range(6)] for split in splits}
    sources = {split: [{"log_ids": ids} for ids in named] for split, named in logs.items()}
    files, recipe = tmp_path / "files", resolve({"base": str(tiny_base), **QUICK})
    url, digest = publish_dataset(files, "tickets", splits, sources=sources)
    names = {"run_id": "run-1", "attempt": 1, "project": "default", "name": "tickets", "version": 1, "digest": digest}
    folder = WorkFolder(tmp_path / "run")
    folder.path.mkdir()
    with closing(Speaker(folder.progress(1))) as speaker:
        order = Order(**names, manifest_url=url, sources_url=sources_url(url), recipe=recipe)
        run(order, folder, speaker, lambda: False)
    result = Listener(folder.progress(1)).lines()[-1].data["result"]

    found = logs_by_question(folder.artefact)
    asked = [row["messages"][1]["content"] for row in splits["train"]]
    assert found == dict(zip(asked, logs["train"], strict=True))
    assert result["rows"]["train"] == len(found)

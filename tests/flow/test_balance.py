"""A dataset of logs that are unlike in number: what stays, what its version says of it, and that a restore keeps it."""

import random
from pathlib import Path
from typing import Any

from fakes.curator_api import running_api, tagged

from tunemill.schemas.records import TaggedLog

RECIPE: dict[str, Any] = {
    "ingredients": [{"kind": "search", "query": "app:shop OR app:desk", "limit": 130, "take": "random"}],
    "filters": {"near_duplicates": 0.8},
    "weights": [{"by": "meta:team", "keep": {"blue": 0.5}}],
    "caps": [{"by": "language", "share": 0.6}],
    "slices": ["language", "app"],
    "groups": ["team"],
    "seed": 3,
    "test_share": 0.3,
}


def logs() -> list[TaggedLog]:
    """120 English and 60 German ones, 40 of which nobody allowed; of 20 there is a copy with two other words."""
    draw = random.Random(8)
    found = []
    for n in range(180):
        words = [f"w{draw.randrange(10**6)}" for _ in range(80)]
        language = "de" if n % 3 == 0 else "en"
        more: dict[str, Any] = {
            "language": language,
            "app": "shop" if n % 2 else "desk",
            "metadata": {"team": "blue" if n % 4 else "red"},
            "consent": "none" if language == "de" and n < 120 else "train",
            "ts_ms": n + 1,
        }
        found.append(tagged(f"log-{n}", f"question {n}", " ".join(words), **more))
        if n >= 160:
            found.append(tagged(f"copy-{n}", f"question {n}", " ".join(["other", "words", *words[2:]]), **more))
    return found


async def test_what_stays_is_told_by_slice_and_stays_when_it_is_restored(tmp_path: Path) -> None:
    async with running_api(tmp_path, *logs()) as api:
        made = await api.client.post("/v1/datasets", json={"name": "support", **RECIPE})
        assert made.status_code == 201, made.text
        published = await api.client.post("/v1/datasets/support/versions", json={})
        assert published.status_code == 201, published.text
        version = published.json()
        report = version["report"]
        assert report["matched"] == 200 == report["rows"] + sum(report["excluded"].values())
        assert report["excluded"].keys() == {"consent", "near_duplicate", "not_sampled", "weighted_out", "capped"}
        by_itself = [report["excluded"][reason] for reason in ("consent", "near_duplicate", "not_sampled")]
        assert by_itself == [40, 20, 10]
        assert report["near_duplicates"]["clusters"] == 20
        language, team = report["slices"]["language"], report["slices"]["meta:team"]
        assert max(its["rows"] for its in language.values()) <= 0.6 * report["rows"]
        assert language["de"]["out"]["consent"] == 40
        assert sum(its["duplicates"] for its in team.values()) == 20
        assert "weighted_out" not in team["red"]["out"]
        assert report["warnings"] == [
            f"consent leaves out {round(100 * 40 / language['de']['logs'])} % of language de, 0 % of the rest"
        ]
        assert report["balance"]["caps"] == [{"by": "language", "share": 0.6}]
        copied = await api.client.post("/v1/datasets/support/restore", json={"version": "1", "as": "copy"})
        assert copied.status_code in {200, 201}, copied.text
        again = await api.client.post("/v1/datasets/copy/versions", json={})
        assert again.json()["digest"] == version["digest"]
        assert again.json()["report"]["excluded"] == {}

"""The same logs in Elasticsearch and in the embedded index make the same version, to the digest."""

from pathlib import Path

import pytest
from engines.own_index import opened
from fakes.curator_api import running_api, tagged

LOGS = [
    tagged(
        f"l{n:03}",
        f"question {n}",
        f"answer {n % 90}",
        ts_ms=1_700_000_000_000 + n,
        session_id=f"s{n // 4}",
        app="abc"[n % 3],
    )
    for n in range(150)
]
RECIPES = [
    {"ingredients": [{"kind": "search", "query": ""}], "test_share": 0.3},
    {
        "ingredients": [{"kind": "search", "query": "tag:topic:math", "limit": 70, "take": "balanced", "by": "app"}],
        "caps": [{"by": "app", "share": 0.4}],
        "seed": 7,
    },
]


@pytest.mark.live
@pytest.mark.parametrize("recipe", RECIPES)
async def test_both_engines_give_one_digest(tmp_path: Path, elasticsearch_url: str, recipe: dict[str, object]) -> None:
    digests = []
    for name, url in (("elasticsearch", elasticsearch_url), ("embedded", f"local:{tmp_path / 'index'}")):
        folder = tmp_path / name
        folder.mkdir()
        async with opened(url) as index, running_api(folder, *LOGS, index=index) as api:
            made = await api.client.post("/v1/datasets", json={"name": "math", **recipe})
            assert made.status_code == 201, made.text
            digests.append((await api.client.post("/v1/datasets/math/versions")).json()["digest"])
    assert digests[0] == digests[1]

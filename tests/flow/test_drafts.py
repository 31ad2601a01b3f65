"""A draft from the command line: a recipe in a file, what it would be, and the version that it becomes."""

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import yaml
from fakes.curator_api import Running, running_api, tagged
from fakes.http_server import Answer, Asked, serving
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from typer.testing import CliRunner

from tunemill.cli.app import app
from tunemill.cli.dataset_recipe import recipe_in
from tunemill.curator_api import draft_store
from tunemill.curator_api.rows import RowEdit, RowMessage
from tunemill.curator_api.settings import Settings
from tunemill.indexer.open import open_index
from tunemill.schemas.records import Feedback, Said, TaggedLog

MODELS = ("small", "medium", "large", "closed")


def quiz(count: int) -> tuple[list[TaggedLog], list[Feedback]]:
    """Sums that four models answered, marked by a teacher, who corrects every second wrong answer."""
    draw, logs, feedback = random.Random(11), [], []
    for number in range(count):
        one, other = draw.randint(1, 99), draw.randint(1, 99)
        for model in MODELS:
            name, right = f"{model}-{number}", draw.random() < 0.6
            answer = f"It is {one + other if right else one + other + 1}."
            log = tagged(
                name,
                f"Sum {number}: what is {one} and {other}, please?",
                answer,
                app="tutor",
                model=model,
                ts_ms=number,
            )
            corrects = not right and draw.random() < 0.5
            marks = (Said(name="is_correct", score=float(right), corrected=corrects),)
            logs.append(msgspec.structs.replace(log, feedback=marks))
            if corrects:
                text = f"It is {one + other}, because {one} and {other} make that."
                feedback.append(Feedback(feedback_id=name, ts_ms=1, name="is_correct", log_id=name, correction=text))
    return logs, feedback


def runner(api: Running, loop: asyncio.AbstractEventLoop) -> tuple[Callable[[Asked], Answer], Callable[..., str]]:
    """What passes requests on to the API, and what runs a command against an address."""

    def answer(asked: Asked) -> Answer:
        headers = {"content-type": asked.headers.get("content-type", "application/json")}
        sent = api.client.request(asked.method, asked.path, content=asked.body, headers=headers)
        got = asyncio.run_coroutine_threadsafe(sent, loop).result(60)
        return Answer(got.status_code, got.content)

    def run(*args: str, url: str, code: int = 0) -> str:
        result = CliRunner(env={"TUNEMILL_URL": url, "COLUMNS": "250"}).invoke(app, ["dataset", *args])
        assert result.exit_code == code, result.output
        return result.output

    return answer, run


@pytest.fixture
def tokenizers(tmp_path: Path) -> Path:
    folder = tmp_path / "tokenizers"
    (folder / "words").mkdir(parents=True)
    words = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = Whitespace()
    words.save(str(folder / "words" / "tokenizer.json"))
    return folder


RECIPE = """
name: tutor
ingredients:
- kind: search
  query: app:tutor feedback:is_correct:1
  limit: 30
  take: balanced
  by: model
- kind: search
  query: app:tutor has:correction
  answer: corrected_only
filters:
  lengths:
    tokenizer: words
    max_tokens: 60
  finish_reasons: null
  licence: not_refused
caps:
- by: model
  most: 20
slices: [model, length]
seed: 5
test_share: 0.2
"""


async def test_a_recipe_in_a_file_is_looked_at_published_and_shown_again(tmp_path: Path, tokenizers: Path) -> None:
    logs, feedback = quiz(40)
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE)
    index = open_index(f"local:{tmp_path / 'index'}")
    async with running_api(tmp_path, *logs, index=index, settings=Settings(tokenizers=tokenizers)) as api:
        await api.index.add_feedback(feedback)
        answer, run = runner(api, asyncio.get_running_loop())

        def commands(url: str) -> None:
            run("licence", "closed", "no", "--note", "their terms", url=url)
            run("new", "tutor", "--file", str(file), url=url)
            shown = run("show", "tutor", "--yaml", url=url)
            assert yaml.safe_load(shown)["ingredients"] == yaml.safe_load(RECIPE)["ingredients"]
            assert "licence" not in shown  # it is as it is unless told
            report = json.loads(run("preview", "tutor", "--json", url=url))["report"]
            assert set(report["slices"]["model"]) == set(MODELS)
            assert report["slices"]["model"]["closed"]["rows"] == 0
            assert {"licence", "not_sampled"} <= set(report["excluded"])
            assert 0 < report["corrected"] < report["rows"]
            assert "kind search, query app:tutor has:correction" in run("preview", "tutor", url=url)
            run("publish", "tutor", url=url)
            run("add", "tutor", "--logs", "small-0,closed-0", url=url)
            run("add", "tutor", "--search", "app:tutor", "--take", "newest", "--limit", "3", url=url)
            again = run("show", "tutor", "--yaml", url=url)
            assert [one["kind"] for one in yaml.safe_load(again)["ingredients"]] == [
                "search",
                "search",
                "logs",
                "search",
            ]
            (tmp_path / "again.yaml").write_text(shown)
            run("edit", "tutor", "--recipe", str(tmp_path / "again.yaml"), url=url)
            assert run("show", "tutor", "--yaml", url=url) == shown
            assert "HTTP 409" in run("publish", "tutor", url=url, code=1)

        with serving(answer) as server:
            await asyncio.to_thread(commands, server.url)
        rows = (await api.client.get("/v1/datasets/tutor/rows?limit=500")).json()["rows"]
        per_model = [sum(row["model"] == model for row in rows) for model in MODELS]
        assert max(per_model) <= 20
        assert per_model[-1] == 0
        corrected = [row for row in rows if row["corrected"]]
        assert all("because" in row["messages"][-1]["content"] for row in corrected)


async def test_pairs_of_models_answers_are_added_from_the_command_line_and_bad_rows_are_listed(tmp_path: Path) -> None:
    logs, _ = quiz(20)
    logs.append(tagged("silent", answer=None))
    index = open_index(f"local:{tmp_path / 'index'}")
    async with running_api(tmp_path, *logs, index=index) as api:
        answer, run = runner(api, asyncio.get_running_loop())

        def commands(url: str) -> None:
            (tmp_path / "pairs.yaml").write_text("shape: preference\ningredients: [{kind: imported}]\n")
            run("new", "pairs", "--file", str(tmp_path / "pairs.yaml"), url=url)
            run("add", "pairs", "--pairs", "app:tutor", "--prefer", "is_correct", url=url)
            report = json.loads(run("preview", "pairs", "--json", url=url))["report"]
            assert report["rows"] > 5
            assert set(report["excluded"]) == {"no_pair"}
            run("new", "all", "", url=url)
            assert "silent" in run("bad-rows", "all", url=url)
            run("edit", "all", "small-0", "--answer", "Better.", url=url)
            run("delete-row", "all", "small-1", url=url)
            said = yaml.safe_load(run("show", "all", "--yaml", url=url))
            assert said["rows"]["delete"] == ["small-1"]
            assert said["rows"]["edit"]["small-0"]["messages"][-1]["content"] == "Better."
            assert (
                "ingredients[0].take" in run("add", "pairs", "--search", "x", url=url, code=1) + "ingredients[0].take"
            )

        with serving(answer) as server:
            await asyncio.to_thread(commands, server.url)


async def test_what_no_recipe_says_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    files = {
        "list.yaml": "[1]",
        "broken.yaml": "a: [",
        "deep.yaml": "[" * 5_000,
        "other.yaml": "name: other\ningredients: []",
        "twice.yaml": "ingredients: []\nseed: 1\ningredients: []",
        "no-number.yaml": "ingredients: []\ntest_share: .nan",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    runs = CliRunner(env={"TUNEMILL_URL": "http://127.0.0.1:9"})
    for name in files:
        result = runs.invoke(app, ["dataset", "new", "d", "--file", str(tmp_path / name)])
        assert (result.exit_code, name in result.output.replace("\n", "")) == (2, True)
    for args in (
        ["new", "d"],
        ["add", "d"],
        ["add", "d", "--search", "x", "--logs", "a"],
        ["edit", "d"],
        ["licence", "x"],
    ):
        assert runs.invoke(app, ["dataset", *args]).exit_code == 2


def test_names_and_dates_in_a_file_are_text(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("name: d\nweights: [{by: language, keep: {no: 0.5, en: 1}}]\ngroups: [2026-01-01]")
    assert recipe_in(file, "d") == {
        "weights": [{"by": "language", "keep": {"no": 0.5, "en": 1}}],
        "groups": ["2026-01-01"],
    }


@pytest.mark.parametrize("text", ["\x85 end", "中文 🎉", "a: b\n- c", "\u2028"])
async def test_yaml_gives_back_any_text_that_a_recipe_may_hold(tmp_path: Path, text: str) -> None:
    async with running_api(tmp_path) as api:
        body = {"name": "d", "ingredients": [{"kind": "imported", "source": text}]}
        assert (await api.client.post("/v1/datasets", json=body)).status_code == 201
        answer, run = runner(api, asyncio.get_running_loop())
        with serving(answer) as server:
            shown = await asyncio.to_thread(lambda: run("show", "d", "--yaml", url=server.url))
        assert yaml.safe_load(shown)["ingredients"][0]["source"] == text


async def test_what_is_shown_of_a_draft_can_be_put_back(tmp_path: Path) -> None:
    async with running_api(tmp_path, *(tagged(f"log-{number}") for number in range(3))) as api:
        body = {"ingredients": [{"kind": "search", "query": ""}], "seed": 3, "rows": {"delete": ["log-1"]}}
        assert (await api.client.post("/v1/datasets", json={"name": "d", **body})).status_code == 201
        shown = (await api.client.get("/v1/datasets/d/draft")).json()
        assert shown["rows"]["delete"] == ["log-1"]
        assert (await api.client.put("/v1/datasets/d/draft", json=shown)).status_code == 200
        assert (await api.client.get("/v1/datasets/d/draft")).json() == shown
        other = await api.client.put("/v1/datasets/d/draft", json={**shown, "name": "e", "seed": 4})
        assert (other.status_code, other.json()["place"]) == (422, "name")
        said = RowEdit((RowMessage(role="user", content="q"), RowMessage(role="assistant", content="a")))
        edits = {f"more-{number}": said for number in range(10_001)}
        draft_store.edit_rows(api.registry, "default", "d", edits, by="person:x")
        shown = (await api.client.get("/v1/datasets/d/draft")).json()
        assert (len(shown["rows"]["edit"]), shown["seed"]) == (10_001, 3)

"""An event becomes one run, nothing, or a dead letter; never two runs, never silence."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, delete, insert, select

from tunemill.bus.open import open_bus
from tunemill.bus.port import Bus, Outgoing
from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import datasets, runs, versions
from tunemill.schemas import wire
from tunemill.schemas.records import DatasetReady, RejectedLog
from tunemill.schemas.topics import DATASETS_READY, REJECTED, TOPICS
from tunemill.schemas.wire import WireError
from tunemill.trainer.doorbell import GROUP, answer, decode
from tunemill.trainer.identity import identify_base


class Place:
    """A bus and a registry in a folder."""

    def __init__(self, folder: Path) -> None:
        self.bus: Bus = open_bus(f"sqlite:{folder / 'bus.db'}")
        self.engine: Engine = open_registry(f"sqlite:///{folder / 'registry.db'}")

    async def ring(self, *payloads: bytes) -> int:
        """Publish these and answer all that comes."""
        await self.bus.publish(DATASETS_READY, [Outgoing(payload) for payload in payloads])
        answered = 0
        async with self.bus.subscribe([DATASETS_READY], group=GROUP) as subscription:
            while count := await answer(subscription, self.bus, self.engine, timeout_s=0.05):
                answered += count
        return answered

    def runs(self) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(runs).order_by(runs.c.created_ms)).mappings())


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    migrate(place.engine)
    await place.bus.create_topics(TOPICS)
    yield place
    await place.bus.close()
    place.engine.dispose()


def event(event_id: str = "e1", **fields: Any) -> DatasetReady:
    known = {"name": "tickets", "version": 1, "digest": "d" * 64, "manifest_url": "/files/m.json", "rows": 3}
    return DatasetReady(event_id=event_id, ts_ms=1, **(known | fields))


async def test_the_same_order_is_one_run_however_often_it_comes(place: Place, tiny_base: Path) -> None:
    recipe = {"method": "lora", "base": str(tiny_base)}

    await place.ring(wire.encode(event(recipe=recipe)), wire.encode(event(recipe=recipe)))
    await place.ring(
        wire.encode(event("e2", recipe=recipe)), msgspec.json.encode(event("e3", recipe={**recipe, "seed": 1}))
    )

    assert [(run["status"], run["recipe"]["seed"]) for run in place.runs()] == [("queued", 0), ("queued", 1)]
    first = place.runs()[0]
    assert first["recipe"]["alpha"] == 32, "the recipe is whole"
    assert first["identity"]["weights"] == identify_base(str(tiny_base), None).weights


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 2**31},
        {"priority": 2**31},
        {"manifest_url": "/files/\0"},
        {"sources_url": "\0"},
        {"digest": "\0" * 64},
        {"digest": "D" * 64},
    ],
)
def test_an_event_that_no_registry_could_keep_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(WireError, match="cannot be"):
        decode(wire.encode(event(recipe={"base": "b"}, **wrong)))
    decode(wire.encode(event(recipe={"base": "b"})))


async def test_an_event_without_a_recipe_trains_nothing(place: Place) -> None:
    assert await place.ring(wire.encode(event())) == 1
    assert place.runs() == []


@pytest.mark.parametrize(
    ("recipe", "code"),
    [
        ({"method": "lora", "base": "/nowhere/model"}, "base_not_found"),
        ({"method": "lora", "base": "b", "epoch": 1}, "invalid_recipe"),
        (["lora"], "invalid_recipe"),
        ({"base": "~nobody-of-this-name/model"}, "base_not_found"),
        ({"base": "b" * 5_000}, "base_not_found"),
    ],
)
async def test_a_wrong_order_is_a_failed_run_that_says_why(place: Place, recipe: Any, code: str) -> None:
    await place.ring(wire.encode(event(recipe=recipe)), wire.encode(event(recipe=recipe)))

    (run,) = place.runs()
    assert (run["status"], run["error"]["code"]) == ("failed", code)
    assert run["error"]["remedy"]


async def test_an_operator_bounds_what_recipes_name(
    place: Place, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = tmp_path / "private", tmp_path / "public"
    for folder in (private, public):
        folder.mkdir()
        (folder / "rows.jsonl").write_text('{"messages": []}\n')
    (public / "link.jsonl").symlink_to(private / "rows.jsonl")
    (private / "base").symlink_to(tiny_base)
    monkeypatch.setenv("TUNEMILL_RECIPE_FOLDERS", f"{public}:{tiny_base}")
    retentions = [
        f"{public}/rows.jsonl",
        f"{private}/rows.jsonl",
        f"{public}/link.jsonl",
        f"{public}/../private/rows.jsonl",
    ]

    recipes = [{"base": str(tiny_base), "retention": path} for path in retentions]
    await place.ring(*(wire.encode(event(recipe=recipe)) for recipe in [*recipes, {"base": str(tmp_path)}]))

    ends = [(run["status"], (run["error"] or {}).get("code")) for run in place.runs()]
    assert ends == [("queued", None), *[("failed", "invalid_run")] * 3, ("failed", "base_not_found")]
    assert all(f"below {public} or" in run["error"]["message"] for run in place.runs()[1:])


async def test_a_bound_that_names_no_folder_lets_recipes_name_nothing(
    place: Place, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEMILL_RECIPE_FOLDERS", ":")

    await place.ring(wire.encode(event(recipe={"base": str(tiny_base)})))

    assert place.runs()[0]["error"]["code"] == "base_not_found"
    assert "below no folder" in place.runs()[0]["error"]["message"]


@pytest.mark.parametrize("knob", ["replay", "retention", "template"])
@pytest.mark.parametrize("path", ["~nobody-of-this-name/rows", "a\0b", "a" * 5_000, "/dev/zero"])
async def test_a_file_that_can_be_none_is_said_and_holds_up_no_other_order(
    place: Place, tiny_base: Path, knob: str, path: str
) -> None:
    await place.ring(wire.encode(event(recipe={"base": str(tiny_base), knob: path})))

    (run,) = place.runs()
    assert (run["status"], run["error"]["code"]) == ("failed", "invalid_run")
    assert knob in run["error"]["message"]


async def test_a_base_model_that_cannot_be_read_is_said(place: Place, tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "model.safetensors").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (base / name).write_text("{}")

    await place.ring(wire.encode(event(recipe={"base": str(base)})))

    assert place.runs()[0]["error"]["code"] == "base_not_found"


async def test_a_folder_that_cannot_be_looked_into_is_no_base_model(place: Place, tmp_path: Path) -> None:
    """As one of another user is; of one whose path is as long as it may be, no file can be named, either."""
    folder, levels = str(tmp_path), []
    while (room := 4_090 - len(folder)) > 1:
        levels.append("d" * min(200, room - 1))
        folder += f"/{levels[-1]}"
    at = os.open(tmp_path, os.O_RDONLY)
    for level in levels:
        os.mkdir(level, dir_fd=at)
        above, at = at, os.open(level, os.O_RDONLY, dir_fd=at)
        os.close(above)
    os.close(at)

    await place.ring(wire.encode(event(recipe={"base": folder})))

    assert place.runs()[0]["error"]["code"] == "base_not_found"


@pytest.mark.parametrize("of", ["chats@v2", "https://elsewhere/"])
async def test_an_order_names_versions_of_its_own_project_and_no_addresses(
    place: Place, tiny_base: Path, of: str
) -> None:
    elsewhere = {"of": of, "manifest_url": "https://elsewhere/m.json", "digest": "a" * 64}

    await place.ring(wire.encode(event(recipe={"base": str(tiny_base), "retention": elsewhere})))

    assert [(run["status"], run["error"]["code"]) for run in place.runs()] == [("failed", "invalid_run")]


async def test_a_version_that_a_recipe_names_is_spelled_out_as_it_is_now(place: Place, tiny_base: Path) -> None:
    recipe = {"base": str(tiny_base), "replay": "chats@v2", "retention": "chats@v2"}
    version = {"project": "default", "name": "chats", "version": 2, "manifest_url": "/files/chats.json", "rows": 1}
    columns = {**version, "splits": {}, "draft": {}, "report": {}, "by": "us", "created_ms": 1}

    with place.engine.begin() as connection:
        owner = {"project": "default", "name": "chats", "draft": {}, "created_ms": 1, "updated_ms": 1}
        connection.execute(insert(datasets).values(**owner))

    await place.ring(wire.encode(event("e1", recipe=recipe)))
    for digest in ("a" * 64, "b" * 64):  # rows were erased: the version has other files from then on
        with place.engine.begin() as connection:
            connection.execute(delete(versions))
            connection.execute(insert(versions).values(**columns, digest=digest))
            connection.execute(insert(versions).values(**{**columns, "version": 1}, digest="c" * 64))
        await place.ring(wire.encode(event(f"e-{digest[0]}", recipe=recipe)))

    missing, *found = place.runs()
    assert (missing["status"], missing["error"]["code"]) == ("failed", "invalid_run")
    assert "chats@v2" in missing["error"]["message"]
    spelled = {"of": "chats@v2", "manifest_url": "/files/chats.json"}
    assert [run["recipe"]["replay"] for run in found] == [{**spelled, "digest": c * 64} for c in "ab"]
    assert {run["status"] for run in found} == {"queued"}, "other rows, another run"


async def test_what_is_no_event_becomes_a_dead_letter_and_the_next_is_answered(place: Place, tiny_base: Path) -> None:
    recipe = {"method": "lora", "base": str(tiny_base)}
    bad = [b"", b"torn", b"\xc3\x01torn", wire.encode(event(name="../etc")), wire.encode(event(digest="short"))]

    assert await place.ring(*bad, wire.encode(event(recipe=recipe))) == 6

    letters = [wire.decode(letter.value, RejectedLog) for letter in await place.bus.tail(REJECTED, limit=10)]
    assert {letter.rejected_id for letter in letters} == {f"datasets.ready:0:{offset}:0" for offset in range(5)}
    by_offset = [letter.error_code for letter in sorted(letters, key=lambda letter: letter.offset)]
    assert by_offset == ["empty", "not_json", "unknown_schema", "invalid", "invalid"]
    assert len(place.runs()) == 1

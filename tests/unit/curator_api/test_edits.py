"""What people did to a log, laid over it; and what a crash kept from the index."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.curator_api import tagged
from fakes.search_memory import MemorySearch
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from tunemill.curator_api import edit_store, edit_tries, edits
from tunemill.curator_api.edit_store import Act, EditRow
from tunemill.curator_api.edit_tries import Tries
from tunemill.curator_api.edits import apply_pending, apply_until, change, change_many, with_edits
from tunemill.curator_api.errors import NotFound, Unprocessable
from tunemill.registry.open import migrate, open_registry
from tunemill.schemas.outcome import Outcome, Written
from tunemill.schemas.records import Edit, Message, Tag
from tunemill.schemas.stored import Stored, StoredLog

ANSWER = {"messages": [{"role": "user", "content": "2+2?"}], "output": [{"role": "assistant", "content": "four"}]}
OTHER = {"messages": [], "output": [{"role": "assistant", "content": "vier"}]}
LATER_MS = 9_999_999_999_999

TAGS = st.sampled_from(["topic:math", "team:x", "pii:email"])
ACTS = st.one_of(
    st.tuples(st.sampled_from(["tag", "untag", "reset"]), TAGS, st.none()),
    st.tuples(st.just("messages"), st.none(), st.sampled_from([None, ANSWER, OTHER])),
    st.tuples(st.just("consent"), st.none(), st.sampled_from([None, "none", "train"])),
    st.just(("a kind of tomorrow", None, None)),
).map(lambda act: Act(*act))


def rows(*acts: Act, by: str = "person:ann", start: int = 1) -> list[EditRow]:
    said = {"log_id": "a", "why": None, "by": by, "ts_ms": 0, "job_id": None}
    return [
        EditRow(seq=number, revision=number, kind=act.kind, tag=act.tag, value=act.value, **said)  # type: ignore[arg-type]
        for number, act in enumerate(acts, start=start)
    ]


@given(st.lists(ACTS, max_size=8), st.data())
def test_edits_that_a_log_has_are_not_done_again(acts: Sequence[Act], data: st.DataObject) -> None:
    history = rows(*acts)
    reached = with_edits(tagged("a"), history[: data.draw(st.integers(0, len(history)))])
    again = history[data.draw(st.integers(0, reached.revision)) :]  # from any place on that is not beyond what it has
    assert with_edits(reached, again) == with_edits(tagged("a"), history)
    assert with_edits(reached, history[: reached.revision]) is reached
    assert with_edits(reached, again).revision == len(history)
    assert with_edits(reached, again).log == tagged("a").log


def test_the_last_word_holds_and_the_order_is_that_of_the_revisions() -> None:
    log = tagged("a", tags=("topic:math", "pii:email"))
    acts = [
        *(Act("untag", "pii:email"), Act("tag", "team:x"), Act("untag", "team:x"), Act("tag", "topic:math")),
        *(Act("messages", value=ANSWER), Act("consent", value="none"), Act("messages", value=OTHER)),
    ]
    now = with_edits(log, rows(*acts))
    assert now.tags == (Tag("topic:math", "person:ann"),) and now.removed == ("pii:email", "team:x")
    assert now.edit == Edit(messages=(), output=(Message(role="assistant", content="vier"),))
    assert (now.consent, now.shown.consent, now.log.consent) == ("none", "none", "train")
    back = with_edits(now, rows(Act("messages"), Act("consent"), start=8))
    assert (back.edit, back.consent, back.shown) == (None, None, log.log)


@pytest.mark.parametrize("by", ["caller", "person:bob"])
def test_a_tag_that_somebody_set_before_stays_theirs(by: str) -> None:
    log = msgspec.structs.replace(tagged("a"), tags=(Tag("topic:math", by),))
    assert with_edits(log, rows(Act("tag", "topic:math"))).tags == log.tags


@dataclass(frozen=True)
class Places:
    index: Any
    registry: Engine
    project: str = "default"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Engine]:
    made = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(made)
    yield made
    made.dispose()


async def test_the_index_gets_what_a_killed_process_recorded(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    _killed_after_recording(url)
    registry, index = open_registry(url), MemorySearch(tagged("a"), tagged("b"))
    on = Places(index, registry)
    assert await apply_pending(on, before_ms=0) == 0 and index.logs["a"].revision == 0  # it may be at it
    assert await apply_pending(on, before_ms=LATER_MS) == 0
    assert index.logs["a"].edit == msgspec.convert(ANSWER, Edit) and index.logs["b"].revision == 1
    assert edit_store.pending(registry, "default", before_ms=LATER_MS, limit=9) is None
    registry.dispose()


def _killed_after_recording(url: str) -> None:
    """A process records edits of two logs, and dies before the index has them."""
    child = os.fork()
    if child == 0:
        try:
            engine = open_registry(url)
            migrate(engine)
            acts = {"a": [Act("messages", value=ANSWER)], "b": [Act("tag", "team:x")]}
            edit_store.record(engine, "default", acts, by="person:ann")
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


async def test_edits_wait_for_a_log_that_is_not_there(registry: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edits, "_PAGE", 2)
    index = MemorySearch(tagged("z"))
    on = Places(index, registry)
    for log_id in ("gone", "lost", "gone", "z"):
        edit_store.record(registry, "default", {log_id: [Act("tag", "team:x")]}, by="person:ann")
    assert await apply_pending(on, before_ms=LATER_MS) == 2
    assert index.logs["z"].revision == 1
    await index.write([tagged("gone")])
    assert await apply_pending(on, before_ms=LATER_MS) == 1
    assert index.logs["gone"].revision == 2


class Refusing(MemorySearch):
    """It takes no log back whose id is `big`."""

    async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
        taken = [stored for stored in changed if stored.tagged.log.log_id != "big"]
        ends = dict(zip((stored.tagged.log.log_id for stored in taken), await super().replace(taken), strict=True))
        refused = Written("big", Outcome.REJECTED, "too_large", "it has too many bytes")
        return [ends.get(stored.tagged.log.log_id, refused) for stored in changed]


async def test_a_log_that_the_index_refuses_holds_up_no_other(registry: Engine) -> None:
    index = Refusing(tagged("big"), tagged("small"))
    on = Places(index, registry)
    with pytest.raises(Unprocessable):
        await change_many(on, {log_id: [Act("tag", "team:x")] for log_id in ("big", "small")}, by="person:ann")
    assert index.logs["small"].revision == 1 and index.logs["big"].revision == 0
    assert await apply_pending(on, before_ms=LATER_MS) == 1


async def test_what_failed_is_tried_less_and_less_often_but_counted(registry: Engine) -> None:
    """For an hour, a log that is not there and one that the index refuses."""
    index = Refusing(tagged("big"), tagged("small"))
    on = Places(Counting(index), registry)
    edit_store.record(registry, "default", {"gone": [Act("tag", "team:x")], "big": [Act("tag", "team:x")]}, by="ann")
    now_s = 0.0
    tries = Tries(lambda: now_s)
    while now_s < 3_600:
        assert await apply_pending(on, before_ms=LATER_MS, tries=tries) == len(tries) == 2
        now_s += edits.LOOK_EVERY_S
    assert on.index.asked["gone"] <= 12 and on.index.asked["big"] <= 12
    edit_store.record(registry, "default", {"small": [Act("tag", "team:x")]}, by="ann")
    await index.write([tagged("gone")])
    assert await apply_pending(on, before_ms=LATER_MS, tries=tries) == 2  # the third at once
    assert index.logs["small"].revision == 1
    now_s += 3_600
    assert await apply_pending(on, before_ms=LATER_MS, tries=tries) == len(tries) == 1
    assert index.logs["gone"].revision == 1


def test_of_too_many_that_failed_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edit_tries, "MOST", 2)
    tries = Tries(lambda: 0.0)
    tries.failed(["a", "b", "c", "d"])
    tries.failed(["a"])
    tries.keep(["a", "b", "c", "e"])
    assert tries.due(["a", "b", "c", "d", "e"]) == ["b", "d", "e"]


class Counting:
    """An index that counts how often it is asked for each log."""

    def __init__(self, index: MemorySearch) -> None:
        self.index = index
        self.asked = Counter[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.index, name)

    async def stored(self, *, log_ids: Sequence[str], trace_ids: Sequence[str]) -> Stored:
        self.asked.update(log_ids)
        return await self.index.stored(log_ids=log_ids, trace_ids=trace_ids)


async def test_what_a_dropped_log_has_lost_is_looked_for_beside_what_waits(
    registry: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edits, "BRING_BACK_EVERY_S", 0.0)
    monkeypatch.setattr(edits, "LOOK_EVERY_S", 0.01)
    index = MemorySearch(tagged("a"))
    on = Places(index, registry)
    await change(on, "a", [Act("tag", "team:x")], by="person:ann")
    stop = asyncio.Event()
    applying = asyncio.create_task(apply_until(stop, on))
    await index.delete(["a"])
    await index.write([tagged("a")])
    async with asyncio.timeout(20):
        while True:
            if index.logs["a"].revision:
                break
            await asyncio.sleep(0.01)
    stop.set()
    await applying
    assert index.logs["a"].tags[-1] == Tag("team:x", "person:ann")


async def test_numbers_go_on_where_the_index_is_though_the_registry_is_new(registry: Engine) -> None:
    known = msgspec.structs.replace(tagged("a"), revision=7)
    on = Places(MemorySearch(known), registry)
    changed = await change(on, "a", [Act("tag", "team:x")], by="person:ann", expected=7)
    assert changed.revision == 8 and changed.tags[-1] == Tag("team:x", "person:ann")


async def test_nothing_is_remembered_about_a_log_that_is_not_there(registry: Engine) -> None:
    with pytest.raises(NotFound):
        await change(Places(MemorySearch(), registry), "a", [Act("tag", "team:x")], by="person:ann")
    assert edit_store.edits_of(registry, "default", ["a"]) == {}

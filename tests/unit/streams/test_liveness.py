"""A worker with work to do and nothing that moves is ended; one that is idle, or waits for an engine, is not."""

import threading

import pytest

from tunemill.streams.errors import Stalled
from tunemill.streams.liveness import Liveness, index_retries, watched
from tunemill.telemetry.metrics import INDEX_RETRIES


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def liveness(clock: Clock) -> Liveness:
    return Liveness(60.0, clock)


@pytest.mark.parametrize(
    ("moves", "has_work", "is_stalled"),
    [([5, 5, 5, 5], True, True), ([5, 5, 5, 5], False, False), ([5, 6, 7, 8], True, False), ([5, 6, 6, 6], True, True)],
    ids=["nothing moves", "nothing to do", "something moves", "it moved once"],
)
async def test_it_is_stalled_when_there_is_work_and_nothing_moves(
    liveness: Liveness, clock: Clock, moves: list[int], has_work: bool, is_stalled: bool
):
    for number in moves:
        liveness.look(moves=number, has_work=has_work)
        clock.now += 25
    assert liveness.is_stalled() is is_stalled
    if is_stalled:
        with pytest.raises(Stalled):
            await liveness.check()
    else:
        await liveness.check()


def test_a_loop_that_hangs_is_stalled_too(liveness: Liveness, clock: Clock):
    liveness.look(moves=1, has_work=False)
    clock.now += 61
    assert liveness.is_stalled()


def test_work_that_comes_after_an_idle_hour_has_its_time(liveness: Liveness, clock: Clock):
    for _ in range(3600):
        clock.now += 1
        liveness.look(moves=1, has_work=False)
    clock.now += 5
    liveness.look(moves=1, has_work=True)
    clock.now += 50
    assert not liveness.is_stalled()
    clock.now += 10
    assert liveness.is_stalled()


def test_whoever_watches_is_told(liveness: Liveness, clock: Clock):
    told = threading.Event()
    with watched(liveness, lambda error: told.set() if isinstance(error, Stalled) else None):
        clock.now += 61
        assert told.wait(30)


def test_an_index_that_is_asked_again_counts():
    before = index_retries()
    INDEX_RETRIES.labels("429").inc(3)
    INDEX_RETRIES.labels("0").inc()
    assert index_retries() == before + 4

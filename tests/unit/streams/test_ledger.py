"""Only the finished prefix of a partition is ever released."""

from hypothesis import given
from hypothesis import strategies as st

from tunemill.bus.port import Message
from tunemill.streams.ledger import AckLedger


def at(*offsets: int, partition: int = 0) -> list[Message]:
    return [Message("t", partition, offset, None, b"", 1) for offset in offsets]


def test_a_gap_of_one_holds_back_what_comes_after_it():
    ledger = AckLedger()
    ledger.take(at(5, 6, 7))
    ledger.finish(at(6, 7))
    assert ledger.release() == {}
    ledger.finish(at(5))
    assert ledger.release() == {("t", 0): 8}
    assert ledger.release() == {}


def test_partitions_do_not_wait_for_one_another():
    ledger = AckLedger()
    ledger.take(at(1, 2) + at(9, partition=1))
    ledger.finish(at(9, partition=1))
    assert ledger.release() == {("t", 1): 10}


def test_offsets_may_have_holes_where_compaction_or_markers_took_them():
    ledger = AckLedger()
    ledger.take(at(3, 7, 20))
    ledger.finish(at(3, 7))
    assert ledger.release() == {("t", 0): 8}


def test_a_partition_that_is_read_again_starts_over():
    ledger = AckLedger()
    ledger.take(at(5, 6, 7))
    ledger.finish(at(6))
    ledger.take(at(5))
    ledger.finish(at(7))  # of the first reading, which is no longer in hand
    assert ledger.release() == {}
    ledger.finish(at(5))
    assert ledger.release() == {("t", 0): 6}


def test_what_is_forgotten_is_never_released():
    ledger = AckLedger()
    ledger.take(at(5, 6))
    ledger.forget()
    ledger.finish(at(5, 6))
    assert ledger.release() == {}
    ledger.take(at(5))
    ledger.finish(at(5))
    assert ledger.release() == {("t", 0): 6}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 4)),
        st.tuples(st.just("finish"), st.integers(0, 30)),
        st.tuples(st.just("rewind"), st.integers(0, 30)),
        st.tuples(st.just("release"), st.just(0)),
    ),
    max_size=60,
)


@given(steps)
def test_unfinished_work_is_never_passed(steps: list[tuple[str, int]]):
    """Against a plain model: what was read, what is finished, and where the reader stands."""
    ledger, position, committed = AckLedger(), 0, 0
    finished: set[int] = set()
    for step, number in steps:
        if step == "take":
            ledger.take(at(*range(position, position + number)))
            finished -= set(range(position, position + number))
            position += number
        elif step == "finish" and number < position:
            ledger.finish(at(number))
            finished.add(number)
        elif step == "rewind":  # a rebalance: reading goes on from what was committed
            position = committed
        elif step == "release":
            for offset in ledger.release().values():
                assert set(range(committed, offset)) <= finished
                committed = max(committed, offset)
    if position > committed:
        ledger.finish(at(*range(position)))
        assert ledger.release() == {("t", 0): position}

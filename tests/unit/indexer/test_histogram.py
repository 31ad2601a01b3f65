"""How wide the buckets of a histogram are."""

from hypothesis import example, given
from hypothesis import strategies as st

from tunemill.indexer.ast import Everything
from tunemill.indexer.histogram import MOST_BUCKETS, WIDTHS_MS, is_right, widest_ms, width_ms

places = st.tuples(st.sampled_from(WIDTHS_MS), st.integers(0, MOST_BUCKETS + 2), st.integers(-1, 1)).map(
    lambda place: max(0, place[0] * place[1] + place[2])
)


@given(st.lists(places, min_size=1, max_size=4), st.tuples(places, places))
@example([4_999, 60_000], (0, 120_000))  # over a minute by the buckets that they are in, and not by themselves
@example([5_000, 64_999], (0, 120_000))
def test_a_width_is_right_only_if_it_is_that_of_the_matches_alone(times: list[int], others: tuple[int, int]) -> None:
    wide = widest_ms(Everything(), (min(*times, *others), max(*times, *others)))
    alone = width_ms((min(times), max(times)))
    assert alone <= wide
    assert alone == wide or not is_right(wide, {time - time % wide for time in times})

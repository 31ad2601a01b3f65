"""What belongs together, directly or through others. Pure."""

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


def join(firsts: Places, ones: Places, others: Places) -> None:
    """Join each of the ones with the other beside it, and with all that either was joined with before.

    Args:
        firsts: of each place, the first place that it is joined with: at the beginning itself. Changed.
    """
    while True:
        one, other = firsts[ones], firsts[others]
        apart = one != other
        if not apart.any():
            return
        ones, others = ones[apart], others[apart]
        np.minimum.at(firsts, np.maximum(one, other)[apart], np.minimum(one, other)[apart])
        while not np.array_equal(further := firsts[firsts], firsts):
            firsts[:] = further

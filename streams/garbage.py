"""How often Python looks for objects in cycles, while logs stream through."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_NEW_OBJECTS = 200_000  # between two looks: those of a whole part are some 100,000 at a time, none of them in a cycle
_LOOKS = 10  # at the young before one at those that outlived them, and so on: Python's own


@contextmanager
def collected_seldom() -> Iterator[None]:
    """Look for garbage in cycles far less often inside the block, and never again at what is there before it."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _LOOKS, _LOOKS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()

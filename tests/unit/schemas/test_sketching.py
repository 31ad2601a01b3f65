"""Sketches of texts: the same bytes in every version, since stored ones are compared with new ones."""

import hashlib
import random

import numpy as np

from tunemill.schemas.sketch import SLOTS
from tunemill.schemas.sketching import sketches

LETTERS = "abcXYZ äßİ\n\t 漢字🎉\r\f,."


def test_sketches_are_what_they_were() -> None:
    draw = random.Random(3)
    texts = ["".join(draw.choices(LETTERS, k=draw.choice((0, 3, 50, 400, 5000)))) for _ in range(300)]
    texts += ["wörd " * 30_000, "x" * 70_000, "\ud800 word " * 20, ""]
    found, has = sketches(texts)
    assert (found.shape, found.dtype, has.sum()) == ((304, SLOTS), np.uint8, 125)
    assert (
        hashlib.sha256(found[has].tobytes()).hexdigest()
        == "5d9d9979bb6fe8e1350695340a2655eceb49d1e5f7a1ddde55abb1a8d8821cc8"
    )


def test_one_sketch_in_full() -> None:
    counted = (
        "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    )
    text = f"{counted}\nÄPFEL und Birnen"
    assert sketches([text])[0][0].tobytes().hex() == (
        "19424c076db300ea4c1e32d47f989a140db903639cde051a4c5421b558f3aff4"
        "cdf2ef6e5d412adfc0c46fa45454b838a93fd2dc3b9e47e3316c361de1260dc8"
    )


def test_of_nothing_there_are_none() -> None:
    found, has = sketches([])
    assert (found.shape, has.shape) == ((0, SLOTS), (0,))


def test_of_fewer_than_sixteen_pairs_of_words_there_is_no_sketch() -> None:
    words = [f"w{number}" for number in range(17)]
    assert sketches([" ".join(words), " ".join(words[:16])])[1].tolist() == [True, False]

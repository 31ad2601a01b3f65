"""Check digits: whether a number can be what it looks like. Pure. Each takes digits (and letters) alone, without separators."""

from collections.abc import Iterable, Sequence

# fmt: off
_VERHOEFF_TIMES = (  # the multiplication of the dihedral group of order 10
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 4, 0, 6, 7, 8, 9, 5), (2, 3, 4, 0, 1, 7, 8, 9, 5, 6), (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
    (4, 0, 1, 2, 3, 9, 5, 6, 7, 8), (5, 9, 8, 7, 6, 0, 4, 3, 2, 1), (6, 5, 9, 8, 7, 1, 0, 4, 3, 2), (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
    (8, 7, 6, 5, 9, 3, 2, 1, 0, 4), (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)
_VERHOEFF_MOVE = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)  # one step of its permutation, which is repeated for each place
# fmt: on


def luhn(digits: str) -> bool:
    """Cards, Swedish personal numbers (ISO/IEC 7812-1, annex B)."""
    doubled = (value * 2 - 9 * (value > 4) if place % 2 else value for place, value in enumerate(_values(digits[::-1])))
    return sum(doubled) % 10 == 0


def mod_97(characters: str) -> bool:
    """IBANs, rotated as ISO 13616 asks for (ISO/IEC 7064, MOD 97-10); letters count from A = 10."""
    return int("".join(str(int(char, 36)) for char in characters)) % 97 == 1


def verhoeff(digits: str) -> bool:
    """Aadhaar (J. Verhoeff, Error Detecting Decimal Codes, 1969)."""
    check = 0
    for place, value in enumerate(_values(digits[::-1])):
        moved = value
        for _ in range(place % 8):
            moved = _VERHOEFF_MOVE[moved]
        check = _VERHOEFF_TIMES[check][moved]
    return check == 0


def mod_11_10(digits: str) -> bool:
    """German tax ids (ISO/IEC 7064, MOD 11,10)."""
    product = 10
    for value in _values(digits[:-1]):
        product = 2 * ((value + product) % 10 or 10) % 11
    return (11 - product) % 10 == int(digits[-1])


def mod_11_2(characters: str) -> bool:
    """Chinese identity numbers (ISO/IEC 7064, MOD 11-2); the last character may be X, which is 10."""
    check = 0
    for char in characters:
        check = (check * 2 + (10 if char in "Xx" else int(char))) % 11
    return check == 1


def weighted(digits: str, weights: Sequence[int]) -> int:
    """The sum of the first digits, each times its weight."""
    return sum(value * weight for value, weight in zip(_values(digits), weights, strict=False))


def _values(digits: str) -> Iterable[int]:
    return map(int, digits)

"""National ids: which of a state's personal numbers a text holds, and where. Pure.

Each has its form and, where its state gave it one, its check digits. Those whose form many other numbers have are only taken for one
where the text names them just before. The sources stand in `docs/tags.md`.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import re2

from tunemill.privacy.check_digits import luhn, mod_11_2, mod_11_10, verhoeff, weighted
from tunemill.privacy.places import Place, is_whole

_NAMED_WITHIN = 60  # characters before the number are looked at; no other digits may stand between
_NOT_ALNUM = re.compile(r"[^0-9A-Za-z]")
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU_SIGNS = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_ODD_VALUES = dict(zip("0123456789", (1, 0, 5, 7, 9, 13, 15, 17, 19, 21), strict=True)) | dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)


class _Kind(NamedTuple):
    """One state's number."""

    form: str  # RE2
    holds: Callable[[str], bool]  # of its letters and digits alone
    names: str = ""  # RE2, of what must stand before it; none: its form and check digits are enough


def _is_day(day: str, month: str) -> bool:
    return 1 <= int(day) <= 31 and 1 <= int(month) <= 12


def _is_ssn(number: str) -> bool:
    """United States: no check digit; areas 000, 666 and 900 to 999, group 00 and serial 0000 are never given."""
    return number[:3] not in ("000", "666") and number[0] != "9" and number[3:5] != "00" and number[5:] != "0000"


def _is_nino(number: str) -> bool:
    """United Kingdom: no check digit; some prefixes are never given."""
    return number[:2].upper() not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def _is_dni(number: str) -> bool:
    """Spain, DNI and NIE: the letter says the remainder of 23."""
    digits = str("XYZ".find(number[0].upper())) + number[1:-1] if number[0].isalpha() else number[:-1]
    return _DNI_LETTERS[int(digits) % 23] == number[-1].upper()


def _is_codice_fiscale(code: str) -> bool:
    """Italy: characters in odd places have values of their own; the last letter is the sum's remainder of 26."""
    code = code.upper()
    total = sum(
        _ODD_VALUES[char] if place % 2 == 0 else (int(char) if char.isdigit() else ord(char) - 65)
        for place, char in enumerate(code[:15])
    )
    return int(code[9:11]) % 40 in range(1, 32) and chr(65 + total % 26) == code[15]


def _is_steuer_id(number: str) -> bool:
    """Germany: of the first ten digits one or two stand there more than once, none more than three times."""
    times = sorted((number[:10].count(digit) for digit in set(number[:10])), reverse=True)
    return number[0] != "0" and times[0] in (2, 3) and len(times) in (8, 9) and mod_11_10(number)


def _is_nir(number: str) -> bool:
    """France: 97 less the remainder; in Corsica the department has a letter."""
    body = number[:13].upper().replace("2A", "19").replace("2B", "18")
    return body.isdigit() and int(number[13:]) == 97 - int(body) % 97


def _is_bsn(number: str) -> bool:
    """Netherlands: the eleven-test; the last digit counts negatively."""
    return weighted(number, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and len(set(number)) > 1


def _is_cpf(number: str) -> bool:
    """Brazil: two check digits, each a remainder of 11."""
    first = weighted(number[:9], range(10, 1, -1)) * 10 % 11 % 10
    second = weighted(number[:10], range(11, 1, -1)) * 10 % 11 % 10
    return len(set(number)) > 1 and number[9:] == f"{first}{second}"


def _is_pesel(number: str) -> bool:
    """Poland: the month says the century, too."""
    is_date = _is_day(number[4:6], f"{int(number[2:4]) % 20}")
    return is_date and weighted(number, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def _is_personnummer(number: str) -> bool:
    """Sweden: a coordination number has 60 added to its day."""
    short = number[-10:]
    return _is_day(f"{int(short[4:6]) % 60}", short[2:4]) and luhn(short)


def _is_hetu(code: str) -> bool:
    """Finland: the last sign is the remainder of 31."""
    digits = code[:6] + code[-4:-1]
    return _is_day(code[:2], code[2:4]) and _HETU_SIGNS[int(digits) % 31] == code[-1].upper()


def _is_belgian(number: str) -> bool:
    """Belgium: 97 less the remainder; from the year 2000 on with a 2 before the number."""
    return int(number[9:]) in (97 - int(number[:9]) % 97, 97 - int("2" + number[:9]) % 97)


def _is_fodselsnummer(number: str) -> bool:
    """Norway: two check digits; a D-number has 40 added to its day."""
    first = weighted(number, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11
    second = weighted(number, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11
    return _is_day(f"{int(number[:2]) % 40}", number[2:4]) and first == second == 0


def _is_ahv(number: str) -> bool:
    """Switzerland: an EAN-13."""
    return weighted(number, (1, 3) * 6 + (1,)) % 10 == 0


def _is_chinese(number: str) -> bool:
    """China: the date of birth stands in it."""
    is_date = number[6:8] in ("18", "19", "20") and _is_day(number[12:14], number[10:12])
    return is_date and mod_11_2(number)


_KINDS = (
    _Kind(r"\d{3}-\d{2}-\d{4}", _is_ssn),
    _Kind(r"\d{3}[ -]?\d{2}[ -]?\d{4}", _is_ssn, r"ssn|social[ _]?security"),
    _Kind(
        r"[A-CEGHJ-PR-TW-Za-ceghj-pr-tw-z][A-CEGHJ-NPR-TW-Za-ceghj-npr-tw-z] ?\d{2} ?\d{2} ?\d{2} ?[A-Da-d]",
        _is_nino,
        r"nino|national[ _]insurance|\bni (?:no|num)",
    ),
    _Kind(r"[XYZxyz]?-?\d{7,8}-?[A-HJ-NP-TV-Za-hj-np-tv-z]", _is_dni, r"\b(?:dni|nie|nif)\b|identidad"),
    _Kind(r"[A-Za-z]{6}\d{2}[A-EHLMPR-Ta-ehlmpr-t]\d{2}[A-Za-z]\d{3}[A-Za-z]", _is_codice_fiscale),
    _Kind(r"\d{2} ?\d{3} ?\d{3} ?\d{3}", _is_steuer_id, r"steuer|idnr|tax[ _]id|\btin\b"),
    _Kind(r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-4]\d) ?(?:\d{2}|2[ABab]) ?\d{3} ?\d{3} ?\d{2}", _is_nir),
    _Kind(r"\d{9}", _is_bsn, r"bsn|burgerservice|sofinummer"),
    _Kind(r"\d{3}\.\d{3}\.\d{3}-\d{2}", _is_cpf),
    _Kind(r"\d{11}", _is_cpf, r"cpf"),
    _Kind(r"\d{11}", _is_pesel, r"pesel"),
    _Kind(r"(?:(?:18|19|20)\d{2}|\d{2})\d{4}[-+]\d{4}", _is_personnummer),
    _Kind(r"(?:(?:18|19|20)\d{2}|\d{2})\d{8}", _is_personnummer, r"personn(?:umme)?r|samordningsn"),
    _Kind(r"[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}", verhoeff, r"aadh?aa?r|uidai|आधार"),
    _Kind(r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", _is_belgian),
    _Kind(r"\d{11}", _is_belgian, r"rijksregister|registre national|numéro national|insz|niss"),
    _Kind(r"\d{6}[-+A-FU-Ya-fu-y]\d{3}[0-9A-FHJ-NPR-Ya-fhj-npr-y]", _is_hetu),
    _Kind(r"\d{6} ?\d{5}", _is_fodselsnummer),
    _Kind(r"756\.\d{4}\.\d{4}\.\d{2}", _is_ahv),
    _Kind(r"756\d{10}", _is_ahv, r"ahv|avs|navs"),
    _Kind(r"[1-8]\d{16}[\dXx]", _is_chinese),
)

# Matches every text that holds one which has less than seven digits in a row.
GATE = r"[A-Za-z]{6}\d{2}[A-Za-z]\d{2}[A-Za-z]|\d{6}[A-FU-Ya-fu-y]\d{3}|(?i:nino|national[ _]insurance|\bni n)"

_FORMS = tuple(re2.compile(kind.form) for kind in _KINDS)
_NAMES = tuple(re2.compile(rf"(?i:{kind.names})\D{{0,30}}$") if kind.names else None for kind in _KINDS)


def national_ids(text: str) -> Iterator[Place]:
    """Where national ids stand in the text."""
    for hit in _SET.Match(text) or ():
        kind, form, names = _KINDS[hit], _FORMS[hit], _NAMES[hit]
        for found in form.finditer(text):
            start, end = found.span()
            named = names is None or names.search(text[max(0, start - _NAMED_WITHIN) : start])
            if named and is_whole(text, start, end) and kind.holds(_NOT_ALNUM.sub("", text[start:end])):
                yield start, end


def _compile_set() -> Any:
    """By each kind the rarer of the two: its name, or its form where it needs none."""
    patterns = re2.Set.SearchSet()
    for kind in _KINDS:
        patterns.Add(f"(?i:{kind.names})" if kind.names else kind.form)
    patterns.Compile()
    return patterns


_SET = _compile_set()

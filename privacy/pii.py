"""Private data: which kinds a text holds, where, and the text without it. Held to check digits where a kind has them. Pure.

A log that holds such data gets a tag. Whether the data is replaced too, and when, is the project's policy (`docs/tags.md`).
"""

import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import Any, Literal

import re2

from tunemill.privacy import national_id, phone
from tunemill.privacy.check_digits import luhn, mod_97
from tunemill.privacy.places import Place, ends_word, is_whole, without_escape

PrivateData = Literal["ingest", "snapshot", "never"]  # the project's policy: where it is replaced; `never`: nowhere

_DIGITS = r"\d(?:[ ./()-]{0,2}\d){6}"

# RE2 patterns, and the kinds of which a text may hold some where one matches; where none does it holds nothing. They run in
# the set of all rules, over every log: few and simple, because those that count in parallel multiply the states of its automaton.
GATES: dict[str, tuple[str, ...]] = {
    r"[A-Za-z0-9_%+'-]@[A-Za-z0-9]": ("email",),
    r"[A-Z]{2}\d{2}[ -]?[A-Z0-9]{4}[ -]?[A-Z0-9]{4}[ -]?[A-Z0-9]{3}": ("iban",),
    r"[a-z]{2}\d{2}[ -]?[a-z0-9]{4}[ -]?\d{4}": ("iban",),
    _DIGITS: ("card", "national-id", "phone"),
    national_id.GATE: ("national-id",),
    r"\d\.\d{1,3}\.\d{1,3}\.\d": ("ip",),
    r"\b[23][0-9A-Fa-f]{3}:[0-9A-Fa-f]*:": ("ip",),
}
KINDS = (
    "email",
    "iban",
    "card",
    "national-id",
    "ip",
    "phone",
)  # of what overlaps the kind that stands first here counts

# Length of an IBAN by country (ISO 13616; the IBAN registry).
# fmt: off
_IBAN_CHARS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28, "CH": 21,
    "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18,
    "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23,
    "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27,
    "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28,
    "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}
# fmt: on
_FILES = ("png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "mjs", "json", "html")
_EMAIL = re2.compile(r"[A-Za-z0-9._%+'-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24}")
_IBAN_HEAD = re2.compile(r"[A-Za-z]{2}\d{2}")
_CARD_RUN = re2.compile(r"\d(?:[ -]?\d){12,}")
_DIGIT_GROUP = re.compile(r"\d+", re.ASCII)
_CARD_FORMS = ((4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 1))
# Issuers' numbers (ISO/IEC 7812) by length: Visa, Mastercard, American Express, Diners Club, JCB, Discover, UnionPay, Maestro, Mir.
_CARD = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}"
    r"|35(?:2[89]|[3-8]\d)\d{12}|6(?:011|4[4-9]\d|5\d\d)\d{12,15}|62\d{14,17}|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{12}|220[0-4]\d{12}"
)
_EXAMPLES = tuple(map(ipaddress.ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")))
_V4 = re2.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}")
_V6 = re2.compile(r"[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{6,34}")
_VERSION_BEFORE = re.compile(
    r"(?:version|release|firmware|build|driver|chapter|section|exercise|upgrade(?:d)? to|kapitel|abschnitt|\boid|§|\bver\.?|\bv"
    r")[ =:\"']{0,3}$|[A-Za-z]/$",
    re.IGNORECASE,
)
_LOOK_BACK = 24
_NUMBER = re2.compile(rf"{_DIGITS}(?:[ ./()-]{{0,2}}\d)*|{national_id.GATE}")
_DECIMAL = re.compile(r"\d+\.\d+")
_BEFORE_NUMBER = 72  # characters; national ids and telephone numbers have their names nearer than that
_AFTER_NUMBER = 32


def kinds_in(text: str, kinds: Collection[str] | None = None) -> frozenset[str]:
    """The kinds of private data that the text holds.

    Args:
        kinds: those whose gates matched in the text; None: that is not known yet.
    """
    return frozenset(kind for kind, _ in _found(text, _possible(text) if kinds is None else kinds))


def may_hold(text: str) -> bool:
    """Whether the text may hold private data. False is certain."""
    return bool(_SET.Match(text))


def without_private(
    text: str, kinds: Collection[str] = KINDS, *, name: str = "", pseudonyms: "Pseudonyms | None" = None
) -> tuple[str, frozenset[str]]:
    """The text with private data of these kinds replaced by `[PII:kind]`, and the kinds that were found.

    Args:
        name: what the text is called where it stands, such as the key in an object: a number may be known by it alone.
        pseudonyms: what tells the values of a kind from one another: then it is replaced by `[PII:kind-number]`.
    """
    before = f"{name}: " if name else ""
    wanted, found = frozenset(kinds), set[str]()
    while fresh := _found_after(before, text, wanted):  # what was replaced may have hidden something
        pieces, at = [], 0
        for kind, (start, end) in fresh:
            quote = '"' if _is_json_number(text, start, end) else ""
            label = kind if pseudonyms is None else pseudonyms.of(kind, text[start:end])
            pieces += [text[at:start], f"{quote}[PII:{label}]{quote}"]
            at = end
        text = "".join([*pieces, text[at:]])
        found.update(kind for kind, _ in fresh)
    return text, frozenset(found)


class Pseudonyms:
    """Numbers for the values of each kind, in the order in which they are met. They live as long as this object."""

    def __init__(self, known: Iterable[tuple[str, str]] = ()) -> None:
        """Begin to count.

        Args:
            known: kinds and values as `met` gives them, which are numbered in this order.
        """
        self._numbers: dict[str, dict[str, int]] = {}
        for kind, written in known:
            self._number(kind, written)

    def of(self, kind: str, value: str) -> str:
        """What stands for a value: the same for every way to write it."""
        written = "".join(
            char for char in value.casefold() if char.isalnum() or (kind in _MARKED and not char.isspace())
        )
        return f"{kind}-{self._number(kind, written)}"

    def met(self) -> dict[str, list[str]]:
        """The values of each kind, as they are told from one another, in the order of their numbers."""
        return {kind: list(numbers) for kind, numbers in self._numbers.items()}

    def _number(self, kind: str, written: str) -> int:
        numbers = self._numbers.setdefault(kind, {})
        return numbers.setdefault(written, len(numbers) + 1)


_MARKED = frozenset({"email", "ip"})  # kinds in which marks tell values from one another


def _is_json_number(text: str, start: int, end: int) -> bool:
    """Whether this is a bare number in an object or a list: a placeholder there must be a string."""
    if text.lstrip()[:1] not in ("{", "[") or not text[start:end].isdigit():
        return False
    return text[:start].rstrip()[-1:] in tuple(":[,") and text[end:].lstrip()[:1] in tuple(",]}")


def _found_after(before: str, text: str, kinds: AbstractSet[str]) -> list[tuple[str, Place]]:
    """What stands where in the text, with what stands before it in view."""
    whole, skipped = before + text, len(before)
    found = _found(whole, _possible(whole) & kinds)
    return [(kind, (max(0, start - skipped), end - skipped)) for kind, (start, end) in found if end > skipped]


def _possible(text: str) -> frozenset[str]:
    """The kinds of which the text may hold some, by the gates."""
    return frozenset().union(*(_GATED[hit] for hit in _SET.Match(text) or ()))


def _found(text: str, kinds: Collection[str]) -> list[tuple[str, Place]]:
    """What stands where, in order. What overlaps is one, of the kind that is named first in `KINDS`."""
    places = sorted(
        (place, rank)
        for rank, kind in enumerate(KINDS)
        if kind in kinds and kind in _FINDERS
        for place in _FINDERS[kind](text)
    )
    numbers = [
        (rank, _NUMBER_FINDERS[kind]) for rank, kind in enumerate(KINDS) if kind in kinds and kind in _NUMBER_FINDERS
    ]
    if numbers:
        for first, last in _around_numbers(text):
            window = text[first:last]
            places += [((first + start, first + end), rank) for rank, find in numbers for start, end in find(window)]
        places.sort()
    found: list[tuple[str, Place]] = []
    for (start, end), rank in places:
        if found and start < found[-1][1][1]:
            kind, (first, last) = found[-1]
            found[-1] = (KINDS[min(rank, KINDS.index(kind))], (first, max(last, end)))
        else:
            found.append((KINDS[rank], (start, end)))
    return found


def _around_numbers(text: str) -> Iterator[Place]:
    """The parts of the text in which there may be a number of a person: with what stands before each, where it may have a name."""
    begun, ended = 0, 0
    searched = text.encode() if text.isascii() else text  # in bytes RE2 counts no characters to tell a place
    for found in _NUMBER.finditer(searched):
        start, end = found.span()
        if _DECIMAL.fullmatch(text, start, end):
            continue
        if start - _BEFORE_NUMBER > ended:
            if ended:
                yield begun, ended
            begun = start - _BEFORE_NUMBER
        ended = end + _AFTER_NUMBER
    if ended:
        yield begun, ended


def _emails(text: str) -> Iterator[Place]:
    """Addresses, but the user of an SSH address or of a URL, and files that have an @ in their names."""
    for found in _EMAIL.finditer(text):
        start, end = found.span()
        start = without_escape(text, start)
        local, _, domain = text[start:end].rpartition("@")
        is_user_of_url = text[max(0, start - 3) : start] == "://"
        is_file = domain.rpartition(".")[2].lower() in _FILES
        if local and local != "git" and not is_file and not is_user_of_url and ends_word(text, end):
            yield start, end


def _ibans(text: str) -> Iterator[Place]:
    """As long as its country's are, with the remainder of 97 that makes it valid (ISO 13616)."""
    for found in _IBAN_HEAD.finditer(text):
        start = found.start()
        chars = _IBAN_CHARS.get(text[start : start + 2].upper())
        end = _end_of(text, start, chars) if chars else None
        if end is not None and is_whole(text, start, end):
            iban = text[start:end].replace(" ", "").replace("-", "")
            if mod_97(iban[4:] + iban[:4]):
                yield start, end


def _end_of(text: str, start: int, chars: int) -> int | None:
    """Where this many letters and digits end, single spaces and dashes between them."""
    at = start
    for count in range(chars):
        if count and text[at : at + 1] in (" ", "-"):
            at += 1
        if not (text[at : at + 1].isalnum() and text[at].isascii()):
            return None
        at += 1
    return at


def _cards(text: str) -> Iterator[Place]:
    """An issuer's number with a right check digit, written in one or in the groups that cards have."""
    for run in _CARD_RUN.finditer(text):
        groups = [
            (run.start() + start, run.start() + end) for start, end in map(re.Match.span, _DIGIT_GROUP.finditer(run[0]))
        ]
        for first in range(len(groups)):
            for form in ((groups[first][1] - groups[first][0],), *_CARD_FORMS):
                places = groups[first : first + len(form)]
                if _has_form(text, places, form) and _is_card(text, places[0][0], places[-1][1]):
                    yield places[0][0], places[-1][1]


def _is_card(text: str, start: int, end: int) -> bool:
    digits = "".join(char for char in text[start:end] if char.isdigit())
    return _CARD.fullmatch(digits) is not None and luhn(digits) and is_whole(text, start, end)


def _has_form(text: str, groups: list[Place], form: tuple[int, ...]) -> bool:
    """Whether the groups have these lengths, with one space or dash between them."""
    return (
        len(groups) == len(form)
        and all(end - start == length for (start, end), length in zip(groups, form, strict=True))
        and all(text[before[1] : after[0]] in (" ", "-") for before, after in pairwise(groups))
    )


def _addresses(text: str) -> Iterator[Place]:
    """Addresses of the internet; those of private networks identify nobody, and versions look like them."""
    for found in _V4.finditer(text):
        start, end = found.span()
        if (
            is_whole(text, start, end)
            and _is_public_v4(found[0])
            and not _VERSION_BEFORE.search(text[max(0, start - _LOOK_BACK) : start])
        ):
            yield start, end
    for found in _V6.finditer(text):
        start, end = found.span()
        end = start + len(found[0].rstrip(":"))
        if is_whole(text, start, end) and _is_public_v6(text[start:end]):
            yield start, end


def _is_public_v4(written: str) -> bool:
    """Four digits are a number of a version or a chapter more often than somebody's address."""
    try:
        address = ipaddress.IPv4Address(written)
    except ValueError:
        return False
    return (address.is_global or _is_example(address)) and not address.is_multicast and len(written) > 7


def _is_public_v6(written: str) -> bool:
    try:
        address = ipaddress.IPv6Address(written)
    except ValueError:
        return False
    return address.is_global or _is_example(address)


def _is_example(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether it stands in for a real one, as e-mail addresses at example.com do."""
    return any(address in network for network in _EXAMPLES if network.version == address.version)


_FINDERS: dict[str, Callable[[str], Iterator[Place]]] = {
    "email": _emails,
    "iban": _ibans,
    "ip": _addresses,
}
_NUMBER_FINDERS: dict[str, Callable[[str], Iterator[Place]]] = {
    "card": _cards,
    "national-id": national_id.national_ids,
    "phone": phone.phones,
}


def _compile_gates() -> Any:
    patterns = re2.Set.SearchSet()
    for pattern in GATES:
        patterns.Add(pattern)
    patterns.Compile()
    return patterns


_SET = _compile_gates()
_GATED = tuple(GATES.values())

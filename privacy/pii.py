"""Private data: which kinds a text holds. Checked by checksum or rule where the kind has one. Pure.

Nothing is replaced here: a log that holds such data gets a tag, and a dataset's policy decides what follows from it.
"""

import ipaddress
from collections.abc import Callable
from typing import Any

import re2

# kind -> RE2 pattern of candidates. Each runs as a gate in the set of all rules; `confirm` then looks at what it found.
GATES: dict[str, str] = {
    "email": r"\b[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b",
    "phone": (
        r"(?:\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}"
        r"|\(\d{3}\) ?\d{3}-\d{4}|\b\d{3}-\d{3}-\d{4})\b"
    ),
    "card": (
        r"(?:^|[^\w.])([2-6]\d{12,18}|[2-6]\d{3}(?:[ -]\d{4}){2}[ -]\d{1,7}|3\d{3}[ -]\d{6}[ -]\d{5})"
        r"(?:$|[^\w.]|\.(?:\s|$))"
    ),
    "iban": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
    "ip": r"(?:^|[^\w.:/-])(\d{1,3}(?:\.\d{1,3}){3})(?:$|[^\w.-]|\.(?:\s|$))",
}

# Length of an IBAN by country, for those with the most holders (ISO 13616, the IBAN registry).
# fmt: off
_IBAN_CHARS = {
    "AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20,
    "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27,
    "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24,
    "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "UA": 29,
}
# fmt: on


def kinds_in(text: str) -> frozenset[str]:
    """The kinds of private data that the text holds."""
    return frozenset(kind for kind in GATES if confirm(kind, text))


def confirm(kind: str, text: str) -> bool:
    """Whether one of the candidates in the text is truly of this kind."""
    return any(_CONFIRM[kind](_candidate(found)) for found in _COMPILED[kind].finditer(text))


def _candidate(found: Any) -> str:
    return str(found.group(found.re.groups))  # the whole match, or its one group


def _digits(candidate: str) -> str:
    return "".join(char for char in candidate if char.isdigit())


def _is_card(candidate: str) -> bool:
    """Luhn's checksum (ISO/IEC 7812-1), 13 to 19 digits that aren't all the same."""
    digits = [int(char) for char in reversed(_digits(candidate))]
    doubled = [digit if place % 2 == 0 else sum(divmod(digit * 2, 10)) for place, digit in enumerate(digits)]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and sum(doubled) % 10 == 0


def _is_iban(candidate: str) -> bool:
    """Length by country, and the remainder of 97 that makes it valid (ISO 13616)."""
    iban = candidate.replace(" ", "")
    if len(iban) != _IBAN_CHARS.get(iban[:2]):
        return False
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1


def _is_phone(candidate: str) -> bool:
    """At most 15 digits (ITU-T E.164), at least 8, which a time range or a small sum has not."""
    return 8 <= len(_digits(candidate)) <= 15


def _is_public_ip(candidate: str) -> bool:
    """An address of the internet; those of private networks and documentation identify nobody."""
    try:
        return ipaddress.IPv4Address(candidate).is_global
    except ValueError:
        return False


def _always(_candidate: str) -> bool:
    return True


_CONFIRM: dict[str, Callable[[str], bool]] = {
    "email": _always,
    "phone": _is_phone,
    "card": _is_card,
    "iban": _is_iban,
    "ip": _is_public_ip,
}
_COMPILED = {kind: re2.compile(pattern) for kind, pattern in GATES.items()}

"""Telephone numbers: where they stand in a text. Pure.

A number is known by its country's code, by the form that numbers have in North America, Britain, France and Japan, or by a word
that stands before it.
"""

import re
from collections.abc import Iterator

import re2

from tunemill.privacy.places import Place, ends_word, starts_word

# The codes of countries (ITU-T E.164, list of assigned codes). After 1 and 7, whose zones have one plan, come ten digits.
_COUNTRIES = re.compile(
    r"1|7|2(?:0|7|1[1-368]|[2346]\d|5[0-8]|9[0-1789])|3(?:[0-469]|5\d|7[0-8]|8[0-25-79])|4(?:[013-9]|2[0-13])|5(?:[1-8]|0\d|9\d)"
    r"|6(?:[0-6]|[79]\d|8[0-35-9])|8(?:[1246]|5[02356]|80|86)|9(?:[0-58]|6[0-8]|7[0-79]|9[2-68])"
)
_ABROAD = re2.compile(r"\+ ?[1-9](?:[ ./-]?(?:\(\d{1,5}\)|\d)){7,16}")
_NORTH_AMERICA = re2.compile(
    r"(?:\+?1[ .-])?(?:\(\d{3}\) ?\d{3}[-. ]\d{4}|\d{3}-\d{3}-\d{4}|[2-9]\d{2}\.\d{3}\.\d{4})"
)  # examples' too
_AT_HOME = re2.compile(
    r"0[1-9](?:(?: \d{2}){4}|(?:\.\d{2}){4})|0(?:7\d{3}|1\d{3}) \d{6}|0(?:20|23|24|28|29) \d{4} \d{4}|0\d{1,3}-\d{3,4}-\d{4}"
)
_ANY = re2.compile(r"\(?\d(?:[ ./()-]{0,2}\d){6,14}")
# What stands before a number: it ends where the number begins.
_NAME_BEFORE = (
    r"(?i)(?:tel(?:e?(?:phone|fon|foon|fono|fax))?|phone|mobil[ei]?|mobiltelefon|cell(?:phone|ular(?:e)?)?|fax|whats ?app|sms|handy"
    r"|rufnummer|portable|móvil|celular|puhelin|telefonnummer|numer telefonu|тел(?:ефон)?|电话|手机|電話|전화|फ़ोन|هاتف)"
    r"(?:[ _]?(?:number|no|nr|nummer|num))?\W{0,3}(?:(?:is|ist|est|es|è|é|:|unter|me (?:on|at))\W{0,3}){0,2}$"
    r"|(?:call|ring|text|reach|phone|message)(?: (?:me|us|him|her|them|back)(?: (?:at|on|under))?| (?:at|on))\W{0,2}$|dial\W{0,2}$"
    r"|(?:ruf\w*|erreich\w*|anrufen)(?: \w+){0,2}(?: an| unter)\W{0,3}$"
    r"|(?:my|our|his|her|their|mein|meine) (?:number|nummer|numéro)(?: is| ist)?\W{0,3}$"
)
_NAMED = re2.compile(_NAME_BEFORE)
_NAME = re2.compile(_NAME_BEFORE.replace("$", ""))  # anywhere, which is soon seen of most texts
_NAMED_WITHIN = 48
_DATE = re.compile(r"(?:19|20)\d\d(?:[-./ ]?\d{4}|[-./]\d{1,2}[-./]\d{1,2})")


def phones(text: str) -> Iterator[Place]:
    """Where telephone numbers stand in the text."""
    for found in _ABROAD.finditer(text) if "+" in text else ():
        start, end = found.span()
        if (
            text[max(0, start - 1) : start] != "+"
            and starts_word(text, start)
            and (end := _end_abroad(text, start, end))
        ):
            yield start, end
    for pattern in (_NORTH_AMERICA, _AT_HOME):
        for found in pattern.finditer(text):
            start, end = found.span()
            if starts_word(text, start) and ends_word(text, end):
                yield start, end
    for found in _ANY.finditer(text) if _NAME.search(text) else ():
        start, end = found.span()
        if not _DATE.match(text, start, end) and _is_named(text, start) and (end := _end(text, start, end, 7, 15)):
            yield start, end


def _is_named(text: str, start: int) -> bool:
    return _NAMED.search(text[max(0, start - _NAMED_WITHIN) : start]) is not None


def _end_abroad(text: str, start: int, end: int) -> int:
    """Where a number ends that begins with a country's code; 0: it is none. With its code it has 15 digits at most (E.164)."""
    country = _COUNTRIES.match("".join(char for char in text[start : start + 5] if char.isdigit()))
    if not country:
        return 0
    return _end(text, start, end, 11, 11) if country[0] in ("1", "7") else _end(text, start, end, 8, 15)


def _end(text: str, start: int, end: int, fewest: int, most: int) -> int:
    """Where the longest number ends that begins here and has so many digits; 0: there is none. Another number may follow it."""
    places = [place for place in range(start, end) if text[place].isdigit()]
    for count in range(min(most, len(places)), fewest - 1, -1):
        last = places[count - 1] + 1
        if ends_word(text, last):
            return last
    return 0

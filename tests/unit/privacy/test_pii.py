"""Private data is found, told apart from what looks like it, and replaced whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.privacy.pii import KINDS, kinds_in, without_private

# Each with the text as it is without its private data.
REPLACED = [
    ("email", "write to ada.lovelace+x@mail.example.co.uk.", "write to [PII:email]."),
    ("email", r"{\"note\": \"mail\nada@work.co\"}", r"{\"note\": \"mail\n[PII:email]\"}"),
    ("iban", "pay DE89 3704 0044 0532 0130 00 today", "pay [PII:iban] today"),
    ("iban", "GB82WEST12345698765432", "[PII:iban]"),
    ("iban", "it is nl91 abna 0417 1643 00 of mine", "it is [PII:iban] of mine"),
    ("iban", "KZ86125KZT5004100100", "[PII:iban]"),
    ("card", "card 4111 1111 1111 1111, thanks", "card [PII:card], thanks"),
    ("card", "4111111111111111.", "[PII:card]."),
    ("card", "amex 3782-822463-10005", "amex [PII:card]"),
    ("card", "of 2024 4111 1111 1111 1111", "of 2024 [PII:card]"),
    ("card", r"call\n4111111111111111", r"call\n[PII:card]"),
    ("ip", "from 81.2.69.142 at noon", "from [PII:ip] at noon"),
    ("ip", "http://81.2.69.142:8080/x", "http://[PII:ip]:8080/x"),
    ("ip", "[2a02:8108:96c0::17f2]:443", "[[PII:ip]]:443"),
    ("ip", "203.0.113.7 or 2001:db8::8a2e:370:7334", "[PII:ip] or [PII:ip]"),
    ("card", '{"pan": 4111111111111111, "n": 1}', '{"pan": "[PII:card]", "n": 1}'),
    ("phone", "555-123-4567", "[PII:phone]"),
    ("phone", "call +49 30 901820 today", "call [PII:phone] today"),
    ("phone", "(212) 555-0142 or 212-555-0143", "[PII:phone] or [PII:phone]"),
    ("phone", "mobile: 07700 900123", "mobile: [PII:phone]"),
    ("phone", "my number is 2125550142", "my number is [PII:phone]"),
    ("phone", "06 39 98 12 34", "[PII:phone]"),
]
# The numbers are the specimens of the states' own pages and laws, or made with their check digits.
NATIONAL_IDS = {
    "United States": "SSN 536-90-4399",
    "United States, by its name": "social security number: 536904399",
    "United Kingdom": "NINO AB 12 34 56 C",
    "Spain, DNI": "DNI 12345678Z",
    "Spain, NIE": "mi NIE es X1234567L",
    "Italy": "RSSMRA85T10A562S",
    "Germany": "Steuer-ID 86 095 742 719",
    "France": "2 55 08 14 168 025 38",
    "Netherlands": "BSN 111222333",
    "Brazil": "529.982.247-25",
    "Brazil, by its name": "CPF 52998224725",
    "Poland": "PESEL 44051401359",
    "Sweden": "811228-9874",
    "Sweden, by its name": "personnummer 198112289874",
    "India": "Aadhaar 2341 2341 2346",
    "Belgium": "85.07.30-033.28",
    "Belgium, by its name": "rijksregisternummer 85073003328",
    "Finland": "131052-308T",
    "Norway": "01010750160",
    "Switzerland": "756.9217.0769.85",
    "Switzerland, by its name": "AHV-Nr. 7569217076985",
    "China": "11010519491231002X",
}
HARMLESS = [
    "a@b and @handle and x@y and logo@2x.png and lodash@4.17.21",
    "git clone git@github.com:a/b.git and ssh://deploy@build.internal.dev/x",
    "2 + 49 = 51 and 2024-05-06 and 1-800 and +10 to +25",
    "the order 100-2231-778, ticket #4155550123, version 2.10.3-4567",
    "call me at 10:00 on 2024-05-06 about order 12345678",
    "4111 1111 1111 1112 and 4444444444444444444444 and 1.6363636363636365",
    "9111111111111111 and 0000 0000 0000 0000",  # no issuer's
    "DE88 3704 0044 0532 0130 00 and XX12 3456 7890 1234 and DE89 3704 0044",
    "192.168.1.4, 127.0.0.1, 10.0.0.1, 255.255.255.0, 224.0.0.251, 999.2.69.142",
    "version 81.2.69.142, v81.2.69.142, Chrome/81.2.69.142, chapter 3.1.4.1 and 81.2.69.142.7",
    "fe80::1, 00:1b:44:11:3a:b7, 10:20:30",
    "the numbers 536904399, 111222333 and 44051401359",  # nothing says what they are
    "SSN 000-12-3456, SSN 912-34-5678, PESEL 44051401358, BSN 111222334, CPF 52998224724",
    "DNI 12345678A, RSSMRA85T10A562X, 131052-308U, 811228-9875, Aadhaar 2341 2341 2347",
    "Steuer-ID 12345678901, 01010750161, 756.9217.0769.84, 110105194912310021, 85.07.30-033.29",
    "123e4567-e89b-12d3-a456-426614174000 and 9f86d081884c7d659a2feaa0c55ad015",
]


@pytest.mark.parametrize(("kind", "text", "expected"), REPLACED)
def test_what_is_private_is_replaced_and_nothing_else(kind: str, text: str, expected: str):
    assert without_private(text) == (expected, {kind})
    assert kinds_in(text) == {kind}


@pytest.mark.parametrize("text", NATIONAL_IDS.values(), ids=NATIONAL_IDS)
def test_a_national_id_is_found(text: str):
    assert kinds_in(text) == {"national-id"}
    assert kinds_in(f"so {text}, and on") == {"national-id"}


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_private_stays(text: str):
    assert without_private(text) == (text, frozenset())


def test_every_kind_is_tried_here():
    assert {kind for kind, *_ in REPLACED} | {"national-id"} == set(KINDS)


def test_kinds_that_are_not_asked_for_stay():
    text = "ada@work.co, 81.2.69.142"
    assert without_private(text, ["ip"]) == ("ada@work.co, [PII:ip]", {"ip"})


def test_the_name_of_a_value_tells_what_its_number_is():
    assert without_private("536904399") == ("536904399", frozenset())
    assert without_private("536904399", name="ssn") == ("[PII:national-id]", {"national-id"})
    assert without_private("2125550142", name="phone_number") == ("[PII:phone]", {"phone"})
    assert without_private("hello", name="ada@work.co") == ("hello", frozenset())


def test_what_overlaps_is_replaced_whole_by_the_kind_that_counts():
    assert without_private("tel. DE89 3704 0044 0532 0130 00") == ("tel. [PII:iban]", {"iban"})


private = st.sampled_from([text for _, text, _ in REPLACED] + list(NATIONAL_IDS.values()))
around = st.sampled_from(["", " ", "\n", ", ", '","', r"\n", "é", " - ", "/"]) | st.text(max_size=5)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(around, private | st.text(max_size=12)), max_size=5))
def test_replacing_twice_changes_nothing_more(parts: list[tuple[str, str]]):
    text = "".join(between + part for between, part in parts)
    once, _ = without_private(text)
    assert without_private(once) == (once, frozenset())

"""Secrets in a text: which kinds it holds, and the text without them. Pure.

What looks like a secret is replaced by `[SECRET:kind]`. All patterns are RE2 (linear time, whatever the text) and lie in one
set; only what it finds is replaced. A second, looser set reads whole JSON, so that most records are never taken apart. The
kinds and where their forms come from stand in `docs/tags.md`.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import re2

# In a string that holds JSON or code, a secret may follow an escape: the letter of `\n` and the digits of `\u5bc6` end no word.
_START = r"(\\[nrt]|\\u[0-9a-fA-F]{4}|\b)"


class _Pattern(NamedTuple):
    kind: str
    regex: str  # group 1 is what stands before the secret and is kept
    gate: str  # matches the JSON of every string that `regex` matches, however its characters are escaped there


def _token(kind: str, regex: str) -> _Pattern:
    """A secret that is known by its own form alone, all of whose characters are the same in JSON."""
    return _Pattern(kind, rf"{_START}{regex}", regex.replace(r"\b", ""))


# In this order: a later pattern sees what the earlier ones have left, so a bearer token that is a JWT is called a JWT.
_PATTERNS: tuple[_Pattern, ...] = (
    _Pattern(
        "private-key",
        r"()(?s:-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
        r"(?:.*?-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|[A-Za-z0-9+/=\s\\:,.-]*))",
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY",
    ),
    _Pattern(
        "url-password",
        r"""([A-Za-z][A-Za-z0-9+.-]*:(?:\\*/){2}[^\s/:@"'<>\\]*:)[^\s/"'<>\\]+(?:@)""",
        r""":(?:\\*/){2}[^\s/"'<>]*:[^\s/"'<>]+@""",
    ),
    _token("jwt", r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    _token("aws-key", r"(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    _Pattern(
        "aws-key",
        r"""((?i:aws_?secret_?(?:access_?)?key)\\?["']?\s*[:=]\s*\\?["']?)[A-Za-z0-9/+]{40}\b=?""",
        r"(?i:aws_?secret_?(?:access_?)?key)",
    ),
    _token("api-key", r"sk-(?:proj|svcacct|admin|None|ant|or|lf)-[A-Za-z0-9_-]{20,}"),
    _token("api-key", r"sk-[A-Za-z0-9]{20,}"),
    _token("api-key", r"(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,})"),
    _token("api-key", r"(?:xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,})"),
    _token("api-key", r"AIza[0-9A-Za-z_-]{35}"),
    _token("api-key", r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    _token("api-key", r"(?:hf_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{40,}|xai-[A-Za-z0-9]{40,}|pplx-[A-Za-z0-9]{40,})"),
    _token(
        "api-key",
        r"(?:nvapi-[A-Za-z0-9_-]{40,}|r8_[A-Za-z0-9]{37}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,})",
    ),
    _token("api-key", r"(?:SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|dop_v1_[a-f0-9]{64}|dapi[a-f0-9]{32})"),
    _Pattern("api-key", r"""((?i:\bapi[_-]?key)\\?["']?\s*[:=]\s*\\?["']?)[A-Za-z0-9_-]{20,}""", r"(?i:api[_-]?key)"),
    _Pattern("bearer-token", r"((?i:\bbearer)\s+)[A-Za-z0-9._~+/=-]{20,}", r"(?i:bearer)[\s\\]"),
    _Pattern(
        "basic-auth",
        r"""((?i:\bauthorization)\\?["']?\s*[:=]\s*\\?["']?(?i:basic)\s+)[A-Za-z0-9+/=]{8,}""",
        r"(?i:authorization)",
    ),
)
KINDS = tuple(dict.fromkeys(pattern.kind for pattern in _PATTERNS))
_AFTER = {"url-password": "@"}  # what follows the secret and is kept


def may_have_secret(json: bytes) -> bool:
    """Whether a string in this JSON may hold what looks like a secret. False is certain; true may be a mere word beside one."""
    return bool(_GATES.Match(json))


def has_secret(text: str) -> bool:
    """Whether something in the text looks like a secret."""
    return bool(_search(text))


def without_secrets(text: str) -> tuple[str, frozenset[str]]:
    """The text with every secret in it replaced, and the kinds that were found."""
    found: set[str] = set()
    return _replace(text, found), frozenset(found)


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 64 * 2**20  # over its budget RE2 finds nothing, silently; the default is 8 MiB
    return options


def _compile_set(regexes: Iterable[str]) -> Any:
    patterns = re2.Set.SearchSet(_options())
    for regex in regexes:
        patterns.Add(regex)
    patterns.Compile()
    return patterns


_SET = _compile_set(pattern.regex for pattern in _PATTERNS)
_GATES = _compile_set(pattern.gate for pattern in _PATTERNS)
_COMPILED = tuple(re2.compile(pattern.regex, _options()) for pattern in _PATTERNS)


def _search(text: str) -> list[int]:
    """The positions in `_PATTERNS` of what is in the text, in order."""
    return sorted(_SET.Match(text) or ())


def _replace(text: str, found: set[str]) -> str:
    """The text with every secret replaced; the kinds that were found are added to `found`."""
    while True:  # one secret may have hidden the beginning of the next, where nothing stood between them
        before = text
        for hit in _search(text):
            kind = _PATTERNS[hit].kind
            text, times = _COMPILED[hit].subn(rf"\1[SECRET:{kind}]{_AFTER.get(kind, '')}", text)
            if times:
                found.add(kind)
        if text == before:
            return text

"""Secrets in a text: which kinds it holds, and the text without them. Pure.

What looks like a secret is replaced by `[SECRET:kind]`. All patterns are RE2 (linear time, whatever the text) and lie in one
set; only what it finds is replaced. A second, looser set reads whole JSON, so that most records are never taken apart. What is
known by the name before it alone is then held to `privacy/secret_values.py`. The kinds and their forms stand in `docs/tags.md`.
"""

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import re2

from tunemill.privacy.secret_values import looks_like_a_password, looks_made

# In a string that holds JSON or code, a secret may follow an escape: the letter of `\n` and the digits of `\u5bc6` end no word.
_START = r"(\\[nrt]|\\u[0-9a-fA-F]{4}|\b)"


class _Pattern(NamedTuple):
    kind: str
    regex: str  # group 1 is what stands before the secret and is kept
    gate: str  # matches the JSON of every string that `regex` matches, however its characters are escaped there
    is_secret: Callable[[str], bool] | None = None  # of what is found, without group 1; None: all of it is


def _token(kind: str, regex: str, is_secret: Callable[[str], bool] | None = None, *, gate: str = "") -> _Pattern:
    """A secret that is known by its own form alone, all of whose characters are the same in JSON.

    Args:
        gate: a later part of one that begins as any id may: the automaton would make new states for each id that it meets.
    """
    return _Pattern(kind, rf"{_START}{regex}", gate or regex.replace(r"\b", ""), is_secret)


# Between a name and its value: `name: value`, `"name": "value"` in JSON and in JSON in a string, `NAME=value`, `name: str = "value"`,
# `**name:** value`.
_ASSIGNED = r"""(?:\\*["'`]|\*\*)?\s*(?::\s*[A-Za-z]+\s*=|=>?|:=?)(?:\*\*)?\s*\\*["'`]?"""
_ASSIGNED_IN_JSON = r"""[\\tnfr\s"'`*]*[:=]"""  # its beginning, with blanks as they may be escaped
_CHOSEN_NAME = r"(?i:passwo?r?d|passphrase|passcode|pwd)"
_MADE_NAME = r"(?i:secret|token|(?:secret|private|access|account|signing|encryption|master|auth)[_-]?key)"


_NAME = re.compile(rf"(?:{_CHOSEN_NAME}|{_MADE_NAME}|(?i:api[_-]?key))\Z")

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
    _token("api-key", r"tm_[a-z0-9]{8,24}_[A-Za-z0-9_-]{20,}", looks_made),
    _token("api-key", r"(?:ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,}|whsec_[A-Za-z0-9+/]{24,}=*)"),
    _token(
        "api-key",
        r"(?:[0-9]{8,10}:AA[A-Za-z0-9_-]{32,34}\b|(?:SK|key-)[0-9a-f]{32}\b)",
        gate=r":AA[A-Za-z0-9_-]{32}|(?:SK|key-)[0-9a-f]{32}",
    ),
    _token(
        "api-key",
        r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}",
        looks_made,
        gate=r"\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27}",
    ),
    _token(
        "api-key",
        r"(?:hv[sbr]\.[A-Za-z0-9_-]{24,}|dckr_pat_[A-Za-z0-9_-]{20,}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32})",
        looks_made,
    ),
    _token("api-key", r"(?:ATATT3[A-Za-z0-9_=-]{20,}|lin_api_[A-Za-z0-9]{32,}|tgp_v1_[A-Za-z0-9_-]{32,})"),
    _token(
        "api-key",
        r"(?:fw_[A-Za-z0-9]{20,}|csk-[a-z0-9]{32,}|pcsk_[A-Za-z0-9_]{40,}|tvly-[A-Za-z0-9-]{24,})",
        looks_made,
    ),
    _token(
        "api-key", r"(?:lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}|jina_[A-Za-z0-9_-]{50,}|AGE-SECRET-KEY-1[A-Z0-9]{50,})"
    ),
    _token("api-key", r"[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}", gate=r"[0-9]Q~[A-Za-z0-9_~.-]{31}"),
    _Pattern(
        "api-key",
        r"(hooks\.slack\.com(?:\\*/)(?:services|workflows|triggers)(?:\\*/))[A-Z0-9]{6,}(?:\\*/)[A-Za-z0-9\\/]{16,}",
        r"hooks\.slack\.com",
    ),
    _Pattern(
        "api-key",
        r"(discord(?:app)?\.com(?:\\*/)api(?:\\*/)webhooks(?:\\*/)[0-9]+(?:\\*/))[A-Za-z0-9_-]{40,}",
        r"webhooks\\*/",
    ),
    _Pattern("api-key", r"((?i:accountkey|sharedaccesskey)=)[A-Za-z0-9+/]{40,}=*", r"(?i:accountkey|sharedaccesskey)="),
    _Pattern("bearer-token", r"((?i:\bbearer)\s+)[A-Za-z0-9._~+/=-]{20,}", r"(?i:bearer)[\s\\]"),
    _Pattern(
        "basic-auth",
        r"""((?i:\bauthorization)\\?["']?\s*[:=]\s*\\?["']?(?i:basic)\s+)[A-Za-z0-9+/=]{8,}""",
        r"(?i:authorization)",
    ),
    _Pattern(
        "credential",
        rf"({_MADE_NAME}{_ASSIGNED})[A-Za-z0-9_~+/=.:-]{{16,}}",
        _MADE_NAME + _ASSIGNED_IN_JSON,
        looks_made,
    ),
    _Pattern(
        "password",
        rf"""({_CHOSEN_NAME}(?:{_ASSIGNED}|\s+is:?\s+\\*["'`]?))(?:[^\s"'`\\]|\\[^\s"'`\\nrtu]){{5,}}[^\s"'`\\,;:.)\]}}]""",
        rf"{_CHOSEN_NAME}(?:{_ASSIGNED_IN_JSON}|[\\tnfr\s]+is)",
        looks_like_a_password,
    ),
)
KINDS = tuple(dict.fromkeys(pattern.kind for pattern in _PATTERNS))
_AFTER = {"url-password": "@"}  # what follows the secret and is kept
_MOST_PASSES = 8  # each replaces one of a row with nothing between: of a long row what is left goes as a whole
_BEHIND = re2.compile(r"""(\[SECRET:[a-z-]+\])\w[^\s"'`\\]*""")


def may_have_secret(json: bytes) -> bool:
    """Whether a string in this JSON may hold what looks like a secret, or one that was replaced. False is certain; true may be a
    mere word beside one.
    """
    return bool(_GATES.Match(json))


def has_secret(text: str) -> bool:
    """Whether something in the text looks like a secret."""
    return bool(without_secrets(text)[1])


def without_secrets(text: str, *, name: str = "") -> tuple[str, frozenset[str]]:
    """The text with every secret in it replaced, and the kinds that were found.

    Args:
        name: the field that the text stands in; `password` says as much as `password=` in a text.
    """
    found: set[str] = set()
    said = said_by(name)
    masked = _replace(said + text, found)
    if not masked.startswith(said):  # the name itself holds a secret
        masked = _replace(text, found)
        said = ""
    return masked[len(said) :], frozenset(found)


def kinds_masked_in(json: bytes) -> frozenset[str]:
    """The kinds of secrets that were replaced in this JSON before."""
    return frozenset(kind for kind in KINDS if f"[SECRET:{kind}]".encode() in json)


def said_by(name: str) -> str:
    """What the name of a field says in front of its text: nothing, unless secrets have such names."""
    return f"{name}=" if _NAME.search(name) else ""


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
_GATES = _compile_set([*(pattern.gate for pattern in _PATTERNS), r"\[SECRET:"])
_COMPILED = tuple(re2.compile(pattern.regex, _options()) for pattern in _PATTERNS)


def _search(text: str) -> list[int]:
    """The positions in `_PATTERNS` of what is in the text, in order."""
    return sorted(_SET.Match(text) or ())


def _replace(text: str, found: set[str]) -> str:
    """The text with every secret replaced; the kinds that were found are added to `found`."""
    for _ in range(
        _MOST_PASSES
    ):  # one secret may have hidden the beginning of the next, where nothing stood between them
        before = text
        for hit in _search(text):
            replaced = _COMPILED[hit].sub(partial(_masked, _PATTERNS[hit]), text)
            if replaced != text:
                found.add(_PATTERNS[hit].kind)
            text = replaced
        if text == before:
            return text
    ended: str = _BEHIND.sub(r"\1", text)
    return ended


def _masked(pattern: _Pattern, match: Any) -> str:
    """What stands in the place of what a pattern has found: group 1 and a placeholder; itself where it is no secret."""
    whole: str = match.group()
    before: str = match.group(1)
    if pattern.is_secret is not None and not pattern.is_secret(whole[len(before) :]):
        return whole
    return f"{before}[SECRET:{pattern.kind}]{_AFTER.get(pattern.kind, '')}"

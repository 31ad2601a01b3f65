"""Whether what stands behind a name such as `password =` or `token:` is a secret, or a word, a variable or a placeholder. Pure."""

import re

_LEAST_PASSWORD = 6
_RUN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")  # words of an identifier; what is random changes far more often
_LONGEST_RUN = 3.5  # on the mean, in what is random
_LONGEST_JOINED_RUN = 3.0  # likewise where it has hyphens or the like between, as words have
_SPECIAL = re.compile(r"[!@#$%^&*+=?~].")
_ELSEWHERE = re.compile(  # what says where the value is, or what it should be
    r"""[<{\[].*                                           # <password>, {{ password }}, [hidden]
    | \$[({].* | [$@:%][A-Za-z_]+[0-9]?%?                  # ${PASSWORD}, $password, @password, :password, %PASSWORD%
    | [A-Za-z]+(?:[._]+[A-Za-z]+)+[0-9]?                   # settings.password, db_password2
    | [\w.]+[(\[].*                                        # getpass(), os.environ[
    | [.~]{0,2}/.* | [A-Za-z][A-Za-z0-9+.-]*:/.*            # a path, a URL
    | [0-9]+(?:-[0-9]+)?[-+]?(?:char|digit|letter|symbol|word|bit|byte)s?(?:acters?)?(?:-.*)?  # 12-character, 8-16chars
    | (?:md|sha|base|utf|aes|rsa|bcrypt|scrypt|argon|pbkdf)-?[0-9]+[a-z]*(?:-.*)?  # SHA-256, base64-encoded
    | (?:required|nullable|sometimes|string)\|.*            # required|min:8
    | (?:.*[-_.])?(?:your|example|placeholder|changeme|redacted|dummy|sample)(?:[-_.].*)?  # your-password-123
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


def looks_like_a_password(value: str) -> bool:
    """Whether this may be what somebody typed as a password: letters or more with digits among them, or with signs inside."""
    if len(value) < _LEAST_PASSWORD or _ELSEWHERE.fullmatch(value):
        return False
    if any(char.isdigit() for char in value):
        return True
    return bool(_SPECIAL.search(value)) and value != value.lower() and value != value.upper()


def looks_made(value: str) -> bool:
    """Whether this looks like what a machine made: letters and digits that change places as no words do."""
    if not re.search("[A-Za-z]", value) or not re.search("[0-9]", value) or _ELSEWHERE.fullmatch(value):
        return False
    runs = _RUN.findall(value)
    most = _LONGEST_JOINED_RUN if re.search("[-_.:]", value) else _LONGEST_RUN
    return sum(map(len, runs)) / len(runs) < most

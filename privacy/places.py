"""Where something stands in a text, and whether it stands there by itself. Pure."""

Place = tuple[int, int]  # the first character, and the one after the last

_ESCAPED = frozenset("bfnrt")  # after a backslash, in a string that holds JSON or code


def is_whole(text: str, start: int, end: int) -> bool:
    """Whether no longer word or number goes on before or after this place."""
    return starts_word(text, start) and ends_word(text, end)


def starts_word(text: str, start: int) -> bool:
    """Whether neither a word nor a number is cut here. The letter of an escaped line break is no part of a word."""
    if start == 0:
        return True
    before = text[start - 1]
    if before in "-.":
        return start < 2 or not _is_word(text[start - 2])
    return not _is_word(before) or _is_escaped(text, start - 1)


def without_escape(text: str, start: int) -> int:
    """Where a word begins that was found here, the letter of an escaped line break before it left out."""
    return start + 1 if _is_escaped(text, start) else start


def ends_word(text: str, end: int) -> bool:
    """Whether neither a word nor a number goes on here; a full stop or a dash may follow."""
    if end == len(text):
        return True
    after = text[end]
    if after in "-.":
        return end + 1 == len(text) or not _is_word(text[end + 1])
    return not _is_word(after)


def _is_escaped(text: str, place: int) -> bool:
    return place > 0 and text[place] in _ESCAPED and text[place - 1] == "\\"


def _is_word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")

"""Masked logs -> the logs with their tags. Pure, and never raises: a log whose tagging fails is kept all the same."""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

import msgspec

from tunemill.schemas.learned import LearnedTag
from tunemill.schemas.records import LogRecord, Tag, TaggedLog
from tunemill.streams.fingerprint import fingerprints
from tunemill.streams.language import SETTER, language_of
from tunemill.streams.learned import matching
from tunemill.streams.mask import Masked
from tunemill.streams.near import SETTER as NEAR
from tunemill.streams.rules import Found, Rules
from tunemill.streams.text import texts_of

CALLER = "caller"
_SECRET = "secret:"  # noqa: S105  the namespace of a tag
_SECRETS = "secrets@1"
_PRIVATE = "pii:"
_PII = "pii@2"
_MASKED = "pii.masked@2"  # found when it was replaced: it is in the log no more
_PERSON = "person:"
_ID_FIELD = b'{"log_id":'  # the first of a log's JSON

_encode = msgspec.json.Encoder(order="deterministic").encode


class _Look(NamedTuple):
    """What a look at a log told."""

    language: str | None
    tags: list[Tag]
    fingerprint: str | None


def tag(masked: Masked, rules: Rules) -> TaggedLog:
    """The log with the caller's tags, those of its secrets and language, of private data, and of the rules that match."""
    return tag_all([masked], rules)[0]


def tag_all(logs: Sequence[Masked], rules: Rules) -> list[TaggedLog]:
    """Each of the logs likewise; many at once cost far less than one by one."""
    return [_tagged(masked, look) for masked, look in zip(logs, _looks(logs, rules), strict=True)]


def _tagged(masked: Masked, look: _Look | None) -> TaggedLog:
    log = masked.log
    given = _given(masked) if log.tags or masked.kinds or masked.private else []
    content_digest = _content_digest(masked)
    if look is None:
        return TaggedLog(log=log, content_digest=content_digest, tags=_first_of_each(given), tag_status="failed")
    return TaggedLog(
        log=log,
        content_digest=content_digest,
        tags=_first_of_each([*given, *look.tags]),
        language=look.language,
        fingerprint=look.fingerprint,
    )


def _given(masked: Masked) -> list[Tag]:
    """The tags that a log came with, and those of what was replaced in it. Most logs have none."""
    tags = [Tag(name, CALLER) for name in masked.log.tags]
    tags += [Tag(f"{_SECRET}{kind}", _SECRETS) for kind in masked.kinds]
    tags += [Tag(f"{_PRIVATE}{kind}", _MASKED) for kind in masked.private]
    return tags


def retag(stored: TaggedLog, rules: Rules, *, grown: Masked | None = None) -> TaggedLog:
    """A stored log with its tags by these rules: what the caller, secrets and people set stays, what set itself is set anew.

    Equal to `stored` when nothing changes, the order of its tags included. What a person took off stays off, but for private data
    in what is new: whoever took such a tag off has not seen it. Whatever else people said of the log stays beside it.

    Args:
        grown: the log as it is now, and the kinds of secrets that its new parts held; None: as it is stored.
    """
    now = grown or Masked(stored.log, ())
    known = dict.fromkeys((*_secret_kinds(stored.tags), *now.kinds))
    fresh = tag(Masked(now.log, tuple(known), private=now.private), rules)
    if fresh.tag_status == "failed":  # what was found before is better than nothing
        both = _first_of_each([*stored.tags, *fresh.tags])
        return msgspec.structs.replace(
            stored, log=now.log, content_digest=fresh.content_digest, tags=both, tag_status="failed"
        )
    seen = _new_to_people(stored, grown, rules) if grown and stored.removed else frozenset()
    kept = [entry for entry in stored.tags if _is_kept(entry)]
    if fresh.fingerprint == stored.fingerprint:  # then it is as near to others as it was
        kept += [entry for entry in stored.tags if entry.by == NEAR]
    again = [entry for entry in fresh.tags if entry.tag not in stored.removed or entry.tag in seen]
    return msgspec.structs.replace(
        stored,
        log=fresh.log,
        content_digest=fresh.content_digest,
        tags=_in_order_of(stored.tags, _first_of_each([*kept, *again])),
        tag_status=fresh.tag_status,
        language=fresh.language,
        removed=tuple(name for name in stored.removed if name not in seen),
        fingerprint=fresh.fingerprint,
    )


def _is_kept(entry: Tag) -> bool:
    """Whether a tag is nobody's to take off but people's."""
    return entry.by in (CALLER, _SECRETS, _MASKED) or entry.by.startswith(_PERSON)


def _new_to_people(stored: TaggedLog, grown: Masked, rules: Rules) -> frozenset[str]:
    """The tags that are told by what has come since: of secrets and private data there, and the caller's own."""
    found = tag(Masked(_less(grown.log, stored.log), grown.kinds, private=grown.private), rules).tags
    told = {entry.tag for entry in found if entry.tag.startswith((_SECRET, _PRIVATE))}
    return frozenset(told.union(grown.log.tags).difference(stored.log.tags))


def _in_order_of(before: Iterable[Tag], now: Iterable[Tag]) -> tuple[Tag, ...]:
    """The tags of `now`: those that were there before as they stood, then the new ones."""
    left = dict.fromkeys(now)
    stood = [entry for entry in before if entry in left]
    return tuple(dict.fromkeys((*stood, *left)))


def _less(log: LogRecord, known: LogRecord) -> LogRecord:
    """The log with those messages alone that are not among the known ones."""
    return msgspec.structs.replace(
        log,
        messages=tuple(message for message in log.messages if message not in known.messages),
        output=tuple(message for message in log.output if message not in known.output),
    )


def _looks(logs: Sequence[Masked], rules: Rules) -> Sequence[_Look | None]:
    """What each log tells; None for one that a rule or the model stumbled over: the log itself is sound."""
    try:
        return _look([masked.log for masked in logs], rules)
    except Exception:
        return [None] if len(logs) == 1 else [look for masked in logs for look in _looks([masked], rules)]


def _look(logs: Sequence[LogRecord], rules: Rules) -> list[_Look]:
    """Step by step, each for all logs: the tables that a step reads are then still near the processor."""
    texts = [texts_of(log) for log in logs]
    languages = {text: language_of(text) for text in {one.user for one in texts}}  # what is asked again is read once
    found = rules.find(list(zip(logs, texts, strict=True)))
    return [
        _Look(languages[text.user], _tags(languages[text.user], finds, matching(rules.learned, text)), sketch)
        for text, finds, sketch in zip(texts, found, fingerprints(logs), strict=True)
    ]


def _tags(language: str | None, found: Found, learned: Sequence[LearnedTag]) -> list[Tag]:
    tags = [Tag(f"lang:{language}", SETTER)] if language else []
    if found.pii_kinds:
        tags += [Tag(f"{_PRIVATE}{kind}", _PII) for kind in found.pii_kinds]
    tags += found.tags
    if learned:
        tags += [Tag(one.tag, one.setter) for one in learned]
    return tags


def _secret_kinds(tags: Iterable[Tag]) -> tuple[str, ...]:
    """The kinds of secrets that a log was tagged with."""
    return tuple(entry.tag.removeprefix(_SECRET) for entry in tags if entry.by == _SECRETS)


def _content_digest(masked: Masked) -> str:
    """SHA-256 of the log's JSON without its id, the keys of objects in order: equal content, equal digest."""
    json = masked.json or _encode(masked.log)
    return sha256(json[len(_ID_FIELD) + len(_encode(masked.log.log_id)) :]).hexdigest()


def _first_of_each(tags: Iterable[Tag]) -> tuple[Tag, ...]:
    """Each tag once, by whoever set it first."""
    first: dict[str, Tag] = {}
    for entry in tags:
        first.setdefault(entry.tag, entry)
    return tuple(first.values())

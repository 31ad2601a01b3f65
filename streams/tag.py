"""One masked log -> the log with its tags. Pure, and never raises: a log whose tagging fails is kept all the same."""

from collections.abc import Iterable

import msgspec

from tunemill.schemas.ids import digest
from tunemill.schemas.records import LogRecord, Tag, TaggedLog
from tunemill.streams.language import SETTER, language_of
from tunemill.streams.mask import Masked
from tunemill.streams.rules import Rules
from tunemill.streams.text import texts_of

CALLER = "caller"
_SECRET = "secret:"  # noqa: S105  the namespace of a tag
_SECRETS = "secrets@1"
_PRIVATE = "pii:"
_PII = "pii@1"


def tag(masked: Masked, rules: Rules) -> TaggedLog:
    """The log with the caller's tags, those of its secrets and language, of private data, and of the rules that match."""
    log = masked.log
    given = [Tag(name, CALLER) for name in log.tags]
    given += [Tag(f"{_SECRET}{kind}", _SECRETS) for kind in masked.kinds]
    content_digest = _content_digest(log)
    try:
        language, found = _look(log, rules)
    except Exception:  # whatever a rule or the model stumbled over, the log itself is sound
        return TaggedLog(log=log, content_digest=content_digest, tags=_first_of_each(given), tag_status="failed")
    return TaggedLog(log=log, content_digest=content_digest, tags=_first_of_each([*given, *found]), language=language)


def tag_again(stored: TaggedLog, masked: Masked, rules: Rules) -> TaggedLog:
    """The log, grown since it was stored, with its tags by the same rules; what people and models set or took off stays so.

    Private data in what is new is tagged all the same: whoever took such a tag off has not seen it.

    Args:
        masked: the log as it is now, and the kinds of secrets that its new parts held.
    """
    known = _secret_kinds(stored.tags)
    before = tag(Masked(stored.log, known), rules).tags
    now = tag(Masked(masked.log, tuple(dict.fromkeys((*known, *masked.kinds)))), rules)
    taken_off = {entry.tag for entry in before} - {entry.tag for entry in stored.tags}
    if any(name.startswith(_PRIVATE) for name in taken_off):
        taken_off -= {
            entry.tag for entry in tag(Masked(_less(masked.log, stored.log), ()), rules).tags if entry.by == _PII
        }
    set_by_others = [entry for entry in stored.tags if entry not in before]
    still = [entry for entry in now.tags if entry.tag not in taken_off]
    return msgspec.structs.replace(now, tags=_first_of_each([*set_by_others, *still]))


def _less(log: LogRecord, known: LogRecord) -> LogRecord:
    """The log with those messages alone that are not among the known ones."""
    return msgspec.structs.replace(
        log,
        messages=tuple(message for message in log.messages if message not in known.messages),
        output=tuple(message for message in log.output if message not in known.output),
    )


def _look(log: LogRecord, rules: Rules) -> tuple[str | None, list[Tag]]:
    texts = texts_of(log)
    language = language_of(texts.user)
    found = rules.find(log, texts)
    tags = [Tag(f"lang:{language}", SETTER)] if language else []
    tags += [Tag(f"{_PRIVATE}{kind}", _PII) for kind in found.pii_kinds]
    tags += [Tag(rule.tag, rule.setter) for rule in found.rules]
    return language, tags


def _secret_kinds(tags: Iterable[Tag]) -> tuple[str, ...]:
    """The kinds of secrets that a log was tagged with."""
    return tuple(entry.tag.removeprefix(_SECRET) for entry in tags if entry.by == _SECRETS)


def _content_digest(log: LogRecord) -> str:
    """SHA-256 of the log without its id: equal content, equal digest."""
    content = msgspec.to_builtins(log)
    del content["log_id"]
    return digest(content)


def _first_of_each(tags: Iterable[Tag]) -> tuple[Tag, ...]:
    """Each tag once, by whoever set it first."""
    first: dict[str, Tag] = {}
    for entry in tags:
        first.setdefault(entry.tag, entry)
    return tuple(first.values())

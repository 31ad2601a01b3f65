"""What a stretch of code knows about all its calls: `with log_context(session_id=...)`."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

import msgspec

from tunemill.schemas.records import LogRecord
from tunemill.sdk.errors import warn


@dataclass(frozen=True, slots=True)
class Context:
    """Fields that a log takes over where it says nothing itself; tags and metadata are added to its own."""

    session_id: str | None = None
    user_id: str | None = None
    consent: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


NO_CONTEXT = Context()
_CURRENT: ContextVar[Context] = ContextVar("tunemill_log_context", default=NO_CONTEXT)


def current() -> Context:
    """The context of the code that is running."""
    return _CURRENT.get()


@contextlib.contextmanager
def log_context(
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    consent: str | None = None,
    tags: str | Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Every call logged inside carries these; contexts nest, and follow the code into its asyncio tasks.

    Args:
        session_id: the conversation; its logs keep their order.
        consent: train | eval_only | none.
        tags: the caller's own, `namespace:value`; one or several.
    """
    outer = current()
    try:
        inner = Context(
            session_id=session_id or outer.session_id,
            user_id=user_id or outer.user_id,
            consent=consent or outer.consent,
            tags=union(outer.tags, listed(tags)),
            metadata={**outer.metadata, **(metadata or {})},
        )
    except Exception as error:  # an application's odd object may not end its work
        warn("a log context cannot be read and is passed over (%s)", type(error).__name__)
        inner = outer
    token = _CURRENT.set(inner)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # ended elsewhere than it began, where it never was in force
            _CURRENT.reset(token)


def in_context(log: LogRecord, context: Context) -> LogRecord:
    """The log with what its context adds."""
    if context is NO_CONTEXT:
        return log
    return msgspec.structs.replace(
        log,
        session_id=log.session_id or context.session_id,
        user_id=log.user_id or context.user_id,
        consent=log.consent or context.consent,
        tags=union(context.tags, log.tags),
        metadata={**context.metadata, **log.metadata},
    )


def union(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    """Both, in order, each once."""
    return tuple(dict.fromkeys((*first, *second)))


def listed(tags: str | Iterable[str]) -> tuple[str, ...]:
    """Several tags, or one that is given as a text alone."""
    return (tags,) if isinstance(tags, str) else tuple(tags)

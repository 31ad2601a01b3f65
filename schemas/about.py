"""How logs, answers and traces are named by what is said about them; answers and traces likewise by the ledger of erasures. Pure."""

from collections.abc import Iterable

_RESPONSE, _TRACE = "response:", "trace:"


def names(log_id: str | None, response_id: str | None, trace_id: str | None) -> tuple[str, ...]:
    """How these ids are spelled, the most exact first."""
    given = (("log:", log_id), (_RESPONSE, response_id), (_TRACE, trace_id))
    return tuple(f"{kind}{value}" for kind, value in given if value)


def is_beside(name: str) -> bool:
    """Whether an erasure with this name is of what is said about an answer or a trace, and not of a log."""
    return name.startswith((_RESPONSE, _TRACE))


def traces_in(about: Iterable[str]) -> list[str]:
    """The ids of the traces among these names."""
    return [name.removeprefix(_TRACE) for name in about if name.startswith(_TRACE)]

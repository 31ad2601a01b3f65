"""The report that lies beside an adapter: what it was made from, what it can do now, what it lost. Markdown for a person."""

from collections.abc import Mapping, Sequence
from typing import Any

from tunemill.schemas.run_report import SAMPLES
from tunemill.trainer.gates import Gate
from tunemill.trainer.job import Order

_SIGNS = {"pass": "passed", "warn": "WARNING", "reject": "REJECTED"}


def report(
    order: Order,
    status: str,
    result: Mapping[str, Any],
    gates: Sequence[Gate],
    *,
    answers: Sequence[tuple[str, str, str]],
    samples: Sequence[tuple[str, str]],
) -> str:
    """The report's text.

    Args:
        result: what `runs.result` holds.
        answers: a few held-out rows as (what was expected, the answer before, the answer after).
        samples: a few rows as (their rendered text, the pieces of it that are trained on).
    """
    before, after, retention = result["before"], result["after"], result["retention"]
    lines = [
        f"# Run {order.run_id}: {status}",
        "",
        f"`{order.recipe.method}` on `{order.recipe.base}` with dataset `{order.name}@v{order.version}`",
        f"(manifest SHA-256 `{order.digest}`).",
        "",
        "| | before | after |",
        "|---|---|---|",
        _score("held-out answers that match exactly", before["exact_match"], after["exact_match"]),
        _score("held-out answers that end by themselves", before["stop_rate"], after["stop_rate"]),
        _score("JSON fields right", before["json_fields"], after["json_fields"]),
        _score("held-out loss, nats per trained token", before["loss"], after["loss"]),
        _score("retention loss, nats per token (general rows)", retention["before"], retention["after"]),
        "",
        "## Gates",
        "",
        *[f"- {gate.name}: {_SIGNS[gate.outcome]}: {gate.says}" for gate in gates],
        "",
        "## Rows",
        "",
        *[f"- {what.replace('_', ' ')}: {count}" for what, count in result["rows"].items()],
        "",
        SAMPLES,
        "",
        *[line for answer in answers for line in _compared(*answer)],
        "## What was trained on",
        "",
        "A sample of the rows as the model saw them, and below each the pieces whose tokens it was trained to write.",
        "",
    ]
    for text, trained in samples:
        lines += ["Seen:", "", *_quoted(text), "", "Trained:", "", *_quoted(trained), ""]
    return "\n".join(lines)


def _compared(expected: str, before: str, after: str) -> list[str]:
    said = (("Expected", expected), ("Before", before), ("After", after))
    return [line for what, text in said for line in (f"{what}:", "", *_quoted(text), "")]


def _score(what: str, before: float | None, after: float | None) -> str:
    shown = ["not measured" if value is None else f"{value:.3f}" for value in (before, after)]
    return f"| {what} | {shown[0]} | {shown[1]} |"


def _quoted(text: str) -> list[str]:
    """Indented: Markdown shows it as it is, whatever is in it."""
    return ["    " + line for line in text.splitlines()]

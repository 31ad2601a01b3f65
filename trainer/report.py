"""The report that lies beside an adapter: what it was made from, what it can do now, what it lost. Markdown for a person."""

from collections.abc import Mapping, Sequence
from typing import Any

from tunemill.schemas.run_report import SAMPLES
from tunemill.trainer.job import Order

_SIGNS = {"pass": "passed", "warn": "WARNING", "reject": "REJECTED"}
_ANSWERS = 3  # of each kind that are shown


def report(
    order: Order,
    status: str,
    result: Mapping[str, Any],
    *,
    samples: Sequence[Mapping[str, Any]],
    trained: Sequence[tuple[str, str]],
) -> str:
    """The report's text.

    Args:
        result: what `runs.result` holds.
        samples: rows with the answers before and after.
        trained: a few rows as (their rendered text, the pieces of it that are trained on).
    """
    lines = [
        f"# Run {order.run_id}: {status}",
        "",
        f"`{order.recipe.method}` on `{order.recipe.base}` with dataset `{order.name}@v{order.version}`",
        f"(manifest SHA-256 `{order.digest}`).",
        "",
        "## Held-out rows",
        "",
        *_metrics(result["metrics"]),
        "",
        "## What was lost",
        "",
        *[f"- {sentence}" for sentence in result["forgetting"]["says"]],
        "",
        *_topics(result["forgetting"]["by_topic"]),
        "## Gates",
        "",
        *[f"- {gate['name']}: {_SIGNS[gate['outcome']]}: {gate['says']}" for gate in result["gates"]],
        "",
        *_slices(result["slices"]),
        *_judged(result.get("judge")),
        *_plan(result.get("plan")),
        "## Rows",
        "",
        *[f"- {what.replace('_', ' ')}: {count}" for what, count in result["rows"].items()],
        "",
        SAMPLES,
        "",
        *[line for sample in _few(samples) for line in _compared(sample)],
        "## What was trained on",
        "",
        "A sample of the rows as the model saw them, and below each the pieces whose tokens it was trained to write.",
        "",
    ]
    for text, pieces in trained:
        lines += ["Seen:", "", *_quoted(text), "", "Trained:", "", *_quoted(pieces), ""]
    return "\n".join(lines)


def _metrics(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not metrics:
        return ["No held-out rows: nothing was measured."]
    head = ["| | before | after | change | 95 % interval | p | rows |", "|---|---|---|---|---|---|---|"]
    return head + [
        f"| {_name(name, one['unit'])} | {one['before']:.3f} | {one['after']:.3f} | {one['change']:+.3f}"
        f" | {one['low']:+.3f} to {one['high']:+.3f} | {one['p']:.3f} | {one['rows']} |"
        for name, one in metrics.items()
    ]


def _name(name: str, unit: str) -> str:
    return name.replace("_", " ") + (f", {unit}" if unit else "")


def _topics(topics: Sequence[Mapping[str, Any]]) -> list[str]:
    if not topics:
        return []
    head = [
        "| topic | rows | answered before | lost | learned | loss before | loss after |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = [
        f"| {_cell(one['topic'])} | {one['rows']} | {one['could']} | {one['lost']} | {one['learned']}"
        f" | {_number(one['loss_before'])} | {_number(one['loss_after'])} |"
        for one in topics
    ]
    return [*head, *rows, ""]


def _slices(slices: Sequence[Mapping[str, Any]]) -> list[str]:
    if not slices:
        return []
    head = ["## Slices", "", "Loss in nats per trained token; the interval is of its rise.", ""]
    head += ["| slice | rows | before | after | 95 % interval |", "|---|---|---|---|---|"]
    rows = [
        f"| {_cell(one['slice'])}: {_cell(one['value'])} | {one['rows']} | {one['loss_before']:.3f}"
        f" | {one['loss_after']:.3f} | {one['low']:+.3f} to {one['high']:+.3f} |"
        for one in slices
    ]
    return [*head, *rows, ""]


def _judged(judge: Mapping[str, Any] | None) -> list[str]:
    if not judge:
        return []
    says = (
        f"`{judge['model']}` compared {judge['rows']} answers with the base model's, each pair in both orders:"
        f" {judge['wins']} better, {judge['losses']} worse, {judge['ties']} alike or disputed, {judge['failed']} not judged."
    )
    return ["## Judge", "", says, ""]


def _plan(plan: Mapping[str, Any] | None) -> list[str]:
    if not plan:
        return []
    settled = [f"- {one['name']} {one['value']}: {one['reason']}" for one in plan.get("derived", ())]
    return ["## What the recipe left open", "", *settled, ""] if settled else []


def _few(samples: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [
        sample for of in ("held_out", "retention") for sample in [one for one in samples if one["of"] == of][:_ANSWERS]
    ]


def _compared(sample: Mapping[str, Any]) -> list[str]:
    said = (("Expected", sample["expected"]), ("Before", sample["before"]), ("After", sample["after"]))
    return [line for what, text in said for line in (f"{what}:", "", *_quoted(text), "")]


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def _quoted(text: str) -> list[str]:
    """Indented: Markdown shows it as it is, whatever is in it."""
    return ["    " + line for line in text.splitlines()]

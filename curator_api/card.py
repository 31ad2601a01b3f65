"""A version's card: `README.md` with the front matter that the hub reads and a page for people. Pure.

The same version gives the same card. It holds names, counts and the recipe; never the text of a row.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from tunemill.curator_api.tally import OTHERS

_LANGUAGE = re.compile(r"[a-z]{2,3}")
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~!&@:$])")  # `:` and `@` too: an address would become a link
_SIZES = {
    1_000: "n<1K",
    10_000: "1K<n<10K",
    100_000: "10K<n<100K",
    10**6: "100K<n<1M",
    10**7: "1M<n<10M",
    10**8: "10M<n<100M",
    10**9: "100M<n<1B",
}  # the hub's names, each up to this many rows
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # thousands of files: in C where it was built
_VALUES_SHOWN = 20  # of a slice: a card is for reading, the report holds all


def card(
    *,
    name: str,
    digest: str,
    shape: str,
    splits: Mapping[str, int],
    report: Mapping[str, Any],
    recipe: Mapping[str, Any],
    files: Mapping[str, Sequence[str]],
) -> str:
    """The card of a version.

    Args:
        report: the version's report as JSON-like data; what it lacks, the card does not tell.
        recipe: likewise.
        files: the Parquet files of each split, relative to the card.
    """
    sections = (
        _what(shape, splits, report),
        _how(recipe, report),
        _slices(report.get("slices") or {}),
        _left_out(report),
        _warnings(report.get("warnings") or ()),
        _licence(report),
        _reading(digest, files),
    )
    page = "\n\n".join("\n".join(section) for section in sections if section)
    return f"---\n{_front_matter(shape, splits, report, files)}---\n\n# {_plain(name)}\n\n{page}\n"


def _front_matter(
    shape: str,
    splits: Mapping[str, int],
    report: Mapping[str, Any],
    files: Mapping[str, Sequence[str]],
) -> str:
    data_files = [
        {"split": split, "path": list(files[split])} for split in splits if files.get(split) and splits[split]
    ]
    languages = sorted(code for code in report.get("languages") or () if _LANGUAGE.fullmatch(code))
    front: dict[str, Any] = {
        "language": languages,
        "license": "unknown",
        "size_categories": [_size(sum(splits.values()))],
        "tags": ["tunemill", "chat" if shape == "chat" else "preference"],
        "dataset_info": {"features": _features(shape)},
        "configs": [{"config_name": "default", "data_files": data_files}],
    }
    terms = report.get("terms") or {}
    if list(terms.values()) == [report.get("rows")]:  # every row is of sets under one licence
        front |= {"license": "other", "license_name": next(iter(terms))}
    return yaml_text({key: value for key, value in front.items() if value})


def _features(shape: str) -> list[dict[str, str]]:
    """The columns, so that `datasets` reads messages as the JSON that they are."""
    messages = ("messages",) if shape == "chat" else ("prompt", "chosen", "rejected")
    text = {"dtype": "string"}
    return [
        {"name": "row_id", **text},
        *({"name": name, "list": "json"} for name in messages),
        {"name": "tools", **text},
    ]


def yaml_text(value: Any) -> str:
    """A value as YAML, in the order of its members."""
    text: str = yaml.dump(value, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=10**6)
    return text


def _what(shape: str, splits: Mapping[str, int], report: Mapping[str, Any]) -> list[str]:
    rows = "conversations with their answers" if shape == "chat" else "prompts with a better and a worse answer"
    lines = [f"{sum(splits.values())} {rows}.", ""]
    lines += _table(("split", "rows"), splits.items())
    lengths = {
        "characters": report.get("characters_per_row"),
        "messages": report.get("messages_per_row"),
        "tokens": report.get("tokens_per_row"),
    }
    measured = [
        (unit, *(one[part] for part in ("min", "median", "p90", "max"))) for unit, one in lengths.items() if one
    ]
    if measured:
        lines += ["", *_table(("in a row", "least", "median", "90 %", "most"), measured)]
    if languages := report.get("languages"):
        lines += ["", *_table(("language", "rows"), _most(languages))]
    told = {
        "answers that are corrections": report.get("corrected"),
        "edited by a person": report.get("edited"),
        "imported": report.get("imported"),
    }
    if found := [(what, count) for what, count in told.items() if count]:
        lines += ["", *_table(("of these", "rows"), found)]
    if sources := report.get("sources"):
        lines += ["", *_table(("imported from", "rows"), _most(sources))]
    return lines


def _how(recipe: Mapping[str, Any], report: Mapping[str, Any]) -> list[str]:
    text = yaml_text(recipe)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    lines = ["## How it was made", "", "By this recipe of tunemill:", "", f"{fence}yaml", text.rstrip("\n"), fence]
    told = {
        "point in time": _moment(report.get("point_ms")),
        "consent of logs that state none": report.get("default_consent"),
        "private data": report.get("private_data"),
    }
    if held := [(what, value) for what, value in told.items() if value]:
        lines += ["", *_table(("what held", ""), held)]
    return lines


def _moment(ts_ms: int | None) -> str | None:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).isoformat(timespec="milliseconds") if ts_ms else None


def _slices(slices: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    lines: list[str] = []
    for name, values in slices.items():
        ranked = sorted(values.items(), key=lambda item: (item[0] == OTHERS, -item[1].get("rows", 0), item[0]))
        shown = [
            (
                value,
                one.get("logs", 0),
                _percent(one.get("share_logs")),
                one.get("rows", 0),
                _percent(one.get("share_rows")),
                one.get("duplicates", 0),
            )
            for value, one in ranked[:_VALUES_SHOWN]
        ]
        columns = (name, "logs", "share of logs", "rows", "share of rows", "duplicates")
        lines += ["", f"### By {_plain(name)}", "", *_table(columns, shown)]
        if len(ranked) > len(shown):
            more = "many" if OTHERS in values else len(ranked) - len(shown)
            lines += ["", f"And {more} values more."]
    return ["## Slices", *lines] if lines else []


def _left_out(report: Mapping[str, Any]) -> list[str]:
    out = {reason: count for reason, count in (report.get("excluded") or {}).items() if count}
    matched = report.get("matched", 0)
    lines = ["## What was left out", ""]
    if out:
        lines += [f"Of {matched} that matched, {sum(out.values())}:", "", *_table(("reason", "count"), _most(out))]
    else:
        lines += [f"Nothing of the {matched} that matched."]
    if masked := report.get("masked"):
        lines += ["", "Private data was replaced by placeholders:", "", *_table(("kind", "rows"), _most(masked))]
    return lines


def _warnings(warnings: Sequence[str]) -> list[str]:
    return ["## Warnings", "", *(f"- {_plain(warning)}" for warning in warnings)] if warnings else []


def _licence(report: Mapping[str, Any]) -> list[str]:
    lines = ["## Licence", ""]
    if models := report.get("licences"):
        lines += ["Whether what their models said may be trained on, as the project states it:", ""]
        lines += [*_table(("may be trained on", "rows"), _most(models)), ""]
    if terms := report.get("terms"):
        lines += ["Imported from sets under these licences:", "", *_table(("licence", "rows"), _most(terms)), ""]
    return [*lines, "Nobody has stated a licence of the whole: look at the sources before you pass it on."]


def _reading(digest: str, files: Mapping[str, Sequence[str]]) -> list[str]:
    example = next((paths[0] for paths in files.values() if paths), None)
    if example is None:
        return []
    return [
        "## Reading it",
        "",
        "`datasets.load_dataset` opens the folder of this file. Each data file is Parquet, in which a message is JSON text.",
        f"The version's digest is `{digest}`.",
    ]


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = ["| " + " | ".join(map(_plain, columns)) + " |", "|" + "---|" * len(columns)]
    return [*lines, *("| " + " | ".join(_plain(str(cell)) for cell in row) + " |" for row in rows)]


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _plain(text: str) -> str:
    """The text as text: on one line, and nothing in it that Markdown or HTML would obey."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _size(rows: int) -> str:
    return next((name for most, name in _SIZES.items() if rows < most), "1B<n<10B")

"""The report of a training run without the rows that it shows, and the manifest of its folder that names it. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Any

REPORT = "report.md"
SAMPLES = "## Held-out answers"  # where a report begins to show rows: from there on to its end
REMOVED = "Rows were shown here. They were removed, because one that the run was trained on was erased."


def without_samples(report: str) -> str | None:
    """The report without rows; None if it shows none."""
    before, heading, _ = report.partition(f"\n{SAMPLES}\n")
    return f"{before}\n{REMOVED}\n" if heading else None


def manifest_with(manifest: Mapping[str, Any], report: bytes) -> dict[str, Any]:
    """The manifest of a run's folder in which the report is this one."""
    entry = {"sha256": hashlib.sha256(report).hexdigest(), "bytes": len(report)}
    return {**manifest, "files": {**manifest["files"], REPORT: entry}}

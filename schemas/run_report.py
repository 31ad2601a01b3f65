"""What a run's folder shows of rows, taken out again, and the manifest that names the files. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Any

REPORT = "report.md"
SAMPLES_FILE = "samples.jsonl"  # rows with the answers before and after: nothing else is in it
SAMPLES = "## Held-out answers"  # where a report begins to show rows: from there on to its end
REMOVED = "Rows were shown here. They were removed, because one that the run was trained on was erased."


def without_rows(name: str, content: bytes) -> bytes:
    """The report, or the samples, without rows; the same again if they show none."""
    if name == SAMPLES_FILE:
        return b""
    before, heading, _ = content.partition(f"\n{SAMPLES}\n".encode())
    return before + f"\n{REMOVED}\n".encode() if heading else content


def manifest_with(manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """The manifest of a run's folder in which these files hold this."""
    entries = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in files.items()
    }
    return {**manifest, "files": {**manifest["files"], **entries}}

"""The figures of the starter rules in docs/tags.md are those of the rules and the labelled samples that lie here."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = """
from pathlib import Path
from benchmarks.rules import load_rules, read, scored, table
labels = [Path(f"benchmarks/labels/{name}.{split}.jsonl") for name in ("topics", "quality") for split in ("dev", "test")]
rules = load_rules()
print("\\n".join(table(scored({path: read(path) for path in labels}, rules)[1], rules)))
"""


def test_the_documented_figures_are_the_measured_ones() -> None:
    """Where this fails, `python -m benchmarks.rules` with these four files prints the rows that belong in the document."""
    found = subprocess.run([sys.executable, "-c", TABLE], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert len(found.splitlines()) > 15
    assert found.strip() in (ROOT / "docs" / "tags.md").read_text(encoding="utf-8")

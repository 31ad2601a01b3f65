"""The figures of the starter rules in docs/tags.md are those of the rules and the labelled samples that lie here."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = """
import sys
from pathlib import Path
from benchmarks.rules import load_rules, read, scored, table
labels = [Path(f"benchmarks/labels/{name}.{split}.jsonl") for name in sys.argv[1:] for split in ("dev", "test")]
rules = load_rules()
print("\\n".join(table(scored({path: read(path) for path in labels}, rules)[1], rules)))
"""


@pytest.mark.parametrize("files", [("topics", "quality", "facts"), ("private",), ("languages",)])
def test_the_documented_figures_are_the_measured_ones(files: tuple[str, ...]) -> None:
    """Where this fails, `python -m benchmarks.rules` with these files prints the rows that belong in the document."""
    command = [sys.executable, "-c", TABLE, *files]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert len(found.splitlines()) > 10
    assert found.strip() in (ROOT / "docs" / "tags.md").read_text(encoding="utf-8")

"""How fast, measured against what one would use instead, in the same run. `python -m benchmarks.<name> --json`."""

import sys
from pathlib import Path

sys.path.append(
    str(Path(__file__).parent.parent / "tests")
)  # real engines and pinned environments are started as for the tests

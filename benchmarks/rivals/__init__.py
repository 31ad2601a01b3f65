"""What people write instead of tunemill, each a process of its own: none of them masks, tags, or knows a duplicate's content."""

import sys
from pathlib import Path

HERE = Path(__file__).parent


def environment(name: str) -> Path:
    """The Python of the environment that `<name>.txt` pins, made on first use like those of the tests' clients."""
    tests = str(HERE.parent.parent / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    from clients.environments import pinned

    return Path(pinned(HERE / f"{name}.txt"))

"""A virtual environment for each family of clients: their versions conflict with ours and with one another.

`<name>.in` says what a family needs and `<name>.txt` holds the exact versions. To renew one, in this folder:

    uv pip compile --universal --python-version 3.11 --no-header --no-annotate <name>.in -o <name>.txt
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in HERE.glob("*.in")))
CACHE = Path.home() / ".cache" / "tunemill" / "clients"
LONGEST_S = 600  # with a slow package index
_LAST_WORDS = 2000  # characters of the installer's output that a failure shows


class EnvironmentAbsent(Exception):
    """This machine can't make the environment."""


def environment(name: str) -> Path:
    """The Python of this family's environment, which is made on first use and kept.

    Raises:
        EnvironmentAbsent: uv is missing, or it could not install the pinned versions.
    """
    return pinned(HERE / f"{name}.txt")


def pinned(lock: Path) -> Path:
    """The Python of the environment with the versions in this file.

    Raises:
        EnvironmentAbsent: uv is missing, or it could not install them.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(lock.read_bytes() + version.encode()).hexdigest()[:16]
    folder = CACHE / f"{lock.stem}-{digest}"
    if not folder.exists():
        _make(folder, lock)
    return folder / "bin" / "python"


def _make(folder: Path, lock: Path) -> None:
    """Make it aside and rename it: of two processes at once, the later one takes what the earlier one made."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _uv("venv", "--quiet", "--python", sys.executable, "--relocatable", str(aside / "venv"))
        python = str(aside / "venv" / "bin" / "python")
        _uv("pip", "install", "--quiet", "--no-deps", "--python", python, "--requirements", str(lock))
        try:
            (aside / "venv").rename(folder)
        except OSError:
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _uv(*arguments: str) -> None:
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise EnvironmentAbsent("the environments of the clients are made by uv: pip install uv")
    plain = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    done = subprocess.run([uv, *arguments], capture_output=True, check=False, text=True, timeout=LONGEST_S, env=plain)
    if done.returncode:
        raise EnvironmentAbsent(f"uv {arguments[0]} failed: {done.stderr[-_LAST_WORDS:]}")

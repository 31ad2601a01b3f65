"""What `pip install tunemill` costs an application: into an empty environment, from this folder's sources.

    python -m benchmarks.sdk_install [FOLDER]

The environment stays in FOLDER, if one is given. Seconds depend on what uv has in its cache.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
_BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE")


def install(folder: Path) -> dict[str, Any]:
    """Make an environment in `folder` and install the SDK alone: seconds, megabytes, and how many and which packages.

    Raises:
        subprocess.CalledProcessError: uv cannot make or fill it.
    """
    with tempfile.TemporaryDirectory() as aside:  # a build leaves files beside what it builds
        sources = Path(aside)
        shutil.copytree(ROOT / "src", sources / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        for name in _BUILT_FROM:
            shutil.copy(ROOT / name, sources)
        _uv("venv", "--python", sys.executable, str(folder))
        before_bytes = _size_bytes(folder)
        begun = time.perf_counter()
        _uv("pip", "install", "--python", str(folder / "bin" / "python"), str(sources))
        seconds = time.perf_counter() - begun
    listed = json.loads(_uv("pip", "list", "--format", "json", "--python", str(folder / "bin" / "python")))
    return {
        "seconds": round(seconds, 2),
        "megabytes": round((_size_bytes(folder) - before_bytes) / 1e6, 1),
        "packages": len(listed),
        "names": sorted(package["name"] for package in listed),
    }


def _uv(*arguments: str) -> str:
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else "uv"
    done = subprocess.run([uv, *arguments, "--quiet"], check=True, capture_output=True, text=True, timeout=300)
    return done.stdout


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def main() -> None:
    """Install, and print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(install(Path(sys.argv[1] if len(sys.argv) > 1 else folder) / "environment")))


if __name__ == "__main__":
    main()

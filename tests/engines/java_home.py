"""A Java that is new enough."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from engines.errors import EngineAbsent

FOLDERS = Path("/usr/lib/jvm"), Path("/Library/Java/JavaVirtualMachines")


def find_java(*, at_least: int, compiler: bool = False) -> Path:
    """The home of a Java of this version or later, with `javac` if asked for: JAVA_HOME, then the PATH, then what is installed.

    Raises:
        EngineAbsent: there is none.
    """
    needed = "javac" if compiler else "java"
    for home in _candidates():
        if (home / "bin" / needed).exists() and _version(home) >= at_least:
            return home
    raise EngineAbsent(f"no Java {at_least} or later{' with javac' if compiler else ''}: set JAVA_HOME")


def _candidates() -> list[Path]:
    named = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    on_path = [Path(found).resolve().parent.parent] if (found := shutil.which("java")) else []
    installed = [home for folder in FOLDERS for home in sorted(folder.glob("*"), reverse=True)]
    inside = [home / "Contents" / "Home" for home in installed]  # how macOS nests them
    return [*named, *on_path, *installed, *inside]


def _version(home: Path) -> int:
    java = home / "bin" / "java"
    if not java.exists():
        return 0
    said = subprocess.run([java, "-version"], capture_output=True, check=False, text=True, timeout=30).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0

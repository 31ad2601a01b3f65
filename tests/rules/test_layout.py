"""The house rules that can be checked: where code lies, what it is called, how long a function may be."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = (
    "schemas",
    "bus",
    "registry",
    "telemetry",
    "privacy",
    "streams",
    "indexer",
    "curator_api",
    "trainer",
    "sdk",
    "cli",
    "examples",
)
BANNED = {
    "utils",
    "util",
    "common",
    "helpers",
    "misc",
    "shared",
    "base",
    "core",
    "manager",
    "handler",
    "handlers",
    "tools",
}
LONGEST_FUNCTION = 60  # lines
STRAIGHT_LINES = {"trainer/train.py": 120}  # the training loop is one function that reads from top to bottom


def sources() -> Iterator[tuple[str, Path]]:
    for service in SERVICES:
        for path in sorted((ROOT / service).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path


def test_the_package_holds_links_to_every_service_and_nothing_else() -> None:
    package = ROOT / "src" / "tunemill"
    links = {path.name for path in package.iterdir() if path.is_symlink()}
    assert links == set(SERVICES)
    assert all((package / name).readlink() == Path("../..", name) for name in links)
    assert {path.name for path in package.iterdir() if not path.is_symlink()} - {"__pycache__"} == {
        "__init__.py",
        "py.typed",
    }


@pytest.mark.parametrize("name", SERVICES)
def test_bare_names_are_not_importable(name: str, tmp_path: Path) -> None:
    """`import trainer` would make a second copy of every class in it."""
    found = subprocess.run(
        [sys.executable, "-c", f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        check=False,
    )
    assert found.returncode == 0


def test_file_names_say_what_is_inside() -> None:
    names = [(name, path.stem) for name, path in sources()]
    assert len(names) > 50
    assert [name for name, stem in names if stem in BANNED] == []


def test_functions_are_short_enough_to_read() -> None:
    too_long = []
    seen = 0
    for name, path in sources():
        if "migrations" in path.parts:
            continue  # a migration lists every column there was
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                seen += 1
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > STRAIGHT_LINES.get(name, LONGEST_FUNCTION):
                    too_long.append(f"{name}:{node.lineno} {node.name}: {lines} lines")
    assert seen > 300
    assert too_long == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        name
        for name, path in sources()
        if path.read_text(encoding="utf-8").strip()
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_nothing_loads_code_from_data() -> None:
    """No pickle, no unsafe YAML, no remote model code."""
    dangerous = ("import pickle", "yaml.load(", "trust_remote_code=True", "weights_only=False", "eval(", "shell=True")
    found = [
        f"{name}: {word}"
        for name, path in sources()
        for word in dangerous
        if any(word in line and ".eval(" not in line for line in path.read_text(encoding="utf-8").splitlines())
    ]
    assert found == []

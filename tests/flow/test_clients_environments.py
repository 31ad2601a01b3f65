"""The environments of the clients: made once, by several processes at once or by none."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clients import environments
from clients.environments import EnvironmentAbsent, environment


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and one family of clients in place of the real ones."""
    monkeypatch.setattr(environments, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(environments, "HERE", tmp_path)
    (tmp_path / "small.txt").write_text("sniffio==1.3.1\n")
    (tmp_path / "absent.txt").write_text("sniffio==0.0.0\n")
    return tmp_path / "cache"


def test_two_at_once_make_one_environment_that_works(cache: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(environment, ["small", "small"])
    assert first == second
    done = subprocess.run(
        [str(first), "-c", "import sniffio; print(sniffio.__file__)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(cache))
    assert [path.name for path in cache.iterdir()] == [first.parents[1].name]


def test_what_is_there_is_not_made_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = environment("small")
    monkeypatch.setattr(environments, "_make", None)
    assert environment("small") == made


def test_other_pins_are_another_environment(cache: Path, tmp_path: Path) -> None:
    made = environment("small")
    (tmp_path / "small.txt").write_text("sniffio==1.3.0\n")
    assert environment("small") != made


def test_one_that_cannot_be_made_leaves_nothing_behind(cache: Path) -> None:
    with pytest.raises(EnvironmentAbsent, match="sniffio"):
        environment("absent")
    assert list(cache.iterdir()) == []


def test_without_uv_the_reason_says_what_to_install(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(EnvironmentAbsent, match="pip install uv"):
        environment("small")


@pytest.mark.parametrize("name", environments.NAMES)
def test_a_family_is_pinned_exactly_and_names_no_index(name: str) -> None:
    lines = (Path(environments.__file__).parent / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert lines
    assert [line for line in lines if "==" not in line or "://" in line or line.startswith(("#", "-"))] == []

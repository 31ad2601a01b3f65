"""ARCHITECTURE.md, the topics and the code say the same."""

import re
from pathlib import Path

from tunemill.schemas.topics import TOPICS

ROOT = Path(__file__).parents[2]
LINKS = [path.name for path in (ROOT / "src" / "tunemill").iterdir() if path.is_symlink()]  # test_layout.py lists them
FLOW_FOLDERS = [name for name in LINKS if name != "examples"]


def modules() -> set[str]:
    """Every module of the services, as `folder/file.py`, without packages' `__init__` and generated migrations."""
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in FLOW_FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py" and "migrations" not in path.parts
    }
    assert len(found) > 50
    return found


def test_architecture_names_every_module_and_every_module_it_names_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(rf"`((?:{'|'.join(FLOW_FOLDERS)})/[a-z_/]+\.py)`", text))
    assert named - modules() == set(), "named, but not there"
    assert modules() - named == set(), "there, but not named"


def test_architecture_shows_every_topic() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for topic in TOPICS:
        row = next((line for line in text.splitlines() if line.startswith(f"| `{topic.name}`")), "")
        for service in (*topic.producers, *topic.consumers):
            assert f"`{service}`" in row, f"{topic.name}: {service} is missing in ARCHITECTURE.md's table of topics"


def test_changelog_has_the_version_that_the_package_has() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    code = re.search(r'__version__ = "(.+)"', (ROOT / "src/tunemill/__init__.py").read_text())
    assert version
    assert code
    assert version[1] == code[1]
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert len(documents) > 5
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#:\s]+)", document.read_text(encoding="utf-8"))
        if not target.startswith("http") and not (document.parent / target).exists()
    ]
    assert broken == []

"""The run's folder made whole and copied to the files URL.

The worker assembles it (`artefact.py`); the supervisor uploads it while it holds the lease, the manifest last: a folder without
one is unfinished.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec

from tunemill.schemas.ids import canonical_json, digest
from tunemill.schemas.run_report import REPORT, SAMPLES_FILE, manifest_with, without_rows
from tunemill.trainer.job import write_whole

FORMAT = "tunemill-adapter/1"
WITH_ROWS = (REPORT, SAMPLES_FILE)  # that show rows
MANIFEST = "manifest.json"
MERGED = "merged"  # the folder with whole weights beside an adapter


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest with the SHA-256 of every other file: after it the folder is complete."""
    files = {
        str(path.relative_to(folder)): {"sha256": _file_sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    write_whole(folder / MANIFEST, canonical_json({"format": FORMAT, **content, "files": files}))


def _file_sha256(path: Path) -> str:
    """Read piece by piece: whole weights are gigabytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_sha256(folder: Path) -> str:
    """The digest that names the whole folder."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def whole_weights(folder: Path) -> str | None:
    """What `identity.identify_base` calls the whole weights in the folder, merged or not; None where there is an adapter alone."""
    files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    for place in ("", f"{MERGED}/"):
        weights = sorted(name for name in files if re.fullmatch(rf"{place}[^/]+\.safetensors", name))
        if weights and f"{place}config.json" in files:
            names = [f"{place}config.json", *weights]
            return digest([[name.removeprefix(place), files[name]["sha256"]] for name in names])
    return None


def hide_rows(folder: Path) -> bool:
    """Take the rows out of the report and the samples that lie here, where some were erased; whether anything had to be done.

    The manifest is brought in line, too: of a trainer that was killed between the two it tells of what is shown no more.
    """
    lies = {name: (folder / name).read_bytes() for name in (*WITH_ROWS, MANIFEST) if (folder / name).exists()}
    hidden = {name: without_rows(name, lies[name]) for name in WITH_ROWS if name in lies}
    files = {**hidden, MANIFEST: canonical_json(manifest_with(json.loads(lies[MANIFEST]), hidden))}
    changed = {name: content for name, content in files.items() if lies[name] != content}
    for name, content in changed.items():
        write_whole(folder / name, content)
    return bool(changed)


def hide_stored_rows(files_url: str, *, project: str, run_id: str) -> bool:
    """The same to what was uploaded of a run."""
    filesystem, root = fsspec.url_to_fs(_target(files_url, project, run_id))
    if not filesystem.exists(f"{root}/{MANIFEST}"):
        return False  # somebody has taken the folder away
    with TemporaryDirectory() as copies:
        for name in (*WITH_ROWS, MANIFEST):
            if filesystem.exists(f"{root}/{name}"):
                filesystem.get_file(f"{root}/{name}", f"{copies}/{name}")
        changed = hide_rows(Path(copies))
        if changed:
            upload(Path(copies), files_url, project=project, run_id=run_id, only=WITH_ROWS)
    return changed


def upload(folder: Path, files_url: str, *, project: str, run_id: str, only: Sequence[str] | None = None) -> str:
    """Copy the folder to `runs/<project>/<run_id>` under the files URL, the manifest last. Gives its URL.

    Doing it again replaces each file by the same bytes.

    Args:
        only: of its files these alone, and the manifest; None: all.
    """
    target = _target(files_url, project, run_id)
    filesystem, root = fsspec.url_to_fs(target)
    names = sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST
    )
    names = [name for name in names if only is None or name in only]
    for within in sorted({str(Path(name).parent) for name in names}):
        filesystem.makedirs(f"{root}/{within}" if within != "." else root, exist_ok=True)
    for name in [*names, MANIFEST]:
        filesystem.put_file(str(folder / name), f"{root}/{name}")
    return target


def withdraw(files_url: str, *, project: str, run_id: str) -> bool:
    """Remove what was uploaded of a run that left no result; whether there was something."""
    filesystem, root = fsspec.url_to_fs(_target(files_url, project, run_id))
    if not filesystem.exists(root):
        return False
    filesystem.rm(root, recursive=True)
    return True


def _target(files_url: str, project: str, run_id: str) -> str:
    return f"{files_url.rstrip('/')}/runs/{project}/{run_id}"

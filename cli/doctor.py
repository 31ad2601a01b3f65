"""`tunemill doctor`: check every dependency of this installation and say what to do about what is missing."""

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
import typer
from rich.console import Console

from tunemill.cli.settings import ENGINES, MissingSetting, embedded, engines_from
from tunemill.schemas.ids import PROJECT

LEAST_FREE_BYTES = 8 * 2**30  # PyTorch, a model and room to work

# Extra -> the packages that show it is installed.
EXTRAS = {
    "serve": ("fastapi", "sqlalchemy", "tantivy", "re2", "pyarrow"),
    "kafka": ("faust", "elasticsearch", "psycopg"),
    "train": ("torch", "transformers", "peft", "safetensors"),
    "demo": ("gguf", "sentencepiece"),
}


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ok, or what is wrong and the remedy. `needed`: nothing works without it."""

    name: str
    ok: bool
    says: str
    remedy: str = ""
    needed: bool = True


def doctor(
    data: Annotated[Path, typer.Option(help="The data folder to check.")] = Path("data"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check what tunemill depends on and say what to do. Exit code 1 when something that is needed is missing."""
    findings = [finding for check in CHECKS for finding in check(data)]
    if as_json:
        typer.echo(msgspec.json.encode([asdict(finding) for finding in findings]))
    else:
        _print(findings)
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(1)


def _python(_data: Path) -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Finding("Python", ok, version, "make .venv anew with Python 3.11, 3.12 or 3.13")


def _extras(_data: Path) -> Iterator[Finding]:
    for extra, packages in EXTRAS.items():
        missing = _missing(packages)
        yield Finding(
            f"extra [{extra}]",
            not missing,
            "installed" if not missing else f"missing {', '.join(missing)}",
            f"pip install 'tunemill[{extra}]'",
            needed=extra == "serve",
        )


def _missing(packages: Sequence[str]) -> list[str]:
    return [package for package in packages if not _is_there(package)]


def _is_there(package: str) -> bool:
    # Faust puts another object in its module's place, which says nothing of where it came from.
    return package in sys.modules or importlib.util.find_spec(package) is not None


def _disk(data: Path) -> Iterator[Finding]:
    folder = next(parent for parent in (data.absolute(), *data.absolute().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    yield Finding(
        "disk",
        free >= LEAST_FREE_BYTES,
        f"{free / 2**30:.0f} GiB free at {folder}",
        f"free at least {LEAST_FREE_BYTES / 2**30:.0f} GiB, or choose another folder with --data",
        needed=False,
    )
    writable = os.access(folder, os.W_OK)
    yield Finding(
        "data folder", writable, f"{folder} can{'' if writable else 'not'} be written", "choose another with --data"
    )


def _accelerator(_data: Path) -> Iterator[Finding]:
    if not _is_there("torch"):
        return
    import torch

    says = f"none; {os.cpu_count()} CPU cores will do for small models"
    yield Finding("accelerator", True, torch.cuda.get_device_name(0) if torch.cuda.is_available() else says)


def _engines(_data: Path) -> Iterator[Finding]:
    """The four addresses, when any is set: each must be there and answer. So must the schema registry, if there is one."""
    if registry_url := os.environ.get("TUNEMILL_SCHEMA_REGISTRY_URL"):
        yield from _reachable("schema registry", registry_url)
    if not any(os.environ.get(name) for name in ENGINES):
        yield Finding("engines", True, "embedded: no address is set")
        return
    try:
        engines = engines_from(os.environ)
    except MissingSetting as error:
        yield Finding("engines", False, "not every address is set", str(error))
        return
    for name, url in asdict(engines).items():
        yield from _reachable(name, url)


def _reachable(name: str, url: str) -> Iterator[Finding]:
    parts = urlsplit(url.split(",", maxsplit=1)[0])
    if parts.hostname is None:
        yield Finding(name, True, "on this machine")
        return
    default_port = {"http": 80, "https": 443, "kafka": 9092}.get(parts.scheme, 5432)
    address = (parts.hostname, parts.port or default_port)
    where = f"{address[0]}:{address[1]}"
    if parts.scheme in ("s3", "gs", "az", "abfs"):
        yield Finding(name, True, f"{parts.scheme} bucket {parts.hostname}: asked when it is first used")
        return
    try:
        socket.create_connection(address, timeout=3).close()
    except OSError as error:
        yield Finding(
            name,
            False,
            f"{where} does not answer ({type(error).__name__})",
            f"start it, or correct TUNEMILL_{name.upper()}",
        )
    else:
        yield Finding(name, True, f"{where} answers")


def _retention(data: Path) -> Iterator[Finding]:
    """How long logs are kept, and whether the last run came to its end; nothing where there is no registry yet."""
    if _missing(EXTRAS["serve"]):
        return
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    url = os.environ.get("TUNEMILL_REGISTRY_URL") or embedded(data).registry_url
    try:
        file = make_url(url).database if url.startswith("sqlite:") else None
        is_there = Path(file).exists() if file else all(found.ok for found in _reachable("registry", url))
        if is_there:
            yield _kept(url)
    except SQLAlchemyError as error:
        yield Finding(
            "retention",
            False,
            f"the registry cannot be read ({type(error).__name__})",
            "start `tunemill up` or `tunemill api` once, which brings its tables up to date, or correct TUNEMILL_REGISTRY_URL",
            needed=False,
        )


def _kept(registry_url: str) -> Finding:
    from tunemill.curator_api import retention_job, retention_store
    from tunemill.registry.open import open_registry

    registry = open_registry(registry_url)
    try:
        policy = retention_store.policy_of(registry, PROJECT)
        failed = retention_job.failure(registry, PROJECT)
    finally:
        registry.dispose()
    if failed is not None:
        return Finding(
            "retention", False, f"the last run failed: {failed}", "look at `tunemill jobs list`", needed=False
        )
    age = None if policy.max_age_days is None else f"for {policy.max_age_days} days"
    size = None if policy.max_bytes is None else f"up to {policy.max_bytes:,} bytes"
    return Finding("retention", True, f"logs are kept {' and '.join(filter(None, (age, size))) or 'for ever'}")


CHECKS: tuple[Callable[[Path], Iterator[Finding]], ...] = (
    _python,
    _extras,
    _disk,
    _accelerator,
    _engines,
    _retention,
)


def _print(findings: list[Finding]) -> None:
    console = Console()
    for finding in findings:
        mark = "[green]ok  [/]" if finding.ok else "[red]MISS[/]" if finding.needed else "[yellow]note[/]"
        console.print(mark, end=" ")
        console.print(f"{finding.name}: {finding.says}", highlight=False, markup=False)
        if not finding.ok:
            console.print(f"     {finding.remedy}", highlight=False, markup=False)

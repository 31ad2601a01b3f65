"""`tunemill doctor`: check every dependency of this installation and say what to do about what is missing."""

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
import typer
from rich.console import Console

from tunemill.cli.settings import ENGINES, MissingSetting, engines_from

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
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        yield Finding(
            f"extra [{extra}]",
            not missing,
            "installed" if not missing else f"missing {', '.join(missing)}",
            f"pip install 'tunemill[{extra}]'",
            needed=extra == "serve",
        )


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
    if importlib.util.find_spec("torch") is None:
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


CHECKS: tuple[Callable[[Path], Iterator[Finding]], ...] = (_python, _extras, _disk, _accelerator, _engines)


def _print(findings: list[Finding]) -> None:
    console = Console()
    for finding in findings:
        mark = "[green]ok  [/]" if finding.ok else "[red]MISS[/]" if finding.needed else "[yellow]note[/]"
        console.print(mark, end=" ")
        console.print(f"{finding.name}: {finding.says}", highlight=False, markup=False)
        if not finding.ok:
            console.print(f"     {finding.remedy}", highlight=False, markup=False)

"""Fair comparisons: sides take turns, the first turns warm up, and a figure is a median with its spread."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LOAD_AT_START = round(os.getloadavg()[0], 2)  # of the last minute, before this benchmark added to it


@dataclass(frozen=True)
class Figure:
    """One quantity, measured some times under the same conditions."""

    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        return (
            f"{self.median:,.4g} {self.unit} ({min(self.values):,.4g} to {max(self.values):,.4g}, n={len(self.values)})"
        )

    def as_json(self) -> dict[str, Any]:
        """Median, lowest, highest and every value."""
        rounded = [round(value, 4) for value in self.values]
        spread = {"median": round(self.median, 4), "low": min(rounded), "high": max(rounded)}
        return {"unit": self.unit, **spread, "values": rounded}


def take_turns(
    sides: Mapping[str, Callable[[], float]], *, unit: str, rounds: int, warmups: int = 1
) -> dict[str, Figure]:
    """Run every side once per round, each round in the opposite order of the one before; the warm-ups are not counted.

    Args:
        sides: name -> one measurement, which returns its value in `unit`.
    """
    values: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-warmups, rounds):
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            value = sides[name]()
            print(f"{'warm-up' if number < 0 else f'round {number + 1}'}: {name} {value:,.4g} {unit}", file=sys.stderr)
            if number >= 0:
                values[name].append(value)
    return {name: Figure(unit, tuple(found)) for name, found in values.items()}


def ratio(of: Figure, to: Figure) -> float:
    """The first median as a multiple of the second."""
    return of.median / to.median


def report(
    name: str,
    figures: Mapping[str, Figure],
    ratios: Mapping[str, float],
    settings: Mapping[str, Any],
    *,
    as_json: bool,
    also: Mapping[str, Any] | None = None,
) -> None:
    """Print the figures, keep them in `benchmarks/results/<name>.json`, and with `as_json` end with them as one line.

    Args:
        also: what was found once, and has no spread.
    """
    result = {
        "benchmark": name,
        "figures": {label: figure.as_json() for label, figure in figures.items()},
        "ratios": {label: round(value, 4) for label, value in ratios.items()},
        "settings": dict(settings),
        "machine": machine(),
        **(also or {}),
    }
    for label, figure in figures.items():
        print(f"{label}: {figure}")
    for label, value in ratios.items():
        print(f"{label}: {value:.3f}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    if as_json:
        print(json.dumps(result))


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "load_at_start": LOAD_AT_START,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")

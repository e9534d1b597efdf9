"""Owns how measured values become figures: percentiles, a table, facts of the machine, a file of all that.

It must not round away what is bad: percentiles are values that were measured, never interpolated.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import livechat

PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def summarize_us(values_ns: Iterable[int]) -> dict[str, float] | None:
    """Return percentiles, mean, least and greatest in microseconds; None for no values."""
    ordered = sorted(values_ns)
    if not ordered:
        return None
    figures: dict[str, float] = {name: percentile(ordered, share) for name, share in PERCENTILES.items()}
    figures |= {"mean": sum(ordered) / len(ordered), "min": ordered[0], "max": ordered[-1]}
    return {name: round(value / 1000, 1) for name, value in figures.items()}


def percentile(ordered: Sequence[int], share: float) -> int:
    """Return the least value that at least this share of the (ascending) values does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return aligned columns: the first to the left, the others to the right."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def write_json(path: Path, document: object) -> None:
    """Write results to a file, whose folder is made, and say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written to {path}")


def machine_facts() -> dict[str, Any]:
    """Return what one has to know of the machine to compare figures."""
    return {
        "cpu_count": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)),
        "cpu_model": _cpu_model(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "python_implementation": platform.python_implementation(),
        "livechat": livechat.__version__,
        "load_average": os.getloadavg()[0],
    }


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)

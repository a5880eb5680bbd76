"""Results in one JSON file; each group has the machine and the date of its last run."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.timing import Row

FILE = pathlib.Path(__file__).parent.parent / "docs" / "reference" / "benchmarks.json"
PACKAGES = ("feller", "torch", "flow_matching", "torchcfm", "azula", "opacus", "mbi")


def machine() -> dict[str, Any]:
    """Return the facts on the machine and its load at the start of the run."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
    }


def processor() -> str:
    """Return the name of the processor."""
    facts = pathlib.Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def row_record(row: Row) -> dict[str, Any]:
    """Return the record of a row in the file."""
    return {**asdict(row), "passed": row.passed}


def read(file: pathlib.Path = FILE) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}


def record(group: str, rows: Sequence[dict[str, Any]], where: dict[str, Any], file: pathlib.Path = FILE) -> None:
    """Replace the rows of a group in the file, and keep the other groups."""
    found = {**read(file), group: {**where, "rows": list(rows)}}
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n")

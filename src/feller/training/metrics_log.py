"""The record of a training: one JSON object a line."""

import json
import pathlib
from typing import Any

from feller.core.errors import InputError
from feller.core.serialization import named, replace_file


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Return the lines; one that a crash cut off at the end is left out.

    Raises:
        InputError: If another line is damaged.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or type(row.get("step")) is not int:
                raise ValueError("no step")
            rows.append(row)
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise InputError(f"{path}, line {number}, is no record of a step; the file was damaged") from error
    return rows


class MetricsWriter:
    """Appends lines; on resume first forgets what came after the last checkpoint."""

    def __init__(self, path: pathlib.Path, step: int) -> None:
        kept = [row for row in read_metrics(path) if row["step"] <= step]
        replace_file(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._path, self._file = path, path.open("a", encoding="utf-8")

    def add(self, **row: int | float) -> None:
        """Write one line and hand it to the system."""
        with named(self._path):
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

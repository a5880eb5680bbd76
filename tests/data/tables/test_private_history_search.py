"""Private description of tables with several rows per person: contributions of persons, attributes, numbers of rows."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from feller.core.errors import InputError
from feller.data.tables.dataframes import from_frame
from feller.data.tables.dates import Datetime
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.private_history_search import HistorySearch
from feller.privacy.noise.grid_noise import SeededNoise
from tests.errors import refuses

SEARCH = HistorySearch("patient", "date")


def visits(n: int, seed: int = 0) -> pd.DataFrame:
    """1 to 5 visits per person, 7, 14 or 30 days apart; sex and birth year are constant per person."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(n):
        sex, born, day = rng.choice(["F", "M"]), int(rng.integers(1940, 2000)), int(rng.integers(0, 300))
        for _ in range(rng.integers(1, 6)):
            date = pd.Timestamp("2020-01-01") + pd.Timedelta(days=day)
            rows.append((f"P{person}", date, sex, born, rng.choice(["A", "B", "C"])))
            day += int(rng.choice([7, 14, 30]))
    table = pd.DataFrame(rows, columns=["patient", "date", "sex", "born", "ward"])
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)


class Recorder:
    """Source of no noise, which records the counts that it is given."""

    def __init__(self) -> None:
        self.counts: list[Tensor] = []

    def add_gaussian(self, values: Tensor, scale: float) -> Tensor:
        """Return the values unchanged."""
        self.counts.append(values.clone())
        return values

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Return the same numbers for the same persons."""
        return torch.rand(1000, generator=torch.Generator().manual_seed(len(self.counts)))[: shape[0]]


def test_a_person_contributes_once_to_each_count() -> None:
    """The squared change of all counts by one person with many rows is at most the number of queries."""
    table = visits(200)
    rows = [("Z", pd.Timestamp("2024-01-01") + pd.Timedelta(days=i**2), "FM"[i % 2], 1900 + i, "X") for i in range(60)]
    more = pd.concat([table, pd.DataFrame(rows, columns=table.columns)])  # the last person, so that the others stay
    recorders = Recorder(), Recorder()
    for recorder, frame in zip(recorders, (table, more), strict=True):
        SEARCH.search(from_frame(frame), 1.0, 1e-3, recorder)
    change = 0.0
    for one, other in zip(*(recorder.counts for recorder in recorders), strict=True):
        if one.shape == other.shape:
            assert (one - other).abs().max() <= 1
            change += float((one - other).square().sum())
    assert 10 < change <= SEARCH.num_queries(from_frame(table))


@pytest.mark.parametrize("seed", range(5))
def test_attributes_numbers_of_rows_and_differences_are_found(seed: int) -> None:
    table = visits(2000, seed)
    schema, charges, *_ = SEARCH.search(from_frame(table), 20.0, 1e-6, SeededNoise(seed))
    history = schema.history
    assert history is not None
    assert schema.unit == "patient"
    assert history.attributes == ("sex", "born")
    assert 4 <= history.max_rows <= 10
    assert isinstance(schema.by_name["date"], Datetime)
    assert history.gap is not None
    assert history.gap.low <= 10
    assert 30 <= history.gap.high <= 150
    assert schema.clips
    rho = sum(1 / (2 * charge.sigma**2) for charge in charges)
    assert rho <= SEARCH.num_queries(from_frame(table)) / (2 * 20.0**2) * (1 + 1e-9)


def test_numbers_may_be_the_order() -> None:
    table = visits(1500)
    table["date"] = (table.date - pd.Timestamp("2020-01-01")).dt.days / 4
    schema = SEARCH.search(from_frame(table), 10.0, 1e-6, SeededNoise(1)).schema
    assert isinstance(schema.by_name["date"], Numerical)
    gap = schema.history.gap if schema.history else None
    assert gap is not None
    assert gap.low <= 1.75
    assert 7.5 <= gap.high <= 40


def test_a_given_maximum_is_kept() -> None:
    table = visits(300).drop(columns="date")
    history = HistorySearch("patient", max_rows=3).search(from_frame(table), 5.0, 1e-6, SeededNoise(0)).schema.history
    assert history is not None
    assert (history.max_rows, history.order, history.gap) == (3, None, None)


def test_wrong_rows_are_located_before_the_search() -> None:
    table = visits(30)
    with refuses(InputError, argument="person"):
        HistorySearch("person").check(from_frame(table))
    with refuses(InputError, argument="order"):
        HistorySearch("patient", "day").check(from_frame(table))
    with refuses(InputError, column="ward"):
        HistorySearch("patient", "ward").check(from_frame(table))
    with refuses(InputError, column="date", row=3):
        SEARCH.check(from_frame(table.assign(date=[None if i == 2 else d for i, d in enumerate(table.date)])))
    with refuses(InputError, column="patient", row=4):
        SEARCH.check(from_frame(table.assign(patient=[None if i == 3 else p for i, p in enumerate(table.patient)])))

"""Rows of a model of a table: the target of the schema, and what rows take whose columns tell nothing of each other."""

import math

import numpy as np
import pytest
import torch

from feller.core.rng import Draws
from feller.data.modality import Dataset
from feller.data.tables.column import Categorical
from feller.data.tables.modality import Table
from feller.data.tables.numerical import Numerical
from feller.data.tables.schema import Schema
from feller.evaluation.tables.copying import code_length_of_unrelated
from feller.evaluation.tables.quality import samples_quality

COLUMNS = (Categorical("kind", ("a", "b", "c")), Numerical("pay", 0.0, 9.0, edges=(4.0,), digits=True))


def rows(n: int, seed: int) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    kind = generator.integers(0, 3, n)
    return torch.from_numpy(np.stack([kind, np.where(kind == 0, 1, generator.integers(0, 10, n))], 1))


def test_unrelated_columns_by_hand() -> None:
    table = Table(Schema(COLUMNS))
    learned, unseen = torch.tensor([[0, 3], [0, 4], [1, 9], [0, 5]]), torch.tensor([[0, 0], [2, 7]])
    kinds = (math.log(4 / 7), math.log(1 / 7))
    pays = (math.log(2 / 6 / 4), math.log(4 / 6 / 6))
    found = code_length_of_unrelated(learned, unseen, table.coarse, table.counts)
    assert found == pytest.approx(-(sum(kinds) + sum(pays)) / 2, abs=1e-12)


def test_it_is_that_of_a_law_over_all_rows() -> None:
    table, learned = Table(Schema(COLUMNS)), rows(200, 0)
    every = torch.cartesian_prod(torch.arange(3), torch.arange(10))
    alone = [code_length_of_unrelated(learned, row[None], table.coarse, table.counts) for row in every]
    assert sum(map(math.exp, (-one for one in alone))) == pytest.approx(1, abs=1e-12)


def test_the_target_is_that_of_the_schema() -> None:
    found = {}
    for target in ("kind", "pay"):
        table = Table(Schema(COLUMNS, target=target))
        made, learned, unseen = (Dataset(rows(300, seed), {}, table) for seed in range(3))
        found[target] = samples_quality(made, learned, unseen, Draws(0))
    assert "auc_boosted" in found["kind"]
    assert found["kind"]["nll_baseline"] == found["pay"]["nll_baseline"]
    assert found["kind"]["nll_baseline"] == pytest.approx(math.log(3) + math.log(10), abs=0.3)
    nobody = Dataset(rows(0, 0), {}, table)
    assert samples_quality(made, learned, nobody, Draws(0))["nll_baseline"] is None

"""Graphical models as networks of a run."""

import itertools
import json
import math
import pathlib

import pytest
import torch
from scipy.stats import chisquare

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.safetensors_io import load_tensors, save_tensors
from feller.core.serialization import from_dict, to_dict
from feller.data.tables.column import Categorical
from feller.networks.network_config import NetworkConfig
from feller.privacy.marginals.marginal_network import MarginalTables, network_from_model
from feller.spaces import DigitTokenizer, PairConstraint, TableTokens
from feller.training.objectives.marginal_fitting import ONE_WAY_BUDGET, MarginalFitting
from tests.errors import numbers, refuses
from tests.privacy.marginals.tables import COUNTS, LOOP, Numbers, model_of


def rows_of(*counts: int, rules: tuple[PairConstraint, ...] = ()) -> TableTokens:
    return TableTokens(tuple(Categorical("a", tuple(map(str, range(count)))).field for count in counts), rules)


ROWS = rows_of(*COUNTS)
MODEL = model_of(COUNTS, LOOP)
EVERY_ROW = torch.tensor(list(itertools.product(*map(range, COUNTS))))


def test_save_and_load(tmp_path: pathlib.Path) -> None:
    settings, network = network_from_model(ROWS, MODEL)
    save_tensors(tmp_path / "average.safetensors", network.state_dict())
    record = json.loads(json.dumps(to_dict(settings)))
    again = from_dict(NetworkConfig, record).build((5,), {}, Rng(0))
    again.load_state_dict(load_tensors(tmp_path / "average.safetensors")[0])
    assert torch.equal(again.model().log_likelihood(EVERY_ROW), MODEL.log_likelihood(EVERY_ROW))
    assert torch.equal(again(EVERY_ROW, torch.zeros(len(EVERY_ROW)), {}), MODEL.log_likelihood(EVERY_ROW))
    assert torch.equal(again.sample(50, Rng(3)), MODEL.sample(50, Rng(3)))


def test_samples_depend_on_the_row_number() -> None:
    _, network = network_from_model(ROWS, MODEL)
    known = (EVERY_ROW, torch.arange(5) % 2 * torch.ones(len(EVERY_ROW), 1) > 0)
    whole = network.sample(len(EVERY_ROW), Rng(1), known)
    assert torch.equal(whole[known[1]], EVERY_ROW[known[1]])
    part = network.sample(9, Rng(1, first_example=30), tuple(one[30:39] for one in known))
    assert torch.equal(part, whole[30:39])
    assert torch.equal(network.sample(9, Rng(1, first_example=30)), network.sample(60, Rng(1))[30:39])


def test_sample_with_odds() -> None:
    """20,000 rows against all rows there are; 1e-3 is the chance of a false alarm."""
    _, network = network_from_model(ROWS, MODEL)
    weights = {0: torch.linspace(0, 1, COUNTS[0]), 2: torch.tensor([1.0, *[0.25] * (COUNTS[2] - 1)])}
    known = EVERY_ROW[:1].expand(20_000, -1).clone(), torch.zeros(20_000, len(COUNTS), dtype=torch.bool)
    known[0][:, 1], known[1][:, 1] = 1, True
    odds = {column: lambda codes, weight=weight: weight.double()[codes] for column, weight in weights.items()}
    drawn = network.sample(20_000, Rng(0), known, odds=odds)
    law = MODEL.log_likelihood(EVERY_ROW).exp() * (EVERY_ROW[:, 1] == 1)
    for column, weight in weights.items():
        law = law * weight[EVERY_ROW[:, column]]
    places = {tuple(row): i for i, row in enumerate(EVERY_ROW.tolist())}
    found = torch.bincount(torch.tensor([places[tuple(row)] for row in drawn.tolist()]), minlength=len(law))
    assert found[law == 0].sum() == 0
    wanted = (law / law.sum() * 20_000)[law > 0]
    assert chisquare(found[law > 0].double(), wanted, sum_check=False).pvalue > 1e-3


def test_new_network_is_uniform_over_valid_rows() -> None:
    network = MarginalTables(rows_of(2, 3, rules=(PairConstraint(1, 0, ("10", "11", "01")),))).build((2,), {}, Rng(0))
    codes = torch.tensor([[0, 0], [0, 1], [1, 1], [1, 2], [1, 0]])
    assert network.model().log_likelihood(codes).tolist() == pytest.approx([-math.log(4)] * 4 + [-math.inf])


def test_columns_of_one_value() -> None:
    rows = rows_of(1, 1)
    release = MarginalFitting(rows).release(torch.zeros(20, 2, dtype=torch.long), 0.1, Numbers(1))
    settings, network = network_from_model(rows, release.model)
    assert settings.build((2,), {}, Rng(0)).state_dict().keys() == network.state_dict().keys()
    assert torch.equal(network.sample(4, Rng(0)), torch.zeros(4, 2, dtype=torch.long))


@pytest.mark.parametrize("method", ONE_WAY_BUDGET)
def test_one_way_budget_of_each_method(method: str) -> None:
    counting = MarginalFitting(ROWS, method=method)
    release = counting.release(MODEL.sample(400, Rng(0)), 0.3, Numbers(1))
    spent = dict(release.charges)
    assert spent["counts of each column"] == pytest.approx(0.3 * ONE_WAY_BUDGET[method], rel=1e-9)
    assert math.fsum(spent.values()) == pytest.approx(0.3, rel=1e-9)
    pairs = sum(len(clique) == 2 for clique in release.model.cliques)
    assert {"aim": pairs > 0, "mst": pairs == 4, "independent": pairs == 0}[method]


def test_max_model_size_and_degree() -> None:
    codes = MODEL.sample(3000, Rng(0))
    narrow, wide = (
        MarginalFitting(ROWS, degree=degree, max_model_size=room).release(codes, 5.0, Numbers(1)).model.cliques
        for degree, room in ((2, 1e-4), (3, 1.0))
    )
    assert max(map(len, wide)) == 3
    assert len(narrow) < len(wide)


def test_invalid_arguments() -> None:
    with refuses(UsageError, argument="method", found="'mts'"):
        MarginalFitting(ROWS, method="mts")
    for wrong, found in (({"max_model_size": 0.0}, ["2", "0"]), ({"degree": 0, "max_model_size": 3.0}, ["0", "3"])):
        with refuses(UsageError) as caught:
            MarginalFitting(ROWS, **wrong)
        assert numbers(caught.value.found) == found
    with refuses(UsageError):
        MarginalTables(TableTokens((DigitTokenizer(0, 99),)))
    with refuses(UsageError, found="(4,)"):
        MarginalTables(ROWS).build((4,), {}, Rng(0))

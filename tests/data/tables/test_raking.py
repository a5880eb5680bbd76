"""Raking: choice of rows by marginals and weights, coarsening, and weights from noisy crosstabs."""

import itertools

import numpy as np
import pytest
import torch
from jaxtyping import Float64, Int64
from scipy.optimize import minimize
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.tables import raking
from feller.data.tables.column import Categorical
from feller.data.tables.constraints import Constraint
from feller.data.tables.modality import Table
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.raking import Crosstab, crosstab_weights, exchange_rows, rake_rows, systematic_sample
from feller.data.tables.schema import Schema
from tests.errors import refuses
from tests.oracle import F64

N = 20_000


def sample_pairs(probabilities: list[list[float]], n: int) -> torch.Tensor:
    joint = torch.tensor(probabilities, dtype=F64)
    drawn = torch.multinomial(joint.flatten(), n, replacement=True, generator=torch.Generator().manual_seed(0))
    return torch.stack([drawn // joint.shape[1], drawn % joint.shape[1]], 1)


def joint_shares(codes: torch.Tensor) -> torch.Tensor:
    return torch.bincount(codes[:, 0] * 3 + codes[:, 1], minlength=6).double().reshape(2, 3) / len(codes)


def test_marginals_are_met_and_odds_ratio_kept() -> None:
    codes = sample_pairs([[0.3, 0.1, 0.1], [0.1, 0.1, 0.3]], 3 * N)
    shares = joint_shares(codes[rake_rows(codes, ((0.7, 0.3), (0.2, 0.3, 0.5)), N, Rng(0))])
    assert (shares.sum(1) - torch.tensor([0.7, 0.3])).abs().max() < 1e-4
    assert (shares.sum(0) - torch.tensor([0.2, 0.3, 0.5])).abs().max() < 1e-4
    odds = shares[0, 0] * shares[1, 2] / (shares[0, 2] * shares[1, 0])
    assert abs(odds.item() - 9) < 0.7


def test_columns_without_marginals_are_unchanged() -> None:
    codes = sample_pairs([[0.2, 0.2, 0.1], [0.2, 0.2, 0.1]], 3 * N)
    shares = joint_shares(codes[rake_rows(codes, ((), (0.5, 0.25, 0.25)), N, Rng(0))])
    assert (shares.sum(0) - torch.tensor([0.5, 0.25, 0.25])).abs().max() < 1e-4
    assert abs(shares[0].sum().item() - 0.5) < 0.01


def test_absent_codes_stay_absent() -> None:
    codes = sample_pairs([[0.5, 0.0, 0.0], [0.5, 0.0, 0.0]], N)
    found = codes[rake_rows(codes, ((0.5, 0.5), (0.5, 0.5, 0.0)), N, Rng(0))]
    assert (found[:, 1] == 0).all()


ROWS = 2000


def rows(n: int) -> Int64[Tensor, "n 4"]:
    """Draw columns of 6, 5, 4 and 3 codes; the second depends on the first."""
    generator = torch.Generator().manual_seed(0)
    columns = [torch.randint(count, (n,), generator=generator) for count in (6, 5, 4, 3)]
    columns[1] = torch.where(torch.rand(n, generator=generator) < 0.5, columns[0].clamp(max=4), columns[1])
    return torch.stack(columns, 1)


def tilted_weights(codes: Int64[Tensor, "m 4"]) -> Float64[Tensor, " m"]:
    """Return weights that depend on the last two columns."""
    weights = 1 + 0.5 * (codes[:, 2] + codes[:, 3] > 2).double()
    return weights / weights.sum()


def distance(codes: Tensor, weights: Tensor, chosen: Tensor) -> float:
    """Return the mean total variation over pairs between the chosen rows and the weighted ones."""
    found = []
    for a, b in itertools.combinations(range(4), 2):
        cell = codes[:, a] * 6 + codes[:, b]
        expected = torch.bincount(cell, weights, minlength=36)
        found.append((torch.bincount(cell[chosen], minlength=36) / len(chosen) - expected).abs().sum() / 2)
    return torch.stack(found).mean().item()


def test_exchange_improves_pairs_over_systematic_sampling() -> None:
    codes = rows(3 * ROWS)
    weights = tilted_weights(codes)
    before = distance(codes, weights, systematic_sample(codes, weights, ROWS, Rng(0)))
    after = distance(codes, weights, exchange_rows(codes, weights, ROWS, Rng(0)))
    assert after < before / 3


def test_rows_are_chosen_by_seed_without_replacement() -> None:
    pairs, codes = sample_pairs([[0.2, 0.2, 0.1], [0.2, 0.2, 0.1]], 3 * N), rows(3 * ROWS)
    for n, choose in (
        (N, lambda seed: rake_rows(pairs, ((0.6, 0.4), ()), N, Rng(seed))),
        (ROWS, lambda seed: exchange_rows(codes, tilted_weights(codes), ROWS, Rng(seed))),
    ):
        chosen = choose(0)
        assert len(chosen) == len(chosen.unique()) == n
        assert torch.equal(chosen, choose(0))
        assert not torch.equal(chosen, choose(1))


def test_rows_without_weight_are_not_sampled() -> None:
    codes = rows(3 * ROWS)
    weights = torch.where(codes[:, 0] == 2, 0.0, 1.0).double()
    chosen = exchange_rows(codes, weights / weights.sum(), ROWS, Rng(0))
    assert (codes[chosen, 0] != 2).all()


def test_few_rows_repeat_in_proportion_to_weights() -> None:
    codes = rows(10)
    weights = torch.arange(1, 11, dtype=F64) / 55
    times = torch.bincount(exchange_rows(codes, weights, 550, Rng(0)), minlength=10)
    assert times.tolist() == list(range(10, 101, 10))


def test_single_column_uses_systematic_sampling() -> None:
    codes = rows(100)[:, :1]
    weights = torch.full((100,), 0.01, dtype=F64)
    assert torch.equal(exchange_rows(codes, weights, 20, Rng(3)), systematic_sample(codes, weights, 20, Rng(3)))


def test_columns_with_many_values() -> None:
    codes = torch.stack([torch.arange(900) * 71 % 60_000, torch.arange(900) * 53 % 60_000], 1)
    codes[0] = 59_999
    weights = torch.full((900,), 1 / 900, dtype=F64)
    assert len(exchange_rows(codes, weights, 300, Rng(0)).unique()) == 300


AGE = Numerical("age", 0.0, 99.0, edges=(20.0, 60.0), heavy=(42.0,), digits=True, missing="?")
FINE = Table(Schema((AGE, Categorical("sex", ("F", "M")))), marginals=((0.2, 0.3, 0.1, 0.3, 0.1), (0.5, 0.5)))
CODES = torch.tensor([[0, 1], [19, 0], [20, 0], [42, 1], [99, 0], [100, 1]])


def test_codes_convert_to_levels() -> None:
    coarse = FINE.by_levels()
    assert FINE.counts == (101, 2)
    assert coarse.counts == (5, 2)
    assert coarse.marginals == FINE.marginals
    converted = Dataset(CODES, {}, FINE).with_modality(coarse)
    assert converted.modality == coarse
    assert converted.values.tolist() == [[0, 1], [0, 0], [1, 0], [2, 1], [3, 0], [4, 1]]
    assert torch.equal(converted.with_modality(coarse).values, converted.values)
    assert torch.equal(coarse.values_from_raw(FINE.cells(CODES))[0], converted.values)


def test_levels_of_levels_are_unchanged() -> None:
    coarse = FINE.by_levels()
    assert coarse.by_levels() == coarse
    converted = Dataset(CODES[:, 1:].repeat(1, 2), {}, coarse).with_modality(Table(coarse.schema))
    assert torch.equal(converted.values, CODES[:, 1:].repeat(1, 2))
    assert converted.modality.marginals == ()


def test_levels_of_converted_rows() -> None:
    digits = Table(Schema((Numerical("pay", 0.0, 99.0, edges=(50.0,), digits=True),)))
    rows = Dataset(torch.tensor([[3], [77]]), {}, digits)
    by_levels = digits.by_levels().convert(rows)
    assert by_levels.values.tolist() == [[0], [1]]
    assert digits.levels(rows).tolist() == digits.levels(by_levels).tolist() == [[0], [1]]


def test_given_cells_are_kept() -> None:
    schema = Schema(
        (Numerical("age", 0.0, 99.0, edges=(50.0,)), Categorical("job", ("a", "b"), other="else")),
        rules=(Constraint("age", ("< 50",), "job", ("a",)),),
    )
    table = Table(schema)
    given = table.given_cells({"age": "17"})
    codes, observed = given.codes.expand(3, -1), given.observed.expand(3, -1)
    assert (codes[:, 0].tolist(), observed[:, 0].tolist()) == ([0, 0, 0], [True] * 3)
    drawn = torch.tensor([[0, 0], [0, 0]])
    written = table.with_given(drawn, table.given_cells({"age": "17", "job": "a"}))
    assert (written.column("age"), written.column("job")) == (["17", "17"], ["a", "a"])
    assert table.with_given(drawn, table.given_cells({"job": "a"})).column("job") == ["a", "a"]
    with refuses(UsageError, remedy="Remove one of them"):
        table.given_cells({"age": "17", "job": "b"})


TOTAL = 500.0


def crosstab_codes(n: int) -> Int64[Tensor, "n 3"]:
    generator = torch.Generator().manual_seed(1)
    return torch.stack([torch.randint(count, (n,), generator=generator) for count in (2, 3, 4)], 1)


def crosstabs() -> list[Crosstab]:
    first = Crosstab((0, 1), (2, 3), (100.0, 40.0, 130.0, 60.0, -5.0, 150.0), 4.0)
    return [first, Crosstab((2,), (4,), (200.0, 90.0, 120.0, 110.0), 9.0)]


def weighted_shares(codes: Tensor, weights: Float64[Tensor, " m"], table: Crosstab) -> Float64[Tensor, "..."]:
    return torch.zeros(len(table.counts), dtype=F64).index_add(0, table.cells(codes), weights).reshape(table.levels)


def cost(codes: Tensor, weights: Float64[Tensor, " m"], trust: float) -> Float64[Tensor, ""]:
    """Return the cost that the weights minimise."""
    penalties = [
        (TOTAL * weighted_shares(codes, weights, table).flatten() - torch.tensor(table.counts)).square().sum()
        / (2 * trust * table.sigma)
        for table in crosstabs()
    ]
    return torch.stack(penalties).sum() + TOTAL * (weights * (weights * len(codes)).log()).sum()


@pytest.mark.parametrize("trust", [0.5, 10.0])
def test_weights_minimise_the_cost(trust: float) -> None:
    codes = crosstab_codes(40)

    def by_logits(x: np.ndarray) -> tuple[float, np.ndarray]:
        logits = torch.tensor(x, requires_grad=True)
        value = cost(codes, logits.softmax(0), trust)
        value.backward()
        return value.item(), logits.grad.numpy()

    minimum = minimize(by_logits, np.zeros(40), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-14})
    weights = crosstab_weights(codes, crosstabs(), TOTAL, trust)
    assert abs(weights.sum().item() - 1) < 1e-12
    assert cost(codes, weights, trust).item() < minimum.fun + 1e-3
    assert (weights - torch.tensor(minimum.x).softmax(0)).abs().max() < 1e-2 / 40


def test_weights_of_many_rows_start_from_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = crosstab_codes(3000)
    exact = crosstab_weights(codes, crosstabs(), TOTAL)
    monkeypatch.setattr(raking, "PILOT_ROWS", 200)
    weights = crosstab_weights(codes, crosstabs(), TOTAL)
    assert (weights - exact).abs().max() < 1e-3 / 3000
    assert not torch.equal(weights, exact)


@pytest.mark.parametrize(("n", "asked", "used"), [(30_000, 3, 3), (30_001, 3, 2), (10**6, 1, 1)])
def test_many_rows_need_fewer_candidates_each(n: int, asked: int, used: int) -> None:
    assert raking.candidates_per_row(n, asked) == used


def test_exact_counts_are_met_with_equal_weights_per_cell() -> None:
    codes = crosstab_codes(600)
    expected = torch.tensor([[0.1, 0.3, 0.1], [0.2, 0.1, 0.2]], dtype=F64)
    table = Crosstab((0, 1), (2, 3), tuple((TOTAL * expected).flatten().tolist()), 1e-4)
    weights = crosstab_weights(codes, [table], TOTAL)
    assert (weighted_shares(codes, weights, table) - expected).abs().max() < 1e-4
    for cell in range(6):
        inside = weights[table.cells(codes) == cell]
        assert inside.max() - inside.min() < 1e-12


def test_noisy_counts_move_weights_little() -> None:
    codes = crosstab_codes(600)
    far = Crosstab((0,), (2,), (450.0, 50.0), 1e7)
    near = Crosstab((0,), (2,), (450.0, 50.0), 1e-3)
    assert (crosstab_weights(codes, [far], TOTAL) * 600 - 1).abs().max() < 1e-4
    assert abs(crosstab_weights(codes, [near], TOTAL)[codes[:, 0] == 0].sum().item() - 0.9) < 1e-3


def test_cells_without_rows() -> None:
    codes = crosstab_codes(600)
    codes = codes[codes[:, 1] != 2]
    table = Crosstab((1,), (3,), (100.0, 150.0, 250.0), 5.0)
    weights = crosstab_weights(codes, [table], TOTAL)
    found = weighted_shares(codes, weights, table)
    assert weights.isfinite().all()
    assert found[2] == 0
    assert found[1] > found[0]


def test_codes_out_of_range_are_refused() -> None:
    assert torch.equal(crosstab_weights(crosstab_codes(5), [], TOTAL), torch.full((5,), 0.2, dtype=F64))
    with refuses(InputError, found="0 to 3"):
        crosstab_weights(crosstab_codes(20), [Crosstab((2,), (2,), (1.0, 1.0), 1.0)], TOTAL)


@pytest.mark.parametrize(
    "damaged",
    [
        ((0,), (2,), (1.0,), 1.0),
        ((-1,), (2,), (1.0, 2.0), 1.0),
        ((0, 0), (1, 2), (1.0, 2.0), 1.0),
        ((), (), (), 1.0),
        ((0,), (2,), (1.0, float("nan")), 1.0),
        ((0,), (2,), (1.0, 2.0), 0.0),
    ],
)
def test_invalid_crosstabs_are_refused(damaged: tuple) -> None:
    with refuses(InputError):
        Crosstab(*damaged)

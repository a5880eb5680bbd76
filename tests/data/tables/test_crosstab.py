"""Weights from noisy crosstabs, checked against a general minimiser."""

import numpy as np
import pytest
import torch
from jaxtyping import Float64, Int64
from scipy.optimize import minimize
from torch import Tensor

from feller.core.errors import InputError
from feller.data.tables.raking import Crosstab, crosstab_weights
from tests.errors import refuses
from tests.oracle import F64

TOTAL = 500.0


def rows(n: int) -> Int64[Tensor, "n 3"]:
    generator = torch.Generator().manual_seed(1)
    return torch.stack([torch.randint(count, (n,), generator=generator) for count in (2, 3, 4)], 1)


def crosstabs() -> list[Crosstab]:
    first = Crosstab((0, 1), (2, 3), (100.0, 40.0, 130.0, 60.0, -5.0, 150.0), 4.0)
    return [first, Crosstab((2,), (4,), (200.0, 90.0, 120.0, 110.0), 9.0)]


def weighted_shares(codes: Tensor, weights: Float64[Tensor, " m"], table: Crosstab) -> Float64[Tensor, "..."]:
    cells = table.cells(codes)
    return torch.bincount(cells, weights, minlength=len(table.counts)).reshape(table.levels)


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
    codes = rows(40)

    def by_logits(x: np.ndarray) -> tuple[float, np.ndarray]:
        logits = torch.tensor(x, requires_grad=True)
        weights = logits.softmax(0)
        penalties = [
            (TOTAL * torch.zeros(len(table.counts), dtype=F64).index_add(0, table.cells(codes), weights)
             - torch.tensor(table.counts)).square().sum() / (2 * trust * table.sigma)
            for table in crosstabs()
        ]  # fmt: skip
        value = torch.stack(penalties).sum() + TOTAL * (weights * (weights * len(codes)).log()).sum()
        value.backward()
        assert logits.grad is not None
        return value.item(), logits.grad.numpy()

    minimum = minimize(by_logits, np.zeros(40), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-14})
    weights = crosstab_weights(codes, crosstabs(), TOTAL, trust)
    assert abs(weights.sum().item() - 1) < 1e-12
    assert cost(codes, weights, trust).item() < minimum.fun + 1e-3
    assert (weights - torch.tensor(minimum.x).softmax(0)).abs().max() < 1e-2 / 40


def test_exact_counts_are_met_with_equal_weights_per_cell() -> None:
    codes = rows(600)
    expected = torch.tensor([[0.1, 0.3, 0.1], [0.2, 0.1, 0.2]], dtype=F64)
    table = Crosstab((0, 1), (2, 3), tuple((TOTAL * expected).flatten().tolist()), 1e-4)
    weights = crosstab_weights(codes, [table], TOTAL)
    assert (weighted_shares(codes, weights, table) - expected).abs().max() < 1e-4
    for cell in range(6):
        inside = weights[table.cells(codes) == cell]
        assert inside.max() - inside.min() < 1e-12


def test_noisy_counts_move_weights_little() -> None:
    codes = rows(600)
    far = Crosstab((0,), (2,), (450.0, 50.0), 1e7)
    near = Crosstab((0,), (2,), (450.0, 50.0), 1e-3)
    assert (crosstab_weights(codes, [far], TOTAL) * 600 - 1).abs().max() < 1e-4
    assert abs(crosstab_weights(codes, [near], TOTAL)[codes[:, 0] == 0].sum().item() - 0.9) < 1e-3


def test_cells_without_rows() -> None:
    codes = rows(600)
    codes = codes[codes[:, 1] != 2]
    table = Crosstab((1,), (3,), (100.0, 150.0, 250.0), 5.0)
    weights = crosstab_weights(codes, [table], TOTAL)
    found = weighted_shares(codes, weights, table)
    assert weights.isfinite().all()
    assert found[2] == 0
    assert found[1] > found[0]


def test_codes_out_of_range_are_refused() -> None:
    assert torch.equal(crosstab_weights(rows(5), [], TOTAL), torch.full((5,), 0.2, dtype=F64))
    with refuses(InputError, found="0 to 3"):
        crosstab_weights(rows(20), [Crosstab((2,), (2,), (1.0, 1.0), 1.0)], TOTAL)


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

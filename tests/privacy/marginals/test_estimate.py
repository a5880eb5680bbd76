"""Models fitted to noisy marginals: optimality, by conditions and brute force."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.privacy.marginals import MarginalMeasurement, estimate
from feller.privacy.marginals.estimate import merge
from tests.errors import refuses
from tests.privacy.marginals.tables import COUNTS, LOOP, joint_of, model_of, sum_to

TRUTH = model_of(COUNTS, LOOP)


def noisy(columns: tuple[int, ...], sigma: float, seed: int = 0, total: float = 1000.0) -> MarginalMeasurement:
    exact = total * TRUTH.marginal(columns)
    noise = Rng(seed).stream("noise", hash(columns) % 999).normal(exact.shape, torch.float64)
    return MarginalMeasurement(columns, exact + sigma * noise, sigma)


def loss(joint: Tensor, tables: list[MarginalMeasurement], caution: float, total: float = 1000.0) -> float:
    misfit = sum(
        float((total * sum_to(joint, table.columns) - table.values).square().sum()) / (2 * caution * table.sigma)
        for table in tables
    )
    return misfit + total * float(torch.xlogy(joint, joint).sum())


def test_estimate_is_stationary() -> None:
    """Stationary: each potential is (y - m) / (caution sigma), where m is what the model expects, by brute force."""
    tables = [
        noisy(columns, sigma) for columns, sigma in (((0, 1, 2), 20.0), ((1, 3), 5.0), ((0, 3), 9.0), ((3,), 3.0))
    ]
    model = estimate(COUNTS, tables, 1000.0, caution=0.5, tolerance=1e-6)
    joint, _ = joint_of(model)
    for table, potential in zip(tables, model.potentials, strict=True):
        expected = 1000 * sum_to(joint, table.columns)
        assert (0.5 * table.sigma * potential - (table.values - expected)).abs().max() < 1e-3
    assert {len(clique) for clique in model.cliques} == {1, 2, 3}


def test_estimate_is_the_minimum() -> None:
    counts, tables = COUNTS[:3], [noisy((0, 1), 20.0), noisy((1, 2), 8.0), noisy((0,), 2.0)]
    model = estimate(counts, tables, 1000.0, caution=0.5, tolerance=1e-6)
    joint, _ = joint_of(model)

    def of(logits: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.from_numpy(logits).requires_grad_()
        p = x.softmax(0).view(counts)
        value = (
            sum((1000 * sum_to(p, table.columns) - table.values).square().sum() / table.sigma for table in tables)
            + 1000 * (p * p.log()).sum()
        )
        value.backward()
        return value.item(), x.grad.numpy()

    best = minimize(of, np.zeros(24), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-15})
    assert abs(loss(joint, tables, 0.5) - best.fun) < 1e-4 * abs(best.fun)
    assert loss(joint, tables, 0.5) < best.fun + 1e-3


def test_warm_start() -> None:
    tables = [noisy((0, 1, 2), 20.0), noisy((1, 3), 5.0)]
    cold = estimate(COUNTS, tables, 1000.0, tolerance=1e-6)
    warm = estimate(COUNTS, tables, 1000.0, estimate(COUNTS, [tables[0], noisy((4,), 1.0)], 1000.0), tolerance=1e-6)
    assert (cold.marginal(range(4)) - warm.marginal(range(4))).abs().max() < 1e-6


def test_exact_counts() -> None:
    tables = [noisy(clique, 1e-4) for clique in LOOP]
    model = estimate(COUNTS, tables, 1000.0, steps=2000)
    for columns in itertools.combinations(range(5), 3):
        assert (model.marginal(columns) - TRUTH.marginal(columns)).abs().max() < 1e-4


def test_negative_counts_and_unmeasured_columns() -> None:
    values = torch.tensor([[-50.0, 700.0, -3.0], [350.0, -80.0, -200.0]]).double()
    model = estimate((2, 3, 4), [MarginalMeasurement((0, 1), values, 60.0)], 1000.0)
    assert torch.allclose(model.marginal([2]), torch.full((4,), 0.25).double())
    assert model.marginal([0, 1]).min() > 0
    assert model.potentials[0].abs().max() < 1000 / (0.3 * 60)


@pytest.mark.parametrize("cliques", [((0,), (0,)), ((0, 1), (1, 0)), ((2, 0), (0, 1), (1, 2), (0, 1, 2), (1,))])
def test_overlapping_cliques(cliques: tuple[tuple[int, ...], ...]) -> None:
    counts = (2, 1, 3)
    tables = [MarginalMeasurement(c, torch.full([counts[j] for j in c], 10.0).double(), 1.0) for c in cliques]
    model = estimate(counts, tables, 60.0)
    assert abs(model.marginal([0, 1, 2]).sum().item() - 1) < 1e-12


def test_no_measurements() -> None:
    model = estimate((2, 3), [], 10.0)
    assert abs(model.log_z - math.log(6)) < 1e-12


def test_merge_is_inverse_variance_weighted() -> None:
    a, b = (
        MarginalMeasurement((0,), torch.tensor([0.0, 8.0]).double(), 1.0),
        MarginalMeasurement((0,), torch.tensor([5.0, 3.0]).double(), 2.0),
    )
    (one,) = merge([a, b])
    assert torch.allclose(one.values, torch.tensor([1.0, 7.0]).double())
    assert one.sigma == pytest.approx(math.sqrt(0.8))


def test_total_of_zero() -> None:
    with refuses(UsageError, argument="total", found="0"):
        estimate((2,), [], 0.0)


@pytest.mark.slow
def test_accuracy_against_mbi() -> None:
    """A tree of pairs, the same noise, six draws: total variation of all pairs within 3 % of mirror descent's (M4)."""
    mbi = pytest.importorskip("mbi")
    counts, n = (4, 5, 6, 3, 5), 3000.0
    truth = model_of(counts, [(0, 1), (1, 2), (2, 3), (3, 4)])
    names = tuple("abcde")
    domain = mbi.Domain(names, counts)
    distance = [0.0, 0.0]
    for seed in range(6):
        ours, theirs = [], []
        for i, columns in enumerate([(j,) for j in range(5)] + [(0, 1), (1, 2), (2, 3), (3, 4)]):
            exact = n * truth.marginal(columns)
            values = exact + 15.0 * Rng(seed).stream("noise", i).normal(exact.shape, torch.float64)
            ours.append(MarginalMeasurement(columns, values, 15.0))
            theirs.append(mbi.LinearMeasurement(values.flatten().numpy(), tuple(names[j] for j in columns), 15.0))
        model = estimate(counts, ours, n)
        other = mbi.estimation.MirrorDescent().estimate(domain, theirs, known_total=n, iters=1000)
        for pair in itertools.combinations(range(5), 2):
            p = truth.marginal(pair)
            q = torch.from_numpy(np.asarray(other.project(tuple(names[j] for j in pair)).datavector()).copy()) / n
            distance[0] += 0.5 * float((model.marginal(pair) - p).abs().sum())
            distance[1] += 0.5 * float((q.view(p.shape) - p).abs().sum())
    assert distance[0] < 1.03 * distance[1]

"""Logistic regression with output perturbation."""

import math

import pytest
import torch
from scipy.special import ndtr

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Target
from feller.networks.linear_classifier import PixelFeatures
from feller.privacy.accounting.dp_events import GaussianMechanism
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.noise.grid_noise import SeededNoise
from feller.spaces import Euclidean
from feller.training.objectives.output_perturbation import OutputPerturbation
from tests.errors import refuses

TWO = Target(("label",), classes=("0", "1"))
KIND = Images(2, 2, 1, levels=16)
N = 400


def rows(n: int = N, seed: int = 0) -> Dataset:
    """Return images of two classes, the second brighter at the top."""
    draws = Rng(seed)
    label = draws.stream("label").randint(2, (n,))
    values = draws.stream("values").randint(12, (n, 1, 2, 2))
    values[:, :, 0] += 4 * label[:, None, None]
    return Dataset(values.to(torch.uint8), {}, KIND, properties={"label": label.double()}, target=TWO)


def objective(decay: float | None = None) -> OutputPerturbation:
    return OutputPerturbation(TWO, Euclidean((1, 2, 2)), PixelFeatures((1, 2, 2), 1.2), decay)


def test_noise_is_the_analytic_gaussian_mechanism() -> None:
    """Balle and Wang 2018: delta(eps) = Phi(m/2 - eps/m) - e^eps Phi(-m/2 - eps/m), m = 1 / sigma; none is wasted."""
    delta = 1e-5
    for epsilon in (0.3, 1.0, 5.0):
        sigma = (0.5 / objective().budget_rho(epsilon, Ledger((), delta, N))) ** 0.5

        def at(sigma: float, epsilon: float = epsilon) -> float:
            m = 1 / sigma
            return ndtr(m / 2 - epsilon / m) - math.exp(epsilon) * ndtr(-m / 2 - epsilon / m)

        assert at(sigma) <= delta < at(0.99 * sigma)


def test_other_mechanisms_reduce_the_budget() -> None:
    other = GaussianMechanism("columns", 20.0)
    alone = objective().budget_rho(1.0, Ledger((), 1e-5, N))
    beside = objective().budget_rho(1.0, Ledger((other,), 1e-5, N))
    assert beside + other.zcdp_rho == pytest.approx(alone, rel=2e-3)


def test_sensitivity_bounds_the_change_of_weights() -> None:
    """Rows are removed while the decay keeps the number of rows."""
    data, one = rows(60), objective(0.05)
    whole = one.solution(data, 1.0)
    unit = one.noise_std(60, 0.5)  # of noise at sigma 1: what one row moves, at most
    assert unit == pytest.approx(math.hypot(1, 1.2) / (60 * 0.05), rel=1e-12)
    moved = []
    from feller.privacy.erm.regularized_erm import solve_erm

    for i in range(60):
        kept = torch.arange(60) != i
        less = solve_erm(whole.erm, whole.x[kept], whole.y[kept], n=60)
        moved.append((less.theta - whole.theta).norm().item())
    assert 0.02 * unit < max(moved) <= unit


def test_released_weights_are_the_minimum_plus_noise() -> None:
    data, one, rho = rows(), objective(), objective().budget_rho(1.0, Ledger((), 1e-5, N))
    minimum, scale = one.solution(data, rho), one.noise_std(N, rho)
    told = [one.fit(data, rho, SeededNoise(seed)) for seed in range(200)]
    away = torch.stack([each.network.theta.detach() - minimum.theta for each in told])
    assert away.std().item() == pytest.approx(scale, rel=0.1)
    assert away.mean().abs() < 4 * scale / away.numel() ** 0.5
    (expense,) = told[0].events
    assert expense.zcdp_rho == pytest.approx(rho, rel=1e-12)
    exact = one.fit(data, math.inf, SeededNoise(0))
    assert exact.events == ()
    slopes = minimum.x.mT @ minimum.residuals + N * minimum.erm.l2 * minimum.theta
    assert slopes.norm() < 1e-8
    best = one.solution(data, math.inf)
    assert torch.allclose(exact.network.theta, best.theta)


def test_l2_depends_on_public_values_only() -> None:
    one = objective()
    assert one.erm_problem(N, 0.1) == one.erm_problem(N, 0.1)
    assert one.erm_problem(N, 0.1).l2 > one.erm_problem(N, 1.0).l2 > one.erm_problem(10 * N, 1.0).l2
    assert one.erm_problem(N, 0.1).l2 == pytest.approx(one.erm_problem(N, 0.4).l2 * 4 ** (1 / 3), rel=1e-9)
    assert objective(0.5).erm_problem(N, 0.1).l2 == 0.5


def test_private_classifier_accuracy() -> None:
    data, one = rows(8000), objective()
    told = one.fit(data, one.budget_rho(3.0, Ledger((), 1e-5, 8000)), SeededNoise(1))
    other = rows(1000, seed=1)
    answer = told.network(KIND.encode(other.values), torch.zeros(1000), {}).argmax(1)
    right = (answer == other.properties["label"]).double().mean().item()
    assert right > 0.75


@pytest.mark.parametrize(
    "about", [Target(("label",), classes=("a", "b", "c")), Target(("age",), (1.0,), (2.0,))], ids=["classes", "number"]
)
def test_two_classes_are_needed(about: Target) -> None:
    with refuses(UsageError):
        OutputPerturbation(about, Euclidean((1, 2, 2)), PixelFeatures((1, 2, 2), 1.0))


def test_separable_data_converge_at_the_smallest_l2() -> None:
    label = torch.arange(400) % 2
    values = (15 * label[:, None, None, None]).expand(400, 1, 2, 2).to(torch.uint8)
    data = Dataset(values, {}, KIND, properties={"label": label.double()}, target=TWO)
    minimum = objective(1e-9).solution(data, 1.0)
    slopes = minimum.x.mT @ minimum.residuals + 400e-9 * minimum.theta
    assert slopes.norm() < 1e-10
    assert minimum.theta.norm() > 10


@pytest.mark.parametrize("decay", [0.0, -1.0, 1e-14, math.inf, math.nan])
def test_l2_out_of_range_is_refused(decay: float) -> None:
    with refuses(UsageError):
        objective(decay)

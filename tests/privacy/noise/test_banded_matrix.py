"""Banded matrices: inverse, noise of sums, sensitivity over all participations, and optimality."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import UsageError
from feller.privacy.accounting.accountant import compute_epsilon
from feller.privacy.accounting.calibration import calibrate, max_steps
from feller.privacy.accounting.dp_events import GaussianMechanism, PoissonSubsampledGaussian
from feller.privacy.dp_sgd.correlated_noise import CorrelatedNoise
from feller.privacy.dp_sgd.poisson_sampling import RowGroups, poisson_batches, random_groups
from feller.privacy.leakage.reconstruction_bounds import eps2_added
from feller.privacy.noise.banded_matrix import BandedToeplitz, optimal_bands, square_root_bands
from feller.privacy.noise.grid_noise import SeededNoise
from tests.errors import refuses

columns = st.lists(st.floats(0.05, 1.0), min_size=0, max_size=5).map(
    lambda ratios: BandedToeplitz(tuple(np.cumprod([1.0, *ratios]).tolist()))
)


@settings(deadline=None, max_examples=50)
@given(matrix=columns, n=st.integers(1, 12))
def test_inverse_and_noise_of_sums_match_dense_matrices(matrix: BandedToeplitz, n: int) -> None:
    c = matrix.matrix(n)
    inverse = np.linalg.inv(c)
    assert np.allclose(np.triu(c, 1), 0)
    assert np.allclose(np.tril(c, -matrix.bands), 0)
    assert np.allclose(matrix.inverse_column(n), inverse[:, 0])
    row_norms = np.linalg.norm(np.tril(np.ones((n, n))) @ inverse, axis=1)
    assert matrix.rms_sum_noise(n) == pytest.approx(math.sqrt((row_norms**2).mean()))
    assert matrix.max_sum_noise(n) == pytest.approx(row_norms.max())
    assert matrix.step_noise(n) == pytest.approx(np.linalg.norm(inverse, axis=1).max())


@settings(deadline=None, max_examples=20)
@given(matrix=columns, n=st.integers(2, 8), seed=st.integers(0, 99))
def test_sensitivity_is_that_of_the_accounting(matrix: BandedToeplitz, n: int, seed: int) -> None:
    """Over all participations that keep the distance: the norm of a row's contribution is at most sqrt(uses)."""
    c, b = matrix.matrix(n), matrix.bands
    worst = 0.0
    for first in range(min(b, n)):
        turns = range(first, n, b)
        for uses in itertools.product((0, 1), repeat=len(turns)):
            x = np.zeros((n, 3))
            for step, is_used in zip(turns, uses, strict=True):
                direction = np.random.default_rng((seed, step)).normal(size=3)
                x[step] = is_used * direction / np.linalg.norm(direction)
            contribution = float(np.linalg.norm(c @ x))
            assert contribution <= math.sqrt(sum(uses)) + 1e-9
            worst = max(worst, contribution)
    event = PoissonSubsampledGaussian("training", 1.0, 1 / b, n, b)
    assert worst <= math.sqrt(2 * event.zcdp_rho) + 1e-9
    if n >= b:
        assert np.linalg.norm(c[:, 0]) == pytest.approx(1.0)  # the bound is attained


def test_square_root_of_prefix_sums() -> None:
    full = square_root_bands(6).column
    root = np.tril(np.array(full)[np.subtract.outer(np.arange(6), np.arange(6))])
    assert np.allclose(root @ root, np.tril(np.ones((6, 6))))
    assert full[:3] == pytest.approx((1.0, 0.5, 0.375))


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize(("bands", "steps"), [(1, 1), (2, 2), (2, 50), (4, 30), (8, 8), (16, 400), (2, 5000)])
def test_optimal_bands_are_never_worse(bands: int, steps: int, final: bool) -> None:
    def noise(matrix: BandedToeplitz) -> float:
        return matrix.max_sum_noise(steps) if final else matrix.rms_sum_noise(steps)

    best = optimal_bands(bands, steps, final=final)
    assert noise(best) <= noise(square_root_bands(bands)) * (1 + 1e-9)
    assert noise(best) <= noise(BandedToeplitz()) * (1 + 1e-9)
    for k in range(1, bands):  # a local minimum
        for factor in (0.99, 1.01):
            column = np.array(best.column)
            column[k] = np.clip(column[k] * factor, column[k + 1] if k + 1 < bands else 0, column[k - 1])
            assert noise(BandedToeplitz(tuple(column.tolist()))) >= noise(best) * (1 - 1e-5)


def test_two_bands_and_two_steps_in_closed_form() -> None:
    """C = [[1, 0], [x, 1]]: prefix sums of C^-1 are 1 and 1 - x, the loss (1 + x^2) (1 + (1 + (1 - x)^2)) / 2."""
    x = np.linspace(0, 1, 100_001)
    loss = (1 + x**2) * (2 + (1 - x) ** 2) / 2
    best = optimal_bands(2, 2)
    assert best.column[1] / best.column[0] == pytest.approx(x[loss.argmin()], abs=1e-4)
    assert best.rms_sum_noise(2) == pytest.approx(math.sqrt(loss.min()))


def test_one_band_is_dp_sgd() -> None:
    assert optimal_bands(1, 100) == BandedToeplitz()
    values = torch.arange(6.0).view(2, 3)
    plain, correlated = SeededNoise(3, "noise"), CorrelatedNoise(BandedToeplitz())
    fresh = SeededNoise(3, "noise")
    for _ in range(3):
        assert torch.equal(correlated.add("weight", values, 0.7, fresh), plain.add_gaussian(values, 0.7))
    assert BandedToeplitz().rms_sum_noise(9) == pytest.approx(math.sqrt(5))
    one = PoissonSubsampledGaussian("training", 1.1, 0.02, 300)
    assert one.per_row is one


def test_noise_solves_the_recursion_exactly() -> None:
    """C y = z up to the grid, with z the fresh noise, whatever the values and the changing scale."""
    matrix, steps = BandedToeplitz((1.0, 0.6, 0.3)), 7
    correlated, noise, twin = CorrelatedNoise(matrix), SeededNoise(1, "noise"), SeededNoise(1, "noise")
    scales = [1.0, 2.0, 0.5, 1.0, 1.0, 3.0, 1.0]
    values = torch.randn(steps, 5, generator=torch.Generator().manual_seed(0))
    y = torch.stack([(correlated.add("w", v, s, noise) - v) / s for v, s in zip(values, scales, strict=True)])
    z = torch.stack([twin.normal((5,)) for _ in range(steps)])
    assert torch.allclose(torch.from_numpy(matrix.matrix(steps)) @ y, z, atol=1e-8)


def test_covariance_of_the_noise() -> None:
    """20,000 independent entries: standard errors of covariances below 0.02 times the largest variance."""
    matrix, steps = optimal_bands(4, 6), 6
    correlated, noise = CorrelatedNoise(matrix), SeededNoise(2, "noise")
    zero = torch.zeros(20_000)
    y = torch.stack([correlated.add("w", zero, 2.0, noise) for _ in range(steps)])
    inverse = np.linalg.inv(matrix.matrix(steps))
    expected = 4 * torch.from_numpy(inverse @ inverse.T)
    assert (y @ y.T / zero.numel() - expected).abs().max() < 0.06 * expected.max()
    sums = y.cumsum(0)
    assert (sums**2).mean().sqrt().item() == pytest.approx(2 * matrix.rms_sum_noise(steps), rel=0.02)


def test_weights_have_noise_of_their_own() -> None:
    correlated, noise = CorrelatedNoise(BandedToeplitz((1.0, 0.5))), SeededNoise(4, "noise")
    first = [correlated.add(name, torch.zeros(1000), 1.0, noise) for name in ("a", "b")]
    second = [correlated.add(name, torch.zeros(1000), 1.0, noise) for name in ("a", "b")]
    # neighbouring steps of one weight: correlation (c0 c1 of the inverse) about -0.4; of two weights: 0 +- 0.03
    assert torch.corrcoef(torch.stack([first[0], second[0]]))[0, 1] < -0.25
    assert abs(torch.corrcoef(torch.stack([first[0], second[1]]))[0, 1]) < 0.15


def test_accounting_of_single_participation_is_one_gaussian_mechanism() -> None:
    """As many bands as steps at rate 1 / steps: each row takes part once, without amplification."""
    for n in (4, 16):
        event = PoissonSubsampledGaussian("training", 1.3, 1 / n, n, n)
        assert event.zcdp_rho == 1 / (2 * 1.3**2)
        assert compute_epsilon((event,), 1e-5) == compute_epsilon((GaussianMechanism("one", 1.3),), 1e-5)


def test_accounting_of_bands_is_that_of_the_steps_of_a_row() -> None:
    event = PoissonSubsampledGaussian("training", 1.2, 0.02, 103, 4)
    alone = PoissonSubsampledGaussian("training", 1.2, 0.08, 26)
    assert event.per_row == alone
    assert compute_epsilon((event,), 1e-5) == compute_epsilon((alone,), 1e-5)
    assert eps2_added((event,)) == eps2_added((alone,))
    sigma = calibrate(2.0, 1e-5, 0.02, 100, bands=4)
    assert sigma == calibrate(2.0, 1e-5, 0.08, 25)
    steps = max_steps(2.0, 1e-5, sigma, 0.02, bands=4)
    assert steps >= 100
    assert compute_epsilon((PoissonSubsampledGaussian("", sigma, 0.02, steps, 4),), 1e-5) <= 2.0
    assert compute_epsilon((PoissonSubsampledGaussian("", sigma, 0.02, steps + 1, 4),), 1e-5) > 2.0


@pytest.mark.parametrize("column", [(), (0.0,), (1.0, 1.1), (1.0, -0.1), (math.inf,), (math.nan,), (1.0, 0.0)])
def test_bad_columns_are_refused(column: tuple[float, ...]) -> None:
    with pytest.raises(UsageError):
        BandedToeplitz(column)


def test_more_bands_than_batches_of_all_rows_are_refused() -> None:
    with refuses(UsageError, argument="bands"):
        PoissonSubsampledGaussian("training", 1.0, 0.3, 10, 4)
    with refuses(UsageError, argument="bands"):
        optimal_bands(5, 4)
    data = {"x_1": torch.zeros(10)}
    with pytest.raises(UsageError):
        poisson_batches(data, 4, SeededNoise(0, "b"), groups=RowGroups(torch.zeros(10, dtype=torch.long), 3))
    with pytest.raises(UsageError):
        RowGroups(torch.tensor([0, 3]), 3)


def test_rows_take_part_only_in_the_turns_of_their_group() -> None:
    n, bands, size, steps = 4000, 4, 400, 40
    groups = random_groups(n, bands, SeededNoise(5, "groups"))
    sizes = groups.assignment.bincount(minlength=bands)
    assert (sizes - n / bands).abs().max() < 5 * math.sqrt(n / bands)
    load = poisson_batches({"x_1": torch.arange(n)}, size, SeededNoise(5, "batches"), groups=groups)
    uses = torch.zeros(n, steps)
    for step in range(steps):
        rows = load(step, slice(0, size))["x_1"]
        assert (groups.assignment[rows] == step % bands).all()
        uses[rows, step] = 1
    rate = uses.sum(1) / (steps // bands)  # mean of 10 coins of probability bands * size / n = 0.4
    assert rate.mean().item() == pytest.approx(0.4, abs=0.012)  # 5 standard errors
    assert rate.var().item() == pytest.approx(0.4 * 0.6 / 10, rel=0.12)


def test_turns_continue_after_earlier_sessions() -> None:
    assignment = torch.arange(30) % 3
    for before in (0, 1, 5):
        groups = RowGroups(assignment, 3, before)
        load = poisson_batches({"x_1": torch.arange(30)}, 10, SeededNoise(1, "batches"), groups=groups)
        for call in range(4):  # whatever the number of the step: a repeated step is charged, and is a new turn
            assert (load(0, slice(0, 10))["x_1"] % 3 == (before + call) % 3).all()

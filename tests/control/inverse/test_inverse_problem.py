"""Inverse problems on Gaussian data, where the posterior is known."""

import pytest
import torch
from torch import Tensor

from feller.control.inverse.guided_solver import DPS, GuidedState, MeasurementGuidance, PiGDM, guide_process
from feller.control.inverse.inverse_problem import Measurement, PriorModel, wiener_estimate
from feller.control.inverse.operators import (
    CompressedSensing,
    CustomLinearOperator,
    CustomOperator,
    Inpaint,
    PhaseRetrieval,
)
from feller.control.inverse.red_diff import REDDiff
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import Affine
from feller.paths.processes import Characteristics
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from feller.spaces import Euclidean
from tests.errors import refuses
from tests.oracle import F64, close

M = torch.tensor([1.0, -1.0, 0.5, 0.0], dtype=F64)
ROOT = Rng(5).stream("root").normal((4, 4), F64) / 2
SIGMA = ROOT @ ROOT.T + 0.2 * torch.eye(4, dtype=F64)


def flow(x: Tensor, t: Tensor) -> Characteristics:
    """Return the flow to N(M, SIGMA) on straight paths."""
    time = float(t[0])
    spread = time**2 * SIGMA + (1 - time) ** 2 * torch.eye(4, dtype=F64)
    slope = torch.linalg.solve(spread, time * SIGMA - (1 - time) * torch.eye(4, dtype=F64))
    return Characteristics(M + (x - time * M) @ slope)


LEARNED = PriorModel(lambda rows: flow, Affine(), Euclidean((4,)))


def observed(noise: float, n: int = 6) -> tuple[Measurement, Tensor, Tensor]:
    """Return an observation, and the posterior's mean and covariance."""
    operator = CompressedSensing(2, seed=1)
    truth = M + Rng(0).stream("truth").normal((n, 4), F64) @ ROOT.T
    y = operator(truth) + noise * Rng(0).stream("noise").normal((n, 2), F64)
    matrix = operator(torch.eye(4, dtype=F64)).T
    gain = SIGMA @ matrix.T @ torch.linalg.inv(matrix @ SIGMA @ matrix.T + noise**2 * torch.eye(2, dtype=F64))
    return Measurement(operator, y, noise), M + (y - M @ matrix.T) @ gain.T, SIGMA - gain @ matrix @ SIGMA


class Exact(MeasurementGuidance):
    """The score of the measurements under the true normal law of the end: what PiGDM has with the true variance."""

    def velocity_correction(self, state: GuidedState) -> Tensor:
        time = state.alpha
        spread = time**2 * SIGMA + (1 - time) ** 2 * torch.eye(4, dtype=F64)
        left = SIGMA - time**2 * SIGMA @ torch.linalg.solve(spread, SIGMA)
        about = state.measurement
        matrix = about.operator(torch.eye(4, dtype=F64)).T
        inner = matrix @ left @ matrix.T + about.noise**2 * torch.eye(2, dtype=F64)
        predicted = about.predict(state.x_1)
        weights = torch.linalg.solve(inner, (about.y[state.rows] - predicted).detach().T).T
        return state.eta * state.vjp(predicted, weights)


def test_exact_guidance_samples_the_posterior() -> None:
    """Factor, sign and gradient of all guidance: with the true variance, the flow leads to N(mean, covariance)."""
    n = 2000
    observation, mean, covariance = observed(0.3, 1)
    many = Measurement(observation.operator, observation.y.expand(n, 2), 0.3)
    x_0 = Rng(0).stream("source").normal((n, 4), F64)
    process = guide_process(flow, Affine(), many, Exact(), torch.arange(n))
    end = simulate(process, x_0, linear_grid(400, 1e-3, 1.0), Euler(), Rng(0))
    error = (covariance.diagonal() / n).sqrt()
    assert ((end.mean(0) - mean[0]).abs() < 4 * error + 0.01).all()
    around = end - end.mean(0)
    ours = around.T @ around / n
    assert (ours - covariance).abs().max() < 0.1 * covariance.abs().max() + 0.02


def test_pigdm_correction() -> None:
    """At one state: eta J^T A^T (r^2 A A^T + noise^2)^-1 (y - A expected), by matrices."""
    observation, _, _ = observed(0.3)
    x, t = Rng(2).stream("x").normal((6, 4), F64), torch.full((6,), 0.4, dtype=F64)
    steered = (
        guide_process(flow, Affine(), observation, PiGDM(2.0), torch.arange(6))(x, t).velocity - flow(x, t).velocity
    )
    matrix = observation.operator(torch.eye(4, dtype=F64)).T
    spread = 0.16 * SIGMA + 0.36 * torch.eye(4, dtype=F64)
    jacobian = 0.4 * SIGMA @ torch.linalg.inv(spread)
    expected = M + (x - 0.4 * M) @ jacobian.T
    r = 0.36 / (0.36 + 0.16)
    inner = r * matrix @ matrix.T + 0.09 * torch.eye(2, dtype=F64)
    rest = observation.y - expected @ matrix.T
    wanted = 2.0 * 0.6 / 0.4 * torch.linalg.solve(inner, rest.T).T @ matrix @ jacobian
    close(steered, wanted.tolist(), 1e-6)


def test_dps_reduces_the_loss() -> None:
    observation, _, _ = observed(0.0)
    x_0 = Rng(3).stream("source").normal((6, 4), F64)
    plain = simulate(flow, x_0, linear_grid(40, 0.01, 1.0), Euler(), Rng(0))
    process = guide_process(flow, Affine(), observation, DPS(3.0), torch.arange(6))
    end = simulate(process, x_0, linear_grid(40, 0.01, 1.0), Euler(), Rng(0))
    rows = torch.arange(6)
    assert observation.loss(end, rows).sum() < 0.01 * observation.loss(plain, rows).sum()


def test_wiener_is_the_posterior_mean() -> None:
    observation, mean, _ = observed(0.3)
    close(wiener_estimate(observation, M, SIGMA, (4,)), mean.tolist(), 1e-6)
    small = Measurement(observation.operator, 1e-6 * observation.y, 3e-7, lambda x: 1e-6 * x, 1e-6)
    close(wiener_estimate(small, M, SIGMA, (4,)), mean.tolist(), 1e-6)
    exact, mean, _ = observed(0.0)
    twice = CustomLinearOperator(
        lambda x: exact.operator(x).repeat(1, 2), lambda y: exact.operator.adjoint(y[:, :2] + y[:, 2:], y)
    )
    close(wiener_estimate(Measurement(twice, exact.y.repeat(1, 2)), M, SIGMA, (4,)), mean.tolist(), 1e-6)


def test_unmeasured_values_are_ignored() -> None:
    hole = torch.tensor([True, False, False, True])
    x, t, rows = Rng(2).stream("x").normal((6, 4), F64), torch.full((6,), 0.4, dtype=F64), torch.arange(6)
    empty = Measurement(Inpaint(hole), torch.where(hole, 0.0, x + 1), 0.3)
    for inside in (7.0, torch.nan):
        full = Measurement(Inpaint(hole), torch.where(hole, inside, x + 1), 0.3)
        assert torch.equal(full.loss(x, rows), empty.loss(x, rows))
        assert torch.equal(full.residual_mse(x), empty.residual_mse(x))
        assert torch.equal(wiener_estimate(full, M, SIGMA, (4,)), wiener_estimate(empty, M, SIGMA, (4,)))
        pulled = [guide_process(flow, Affine(), about, PiGDM(), rows)(x, t).velocity for about in (full, empty)]
        assert torch.equal(*pulled)


def test_units_do_not_matter() -> None:
    plain, _, _ = observed(0.3)
    large = Measurement(
        plain.operator,
        plain.operator(torch.full((1, 4), 3.0, dtype=F64)) + 10 * plain.y,
        3.0,
        lambda x: 10 * x + 3,
        10.0,
    )
    x, t = Rng(2).stream("x").normal((6, 4), F64), torch.full((6,), 0.4, dtype=F64)
    for guidance in (PiGDM(), DPS()):
        both = [
            guide_process(flow, Affine(), about, guidance, torch.arange(6))(x, t).velocity for about in (plain, large)
        ]
        close(both[1], both[0].tolist(), 1e-8)
    close(wiener_estimate(large, M, SIGMA, (4,)), wiener_estimate(plain, M, SIGMA, (4,)).tolist(), 1e-6)
    close(large.loss(x, torch.arange(6)), plain.loss(x, torch.arange(6)).tolist(), 1e-9)
    assert large.noise_floor == pytest.approx(plain.noise_floor)


def test_red_diff() -> None:
    observation, mean, _ = observed(0.1)
    start = observation.pinv(torch.zeros(6, 4, dtype=F64))
    found = REDDiff().restore(LEARNED, observation, torch.zeros(6, 4, dtype=F64), Rng(0))
    assert (found.residual < 0.02).all()
    assert (found.state - mean).norm() < 0.7 * (start - mean).norm()
    assert found.nfe.tolist() == [100] * 6
    # One step from there: what is left of the measurements, and what the model finds unlikely.
    noise, t = Rng(7).stream("noise", 0).normal((6, 4), F64), 0.5
    x_t = t * start + (1 - t) * noise
    expected = x_t + (1 - t) * flow(x_t, torch.full((6,), t, dtype=F64)).velocity
    fit = observation.operator.adjoint(observation.predict(start) - observation.y, start)
    slope = fit + 2.0 * ((x_t - t * expected) / (1 - t) - noise)
    one = REDDiff(weight=2.0, lr=0.3, steps=1).restore(LEARNED, observation, torch.zeros(6, 4, dtype=F64), Rng(7))
    close(one.state, (start - 0.3 * slope.sign()).tolist(), 1e-6)


def test_noise_floor() -> None:
    observation, _, _ = observed(0.3)
    assert observation.noise_floor == pytest.approx(1.0)  # two measurements, half each
    assert observed(0.0)[0].noise_floor == 0.0
    hole = torch.tensor([True, False, False, True])
    inside = Measurement(Inpaint(hole), torch.tensor([[0.0, 2.0, 3.0, 0.0]]), 0.3)
    assert inside.num_measurements == 2
    assert inside.noise_floor == pytest.approx(1.0)
    close(inside.residual_mse(torch.tensor([[9.0, 1.0, 5.0, 9.0]])), (2.5,), 1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_pinv(noise: float) -> None:
    """A^T (A A^T + noise^2)^-1 y in units of the states, which values ten times as large and shifted do not change."""
    plain, _, _ = observed(noise)
    matrix = plain.operator(torch.eye(4, dtype=F64)).T
    inner = matrix @ matrix.T + noise**2 * torch.eye(2, dtype=F64)
    wanted = torch.linalg.solve(inner, plain.y.T).T @ matrix
    zero = torch.zeros(6, 4, dtype=F64)
    close(plain.pinv(zero), wanted.tolist(), 1e-8)
    shifted = plain.operator(torch.full((1, 4), 3.0, dtype=F64)) + 10 * plain.y
    large = Measurement(plain.operator, shifted, 10 * noise, lambda x: 10 * x + 3, 10.0)
    close(large.pinv(zero), wanted.tolist(), 1e-8)
    with refuses(UsageError):
        Measurement(CustomOperator(lambda x: x), plain.y).pinv(zero)


def test_pigdm_needs_a_linear_operator() -> None:
    pictures = Measurement(PhaseRetrieval(), torch.zeros(2, 1, 4, 4, dtype=F64))
    own = Measurement(CustomOperator(lambda x: x.square()), torch.zeros(2, 4, dtype=F64))
    for about, shape in ((pictures, (2, 1, 4, 4)), (own, (2, 4))):
        process = guide_process(lambda x, t: Characteristics(-x), Affine(), about, PiGDM(), torch.arange(2))
        with refuses(UsageError):
            process(torch.ones(shape, dtype=F64), torch.full((2,), 0.5, dtype=F64))

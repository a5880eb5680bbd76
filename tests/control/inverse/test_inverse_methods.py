"""Ways to what explains measurements, by exact flows to Gaussian data, where the answers are known."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from feller.control.inverse.d_flow import ChiPrior, GaussianPrior, NoPrior
from feller.control.inverse.guided_solver import DPS, GuidedSolver, PiGDM, initial_states
from feller.control.inverse.inverse_methods import METHODS, DFlow
from feller.control.inverse.inverse_problem import InverseSolver, Measurement, PriorModel
from feller.control.inverse.operators import (
    Blur,
    CompressedSensing,
    Downsample,
    Inpaint,
    PhaseRetrieval,
    UnknownBlur,
    gaussian_blur,
)
from feller.control.inverse.red_diff import REDDiff
from feller.control.optimize.lbfgs import LBFGS
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import Affine
from feller.paths.processes import Characteristics
from feller.paths.schedules import Cosine, Linear, Schedule
from feller.spaces import Euclidean
from tests.errors import refuses
from tests.oracle import F64, Normal, close

ONE_BY_ONE = [name for name in METHODS if name != "smc"]
"""Methods without groups of particles, which test_twisted_smc.py is about."""


def normal(n: int, *shape: int, seed: int = 0) -> Tensor:
    return Rng(seed).stream("normal").normal((n, *shape), F64)


def gaussian(covariance: Tensor, shape: tuple[int, ...], mean: float = 0.0) -> PriorModel:
    """Return the flow to N(mean, covariance) on straight paths, exact in each direction of its own."""
    variances, directions = torch.linalg.eigh(covariance)
    variances = variances.clamp(min=0)

    def process(x: Tensor, t: Tensor) -> Characteristics:
        time = t[:, None]
        slope = (time * variances - (1 - time)) / (time.square() * variances + (1 - time).square() + 1e-300)
        away = ((x - time.view(-1, *(1,) * len(shape)) * mean).flatten(1) @ directions) * slope
        return Characteristics(mean + (away @ directions.T).view(x.shape))

    return PriorModel(lambda rows: process, Affine(), Euclidean(shape))


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=repr)
@pytest.mark.parametrize(("noise", "start"), [(0.0, 0.2), (0.5, 0.2), (0.5, 0.0)])
def test_pigdm_closed_form(schedule: Schedule, noise: float, start: float) -> None:
    """Data N(1, 1), for which its variance is right: seen numbers follow the flow to their posterior, from where they
    begin, alpha y / (1 + noise^2) + sigma x_0; those in the hole follow the plain flow from sigma x_0.
    """
    law = Normal(schedule, m=1.0, s=1.0)
    learned = PriorModel(lambda rows: law.flow, Affine(schedule), Euclidean((2,)))
    hole = torch.tensor([False, True])
    y = torch.cat([2 + normal(5, 1), torch.zeros(5, 1, dtype=F64)], 1)
    x_0 = normal(5, 2, seed=1)
    way, observation = GuidedSolver(PiGDM(), steps=300, start=start), Measurement(Inpaint(hole), y, noise)
    found = way.restore(learned, observation, x_0, Rng(0))
    alpha, sigma = (float(number) for number in schedule(torch.tensor(start, dtype=F64))[:2])
    mean = torch.stack([1 + (y[:, 0] - 1) / (1 + noise**2), torch.ones(5, dtype=F64)], 1)
    variance = torch.tensor([noise**2 / (1 + noise**2), 1.0], dtype=F64)
    gain = (variance / (alpha**2 * variance + sigma**2)).sqrt()
    close(found.state, (mean + gain * (alpha * y / (1 + noise**2) + sigma * x_0 - alpha * mean)).tolist(), 0.03)
    assert found.nfe.tolist() == [300] * 5


def sums(noise: float, n: int = 4) -> tuple[PriorModel, Measurement, Tensor, Tensor]:
    """Return a flow to correlated numbers, two sums of them, and their mean and covariance given these."""
    root = normal(6, 6, seed=5) / 2
    covariance = root @ root.T + 0.2 * torch.eye(6, dtype=F64)
    operator = CompressedSensing(2, seed=1)
    matrix = operator(torch.eye(6, dtype=F64)).T
    y = operator(normal(n, 6, seed=2) @ root.T) + noise * normal(n, 2, seed=3)
    gain = covariance @ matrix.T @ torch.linalg.inv(matrix @ covariance @ matrix.T + noise**2 * torch.eye(2, dtype=F64))
    return (
        gaussian(covariance, (6,)),
        Measurement(operator, y, noise),
        y @ gain.T,
        covariance - gain @ matrix @ covariance,
    )


def test_d_flow_with_gaussian_prior_gives_the_posterior_mean() -> None:
    learned, observation, mean, _ = sums(0.3)
    way = DFlow(steps=12, minimizer=LBFGS(steps=40), prior=GaussianPrior())
    patient = NoFloor(observation.operator, observation.y, 0.3)
    close(way.restore(learned, patient, normal(4, 6), Rng(0)).state, mean.tolist(), 0.03)


class NoFloor(Measurement):
    """Goes on where the noise explains what is left, so that the minimum itself is found."""

    noise_floor = -math.inf  # pyrefly: ignore[bad-override]


def test_d_flow_without_noise_samples_the_posterior() -> None:
    """400 searches: mean and covariance of the ends within 4 standard errors, a false alarm in 1 of 1,000."""
    n = 400
    learned, observation, mean, covariance = sums(0.0, 1)
    many = Measurement(observation.operator, observation.y.expand(n, 2))
    found = DFlow(blend=0.0, steps=30, prior=NoPrior()).restore(learned, many, normal(n, 6, seed=8), Rng(0))
    assert found.residual.max() < 1e-8
    error = (covariance.diagonal() / n).sqrt()
    assert ((found.state.mean(0) - mean[0]).abs() < 4 * error + 2e-3).all()
    around = found.state - found.state.mean(0)
    spread = covariance.diagonal()
    error = ((spread[:, None] * spread + covariance**2) / n).sqrt()
    assert ((around.T @ around / (n - 1) - covariance).abs() < 4 * error + 2e-3).all()


@pytest.mark.slow
def test_d_flow_stops_at_the_noise_floor() -> None:
    """A search that went on would fit the noise: its residual would be far below."""
    scales = torch.linspace(0.2, 2, 64, dtype=F64)
    learned = gaussian(scales.square().diag(), (64,))
    truth, noise = scales * normal(8, 64, seed=2), 0.3
    hole = torch.arange(64) % 4 == 0
    y = torch.where(hole, 0.0, truth + noise * normal(8, 64, seed=3))
    observation = Measurement(Inpaint(hole), y, noise)
    found = DFlow().restore(learned, observation, normal(8, 64), Rng(0))
    assert (found.residual <= noise**2).all()
    assert found.residual.mean() > 0.5 * noise**2
    on = DFlow().restore(learned, NoFloor(Inpaint(hole), y, noise), normal(8, 64), Rng(0))
    assert on.residual.mean() < 0.2 * noise**2
    assert (found.nfe < on.nfe).all()


def test_d_flow_initial_source() -> None:
    """With no step to take: sqrt(a) y_0 + sqrt(1 - a) x_0, y_0 the reverse flow of (A^T A + noise^2)^-1 A^T y."""
    law = Normal(m=1.0, s=0.5)
    learned = PriorModel(lambda rows: law.flow, Affine(), Euclidean((2,)))
    y, x_0 = normal(3, 2), normal(3, 2, seed=1)
    observation = AnyEnd(Inpaint(torch.tensor([False, False])), y, 0.5)
    back = (y / 1.25 - 1) / 0.5  # its flow is 1 + x_0 / 2
    found = DFlow(blend=0.3, steps=200).restore(learned, observation, x_0, Rng(0))
    close(found.source, (math.sqrt(0.3) * back + math.sqrt(0.7) * x_0).tolist(), 1e-3)
    assert found.nfe.tolist() == [800] * 3
    assert torch.equal(DFlow(blend=0.0).restore(learned, observation, x_0, Rng(0)).source, x_0)


class AnyEnd(Measurement):
    """Any end is enough."""

    noise_floor = math.inf  # pyrefly: ignore[bad-override]


def smooth(n: int, size: int, length: float) -> tuple[PriorModel, Tensor]:
    """Return the flow to smooth pictures of variance 1, and n of them."""
    places = torch.cartesian_prod(*[torch.arange(size, dtype=F64)] * 2)
    covariance = (-torch.cdist(places, places).square() / (2 * length**2)).exp()
    variances, directions = torch.linalg.eigh(covariance)
    root = directions * variances.clamp(min=0).sqrt()
    return gaussian(covariance, (1, size, size)), (normal(n, size**2, seed=4) @ root.T).view(n, 1, size, size)


def test_deblurring() -> None:
    """A start in the units of the pictures: the reference has 0.8, and an error of 0.026, for this start and PiGDM."""
    n, size, noise = 8, 16, 0.05
    learned, truth = smooth(n, size, 3.0)
    operator, x_0 = Blur(2.0), normal(n, 1, size, size, seed=6)
    observation = Measurement(operator, operator(truth) + noise * normal(n, 1, size, size, seed=9), noise)
    assert (observation.y - truth).square().mean() > 0.1
    x, _ = initial_states(observation, learned.path, x_0, 0.2, 40)
    assert x.std().item() == pytest.approx(0.8, abs=0.05)
    begun = DFlow().restore(learned, AnyEnd(operator, observation.y, noise), x_0, Rng(0)).source
    assert begun.square().mean().sqrt().item() == pytest.approx(1.0, abs=0.1)
    for way in (METHODS["ot-ode"](), REDDiff(), DFlow(minimizer=LBFGS(steps=20))):
        found = way.restore(learned, observation, x_0, Rng(0))
        assert (found.state - truth).square().mean() < 0.04
    single = replace(observation, y=observation.y.float())
    assert (single.pinv(x_0.float()).double() - observation.pinv(x_0)).abs().max() < 0.01


def sound(n: int) -> Tensor:
    """Return the covariance of a sum of five sinusoids of random phase and size, with a little hiss."""
    time = torch.arange(n, dtype=F64)
    tones = sum((2 * math.pi * f * (time[:, None] - time)).cos() / (k + 1) for k, f in enumerate(TONES))
    return tones + 1e-3 * torch.eye(n, dtype=F64)


TONES = (0.031, 0.047, 0.083, 0.12, 0.19)


def test_inpainting_of_a_waveform() -> None:
    """64 samples with a gap of 16: from no noise the search ends at the conditional mean, which the tones tell."""
    n, covariance = 64, sound(64)
    gap = torch.zeros(n, dtype=torch.bool)
    gap[24:40] = True
    time = torch.arange(n, dtype=F64)
    phases = 2 * math.pi * torch.rand(3, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
    clean = sum(
        math.sqrt(2 / (k + 1)) * (2 * math.pi * f * time + phases[:, k, None]).cos() for k, f in enumerate(TONES)
    )
    observation = Measurement(Inpaint(gap), torch.where(gap, 0.0, clean))
    known = ~gap
    mean = torch.linalg.solve(covariance[known][:, known], clean[:, known].T).T @ covariance[known][:, gap]
    way = DFlow(blend=0.0, steps=60, minimizer=LBFGS(steps=100), prior=NoPrior())
    found = way.restore(gaussian(covariance, (n,)), observation, torch.zeros(3, n, dtype=F64), Rng(0))
    assert found.residual.max() < 1e-5
    assert (found.state[:, gap] - mean).abs().max() < 0.05
    assert (found.state[:, gap] - clean[:, gap]).square().mean() < 0.01 * clean.square().mean()


@pytest.mark.slow
def test_unknown_blur() -> None:
    """Smooth pictures: without noise every width explains them, and only the right one by a source of usual length."""
    size, n, noise = 8, 3, 0.02
    places = torch.cartesian_prod(*[torch.arange(size, dtype=F64)] * 2)
    covariance = (-torch.cdist(places, places).square() / 2).exp() + 0.01 * torch.eye(size**2, dtype=F64)
    root = torch.linalg.cholesky(covariance)
    truth = (normal(n, size**2, seed=4) @ root.T).view(n, 1, size, size)
    widths = torch.tensor([0.6, 1.0, 1.6], dtype=F64)
    y = gaussian_blur(truth, widths) + noise * normal(n, 1, size, size, seed=9)
    way = DFlow(steps=6, prior=ChiPrior(), minimizer=LBFGS(steps=120))
    learned, x_0 = gaussian(covariance, (1, size, size)), normal(n, 1, size, size, seed=6)
    found = way.restore(learned, Measurement(UnknownBlur(1.0), y, noise), x_0, Rng(0))
    assert (found.residual <= 5 * noise**2).all()  # a stiff search, which is not over in as many steps
    assert (found.unknown[:, 0].exp() / widths).log().abs().max() < 0.3  # it starts off by 0.5


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_rows_do_not_depend_on_the_batch(name: str) -> None:
    learned, observation, _, _ = sums(0.3)
    x_0, way = normal(4, 6), METHODS[name]()
    whole = way.restore(learned, observation, x_0, Rng(3))
    alone = way.restore(learned, replace(observation, y=observation.y[2:3]), x_0[2:3], Rng(3, first_example=2))
    torch.testing.assert_close(alone.state, whole.state[2:3], rtol=1e-6, atol=1e-8)
    close(alone.residual, whole.residual[2:3].tolist(), 1e-7)
    assert alone.nfe.tolist() == whole.nfe[2:3].tolist()
    assert (whole.residual < 4).all()


@pytest.mark.parametrize("way", [GuidedSolver(PiGDM()), GuidedSolver(DPS()), REDDiff()], ids=repr)
def test_unknown_blur_needs_d_flow(way: InverseSolver) -> None:
    learned = gaussian(torch.eye(16, dtype=F64), (1, 4, 4))
    about = Measurement(UnknownBlur(), torch.zeros(1, 1, 4, 4, dtype=F64))
    with refuses(UsageError):
        way.restore(learned, about, normal(1, 1, 4, 4), Rng(0))


def test_nonlinear_operators() -> None:
    learned = gaussian(0.2 * torch.eye(16, dtype=F64), (1, 4, 4), mean=1.0)
    about = Measurement(PhaseRetrieval(), PhaseRetrieval()(1 + 0.4 * normal(2, 1, 4, 4)))
    x_0 = normal(2, 1, 4, 4, seed=1)
    for way in (DFlow(), GuidedSolver(DPS(2.0))):
        assert (way.restore(learned, about, x_0, Rng(0)).residual < 0.02).all()
    for way in (GuidedSolver(PiGDM()), GuidedSolver(DPS(), start=0.2), REDDiff()):
        with refuses(UsageError):
            way.restore(learned, about, x_0, Rng(0))


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_progress(name: str) -> None:
    learned, observation, _, _ = sums(0.3)
    heard: list[float] = []
    METHODS[name]().restore(learned, observation, normal(4, 6), Rng(0), on_progress=heard.append)
    assert heard[-1] == 1.0
    assert heard == sorted(heard)


def test_invalid_settings() -> None:
    for argument, make in (
        ("steps", lambda: GuidedSolver(PiGDM(), steps=0)),
        ("start", lambda: GuidedSolver(PiGDM(), start=1.0)),
        ("blend", lambda: DFlow(blend=1.5)),
        (None, lambda: REDDiff(lr=0.0)),
        (None, lambda: Downsample(3)(torch.zeros(1, 1, 8, 8))),
    ):
        with refuses(UsageError, argument=argument):
            make()

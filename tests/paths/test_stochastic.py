"""Noise of any level from any prediction, and the way back: the flow matching reference, sections 9 and 21."""

import pytest
import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.core.serialization import USER_FUNCTIONS, from_dict, to_dict
from feller.paths import (
    Affine,
    DataPrediction,
    DiffusionCoefficient,
    NoisePrediction,
    Path,
    Prediction,
    ScorePrediction,
    VelocityPrediction,
)
from feller.paths.affine import ConstantDiffusion, CustomDiffusion, MemorylessDiffusion
from feller.paths.processes import reverse
from feller.paths.schedules import AlphaSigma, Cosine, Linear, LinearVP, Schedule
from feller.paths.time_distributions import linear_grid
from feller.sampling import RK4, DormandPrince, Euler, Heun, Midpoint, Solver, simulate
from feller.spaces import Euclidean
from tests.errors import refuses
from tests.oracle import F64, Normal, chain, close, column, f64

KINDS: list[Prediction] = [VelocityPrediction(), DataPrediction(), NoisePrediction(), ScorePrediction()]


def one(scales: AlphaSigma) -> Tensor:
    """Return g^2 = 1, up to the very end."""
    return torch.ones_like(scales.sigma)


def falling(scales: AlphaSigma) -> Tensor:
    """Return 2 sigma: g = sqrt(2 (1 - t)) on the linear schedule."""
    return 2 * scales.sigma


def bump(scales: AlphaSigma) -> Tensor:
    """Vanish at both ends."""
    return 4 * scales.alpha * scales.sigma


LEVELS: dict[str, tuple[DiffusionCoefficient | None, tuple[float, float]]] = {  # as printed, from 2e5 sampled paths
    "none": (None, (1.0001, 0.4987)),
    "one": (CustomDiffusion(one), (0.9985, 0.5002)),
    "falling": (CustomDiffusion(falling), (0.9996, 0.4986)),
    "memoryless": (MemorylessDiffusion(198.0), (1.0028, 0.4987)),  # clipped at t = 0.01
}


def driven(path: Affine, data: Normal):
    """Return the process of a path whose network is perfect."""
    return path.process(lambda x, t, given: data.predict(path.prediction, x, t), {})


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("none", DataPrediction()),
        ("one", ScorePrediction()),
        ("memoryless", NoisePrediction()),
        *(("falling", kind) for kind in KINDS),
    ],
)
def test_every_kind_ends_with_the_law_of_the_data(name: str, kind: Prediction) -> None:
    """N(1, 0.25) after 400 steps, by exact moments of the chain; and within 4 standard errors of the printed figures.

    Kinds differ only at t = 0, where one step of 1/400 knows the data's mean or not: 0.0025 of the mean at most.
    """
    level, (mean, std) = LEVELS[name]
    m, v = chain(Euler(), driven(Affine(Linear(), kind, level), Normal()), linear_grid(400), 0.0, 1.0)
    assert abs(m - mean) < 4 * 0.5 / 2e5**0.5 + 0.0025
    assert abs(v**0.5 - std) < 4 * 0.5 / (2 * 2e5) ** 0.5
    assert abs(m - 1) < 0.006
    assert abs(v**0.5 - 0.5) < 0.004


@pytest.mark.parametrize("kind", KINDS, ids=repr)
@pytest.mark.parametrize("schedule", [Linear(), Cosine(), LinearVP()], ids=repr)
def test_kinds_agree_inside(schedule: Schedule, kind: Prediction) -> None:
    """Drift and diffusion at the same states and times, to rounding."""
    x, t = torch.linspace(-2, 2, 7, dtype=F64)[:, None], torch.linspace(0.05, 0.95, 7, dtype=F64)
    now, reference = (
        driven(Affine(schedule, k, CustomDiffusion(bump)), Normal(schedule))(x, t) for k in (kind, VelocityPrediction())
    )
    close(now.velocity, reference.velocity, 1e-11)
    close(now.diffusion, reference.diffusion, 0.0)
    scales = schedule(t)
    close(now.diffusion[:, 0], 4 * torch.as_tensor(scales.alpha) * torch.as_tensor(scales.sigma), 1e-15)


@pytest.mark.parametrize("name", LEVELS)
def test_sampled_paths_agree_with_the_law(name: str) -> None:
    """10,000 paths of 100 steps, to t = 1: mean within 4.9 standard errors, std likewise; false alarm 4 x 2 x 1e-6.

    Beside that a bias of the steps, 0.012, four times what 400 steps leave.
    """
    n, draws = 10_000, Rng(7)
    x_0 = draws.stream("source").normal((n, 1), F64)
    path = Affine(Linear(), DataPrediction(), LEVELS[name][0])
    end = simulate(driven(path, Normal()), x_0, linear_grid(100), Euler(), draws)
    assert abs(end.mean().item() - 1) < 4.9 * 0.5 / n**0.5 + 0.012
    assert abs(end.std().item() - 0.5) < 4.9 * 0.5 / (2 * n) ** 0.5 + 0.012


def test_a_level_is_a_record() -> None:
    """By its function's name, which only the user's own file can give back."""
    path = Affine(noise=CustomDiffusion(falling))
    data = to_dict(path)
    assert data["noise"] == {"is": "CustomDiffusion", "formula": "falling"}
    USER_FUNCTIONS["falling"] = falling
    try:
        assert from_dict(Path, data) == path
    finally:
        del USER_FUNCTIONS["falling"]


def test_a_level_sees_tensors_wherever_it_is_asked() -> None:
    """Also where all examples share one time, which makes scales plain numbers, and per example alike."""
    process = driven(Affine(Linear(), VelocityPrediction(), CustomDiffusion(falling)), Normal())
    x = column(0.1, 0.2)
    shared, own = process(x, f64(0.3).expand(2)), process(x, f64(0.3, 0.3))
    close(shared.diffusion.expand(2, 1), own.diffusion, 1e-15)
    close(shared.velocity, own.velocity, 1e-15)


SOLVERS: list[Solver] = [Euler(), Midpoint(), Heun(), RK4(), DormandPrince(rtol=1e-6, atol=1e-6)]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("interval", [(1.0, 0.0), (0.0, 1.0), (0.8, 0.3)], ids=repr)
def test_there_and_back_again(solver: Solver, interval: tuple[float, float]) -> None:
    """From one time to another and back, either way round; the way back is wrong by the solver's order alone."""
    process, (start, stop) = driven(Affine(Cosine()), Normal(Cosine())), interval
    x = column(-0.7, 0.2, 1.5)

    def error(n: int) -> float:
        there = simulate(process, x, linear_grid(n, start, stop), solver, Rng(0))
        close(there, Normal(Cosine()).carry(x, start, stop), 0.2)
        return (simulate(process, there, linear_grid(n, stop, start), solver, Rng(0)) - x).abs().max().item()

    if isinstance(solver, DormandPrince):
        assert error(1) < 1e-5
    else:
        order = {Euler: 1, Midpoint: 2, Heun: 2, RK4: 4}[type(solver)]
        assert error(40) < max(1.5 * 0.5**order * error(20), 1e-11)


def test_data_survive_inversion() -> None:
    """Data to the source and back through a field that is no linear map: 40 RK4 steps each way, in two dimensions."""
    centres = f64(-1.5, 0.5, 2.0)

    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        t = t[:, None, None]
        spread = (1 - t) ** 2 + (0.3 * t) ** 2
        away = x[..., None] - t * centres
        weight = torch.softmax(-(away**2) / (2 * spread), -1)
        return (weight * (centres + 0.09 * t / spread * away)).sum(-1)

    path, space = Affine(prediction=DataPrediction()), Euclidean((2,))
    x_1 = centres[Rng(0).stream("class").randint(3, (2000, 2))] + 0.3 * Rng(0).stream("data").normal((2000, 2), F64)
    process = path.process(network, {})
    x_0 = simulate(process, x_1, linear_grid(80, 1.0, 0.0), RK4(space), Rng(0))
    # 4,000 numbers from N(0, 1): mean within 5 / sqrt(4000), variance within 5 sqrt(2 / 4000); false alarm 2 x 6e-7
    assert abs(x_0.mean().item()) < 0.08
    assert abs(x_0.var().item() - 1) < 0.112
    back = simulate(process, path.initial_state(x_0), linear_grid(80), RK4(space), Rng(0))
    assert (back - x_1).abs().max() < 1e-3


def test_noise_runs_back_along_its_own_process() -> None:
    """From the data with noise to the source, where a decreasing grid is refused."""
    forwards = driven(Affine(noise=ConstantDiffusion(1.0)), Normal())
    with refuses(ValueError, argument="times"):
        simulate(forwards, column(1.0), [1.0, 0.5], Euler(), Rng(0))
    backwards = reverse(forwards, lambda x, t: Normal().predict(ScorePrediction(), x, t))
    coarse, fine = (f64(*chain(Euler(), backwards, linear_grid(n), 1.0, 0.25)) for n in (64, 128))
    close(2 * fine - coarse, (0.0, 1.0), 2e-3)

"""Flows and diffusions on affine paths: the flow matching reference, sections 5, 6 and 9."""

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
    VPrediction,
)
from feller.paths.affine import ConstantDiffusion, CustomDiffusion, MemorylessDiffusion, SigmaProportional
from feller.paths.schedules import VE, VP, AlphaSigma, Cosine, Linear, LinearVP, Polynomial, Schedule
from feller.paths.time_distributions import linear_grid
from feller.sampling import RK4, Euler, Midpoint, simulate
from feller.spaces import Euclidean
from tests.oracle import F64, Normal, chain, close, column, f64

KINDS: list[Prediction] = [VelocityPrediction(), DataPrediction(), NoisePrediction(), ScorePrediction(), VPrediction()]


def one(scales: AlphaSigma) -> Tensor:
    """Return g^2 = 1, up to the very end."""
    return torch.ones_like(scales.sigma)


def falling(scales: AlphaSigma) -> Tensor:
    """Return 2 sigma: g = sqrt(2 (1 - t)) on the linear schedule."""
    return 2 * scales.sigma


def driven(path: Affine, data: Normal):
    """Return the process of a path with the exact prediction."""
    return path.process(lambda x, t, given: data.predict(path.prediction, x, t), {})


@pytest.mark.parametrize("schedule", [Linear(), Polynomial(2.0), Cosine()], ids=repr)
def test_exact_flow_maps_source_to_data(schedule: Schedule) -> None:
    """From -0.7 to m + s x_0 = 0.65, for any schedule with exact ends."""
    x_1 = simulate(driven(Affine(schedule), Normal(schedule)), column(-0.7), linear_grid(40), RK4(), Rng(0))
    close(x_1, 0.65, 1e-5)


def test_vp_endpoint_has_the_bias_of_its_schedule() -> None:
    """VP starts at alpha = 0.0066: normal noise ends at 0.64671 instead of 0.65."""
    times = [1 - (1 - t) ** 2 for t in linear_grid(60)]  # its slope is infinite at t = 1
    times[-1] = 1 - 1e-9
    x_1 = simulate(driven(Affine(VP(), DataPrediction()), Normal(VP())), column(-0.7), times, RK4(), Rng(0))
    close(x_1, 0.64671, 6e-6)
    exact = Normal(VP()).carry(f64(-0.7), 0.0, 1.0)
    close(exact, 0.64671, 6e-6)


@pytest.mark.parametrize("kind", KINDS, ids=repr)
@pytest.mark.parametrize("schedule", [Linear(), Polynomial(2.0), LinearVP(), Cosine()], ids=repr)
def test_all_predictions_give_the_same_velocity(schedule: Schedule, kind: Prediction) -> None:
    data, x, t = Normal(schedule), torch.linspace(-2, 2, 9, dtype=F64)[:, None], torch.linspace(0.1, 0.9, 9, dtype=F64)
    velocity = driven(Affine(schedule, kind), data)(x, t).velocity
    close(velocity, data.predict(VelocityPrediction(), x, t), 1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=repr)
@pytest.mark.parametrize(
    "noise",
    [ConstantDiffusion(0.7), SigmaProportional(2.0), MemorylessDiffusion(), CustomDiffusion(falling)],
    ids=lambda noise: type(noise).__name__,
)
def test_drift_of_a_diffusion_includes_half_the_score(noise: DiffusionCoefficient, kind: Prediction) -> None:
    """Drift v + g^2 / 2 score."""
    data, x, t = Normal(Cosine()), torch.linspace(-2, 2, 5, dtype=F64)[:, None], f64(0.1, 0.3, 0.5, 0.7, 0.9)
    now = driven(Affine(Cosine(), kind, noise), data)(x, t)
    variance = torch.as_tensor(noise.variance(Cosine()(t)), dtype=F64).expand(5)[:, None]
    close(now.diffusion.expand(5, 1), variance, 0.0)
    close(
        now.velocity,
        data.predict(VelocityPrediction(), x, t) + variance / 2 * data.predict(ScorePrediction(), x, t),
        1e-11,
    )


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), VP()], ids=repr)
def test_v_prediction_is_uncorrelated_with_the_state(schedule: Schedule) -> None:
    draw = Rng(0).stream("ends")
    x_0, x_1 = draw.normal((200_000, 1), F64), draw.normal((200_000, 1), F64)
    path = Affine(schedule, VPrediction())
    for time in (0.05, 0.3, 0.6, 0.95):
        t = torch.full((len(x_0),), time, dtype=F64)
        x_t = path.sample(x_0, x_1, t)
        target = path.target(x_t, x_0, x_1, t)
        assert abs((x_t * target).mean()) < 5 / len(x_0) ** 0.5 * x_t.std() * target.std()
        close(target.var(), 1.0, 0.02)


def test_memoryless_drift_is_twice_the_velocity() -> None:
    """B = 2 v - alpha' / alpha x, below the cap."""
    data, x, t = Normal(), torch.linspace(-2, 2, 5, dtype=F64)[:, None], f64(0.1, 0.3, 0.5, 0.7, 0.9)
    now = driven(Affine(noise=MemorylessDiffusion()), data)(x, t)
    close(now.velocity, 2 * data.predict(VelocityPrediction(), x, t) - x / t[:, None], 1e-12)


def test_diffusion_coefficients() -> None:
    t = f64(0.0, 0.5, 1.0)
    assert ConstantDiffusion(2.0).variance(Linear()(t)) == 4
    close(SigmaProportional(3.0).variance(Linear()(t)), (3.0, 1.5, 0.0), 0.0)
    close(MemorylessDiffusion(50.0).variance(Linear()(t)), (50.0, 2.0, 0.0), 0.0)
    assert MemorylessDiffusion().variance(VP()(t)).isfinite().all()


def test_sigma_proportional_diffusion_has_a_finite_drift_at_both_ends() -> None:
    data, x, t = Normal(), torch.full((4, 1), 0.7, dtype=F64), f64(0.0, 0.5, 1 - 1e-6, 1.0)
    drift = driven(Affine(noise=SigmaProportional(2.0)), data)(x, t).velocity
    assert drift.abs().max() < 10
    assert driven(Affine(noise=ConstantDiffusion(1.0)), data)(x, t).velocity[2].abs() > 0.1
    # u + g^2 / 2 s with g^2 = 2 (1 - t) ends at u alone, since the score of the data is finite
    close(drift[3], data.predict(VelocityPrediction(), x, t)[3], 1e-5)


def test_sampled_marginals() -> None:
    """Through the loop, with its draws: 20,000 paths to t = 0.6; false alarm 2 x 6e-7 beside a bias below 0.004."""
    data, n = Normal(), 20_000
    draws = Rng(4)
    x_0 = draws.stream("source").normal((n, 1), F64)
    end = simulate(driven(Affine(noise=ConstantDiffusion(1.0)), data), x_0, linear_grid(40, 0.0, 0.6), Euler(), draws)
    mean, variance = data.moments(0.6)
    assert abs(end.mean().item() - mean) < 5 * (variance / n) ** 0.5 + 0.004
    assert abs(end.var().item() - variance) < 5 * variance * (2 / n) ** 0.5 + 0.004


def test_ve_scales_its_source() -> None:
    assert Affine(VE(0.1, 5.0)).initial_state(torch.ones(2, 3)).unique().tolist() == [5.0]
    x_0 = torch.ones(2, 3)
    assert torch.equal(Affine().initial_state(x_0), x_0)


def test_ve_reaches_the_data() -> None:
    """From sigma_max noise to N(1, 0.25 + sigma_min^2), up to what alpha_0 m = m adds at the start."""
    schedule = VE(0.01, 50.0)
    data = Normal(schedule)
    x_0 = column(-1.0, 0.0, 2.0)
    path = Affine(schedule, DataPrediction())
    times = linear_grid(64)
    end = simulate(driven(path, data), path.initial_state(x_0), times, RK4(), Rng(0))
    close(end, data.carry(50.0 * x_0, 0.0, 1.0), 1e-3)


def test_linear_path_of_an_optimal_coupling_has_constant_speed() -> None:
    """E |u_t(X_t)|^2 is constant in t for the linear schedule on the monotone coupling x_1 = m + s x_0."""
    x_0 = torch.linspace(-3, 3, 101, dtype=F64)[:, None]
    x_1 = 1 + 0.5 * x_0
    speeds = []
    for t in (0.0, 0.3, 0.9):
        time = torch.full((101,), t, dtype=F64)
        speeds.append(Affine().target(Affine().sample(x_0, x_1, time), x_0, x_1, time).square().mean())
    close(torch.stack(speeds), speeds[0].expand(3), 1e-13)


def test_flow_to_finitely_many_points_ends_on_them() -> None:
    points = f64(-2.0, 0.5, 1.5)

    def network(x, t, given):
        weights = torch.softmax(-((x - t[:, None] * points) ** 2) / (2 * (1 - t[:, None]) ** 2), -1)
        return (weights @ points)[:, None]

    x_0 = Rng(0).stream("source").normal((200, 1), F64)
    end = simulate(Affine(prediction=DataPrediction()).process(network, {}), x_0, linear_grid(60), Midpoint(), Rng(0))
    distance = (end - points).abs().min(1).values
    assert distance.max() < 1e-2


def test_float32_times_keep_float64_states() -> None:
    x = torch.ones(2, 3, dtype=F64)
    assert Affine().sample(x, x, torch.tensor([0.25, 0.5])).dtype == F64


LEVELS: dict[str, tuple[DiffusionCoefficient | None, tuple[float, float]]] = {  # as printed, from 2e5 sampled paths
    "none": (None, (1.0001, 0.4987)),
    "one": (CustomDiffusion(one), (0.9985, 0.5002)),
    "falling": (CustomDiffusion(falling), (0.9996, 0.4986)),
    "memoryless": (MemorylessDiffusion(198.0), (1.0028, 0.4987)),  # clipped at t = 0.01
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("none", DataPrediction()),
        ("one", ScorePrediction()),
        ("memoryless", NoisePrediction()),
        *(("falling", kind) for kind in KINDS[:4]),
    ],
)
def test_every_diffusion_ends_at_the_data_distribution(name: str, kind: Prediction) -> None:
    """N(1, 0.25) after 400 steps, by exact moments of the chain; and within 4 standard errors of the printed figures.

    Kinds differ only at t = 0, where one step of 1/400 knows the data's mean or not: 0.0025 of the mean at most.
    """
    level, (mean, std) = LEVELS[name]
    m, v = chain(Euler(), driven(Affine(Linear(), kind, level), Normal()), linear_grid(400), 0.0, 1.0)
    assert abs(m - mean) < 4 * 0.5 / 2e5**0.5 + 0.0025
    assert abs(v**0.5 - std) < 4 * 0.5 / (2 * 2e5) ** 0.5
    assert abs(m - 1) < 0.006
    assert abs(v**0.5 - 0.5) < 0.004


def test_custom_diffusion_is_recorded_by_name() -> None:
    path = Affine(noise=CustomDiffusion(falling))
    data = to_dict(path)
    assert data["noise"] == {"is": "CustomDiffusion", "formula": "falling"}
    USER_FUNCTIONS["falling"] = falling
    try:
        assert from_dict(Path, data) == path
    finally:
        del USER_FUNCTIONS["falling"]


def test_custom_diffusion_receives_tensors() -> None:
    process = driven(Affine(Linear(), VelocityPrediction(), CustomDiffusion(falling)), Normal())
    x = column(0.1, 0.2)
    shared, own = process(x, f64(0.3).expand(2)), process(x, f64(0.3, 0.3))
    close(shared.diffusion.expand(2, 1), own.diffusion, 1e-15)
    close(shared.velocity, own.velocity, 1e-15)


def test_data_survive_inversion_to_the_source() -> None:
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

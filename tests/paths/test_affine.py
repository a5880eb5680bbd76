"""Flows and diffusions on affine paths: the flow matching reference, sections 5, 6 and 9."""

import pytest
import torch

from feller.core.rng import Rng
from feller.paths import (
    Affine,
    DataPrediction,
    DiffusionCoefficient,
    NoisePrediction,
    Prediction,
    ScorePrediction,
    VelocityPrediction,
    VPrediction,
)
from feller.paths.affine import ConstantDiffusion, MemorylessDiffusion, SigmaProportional
from feller.paths.schedules import VE, VP, Cosine, Linear, LinearVP, Polynomial, Schedule
from feller.paths.time_distributions import linear_grid
from feller.sampling import RK4, Euler, Midpoint, simulate
from tests.oracle import F64, Normal, chain, close, column, f64

KINDS: list[Prediction] = [VelocityPrediction(), DataPrediction(), NoisePrediction(), ScorePrediction(), VPrediction()]


def driven(path: Affine, data: Normal):
    """Return the process of a path whose network is perfect."""
    return path.process(lambda x, t, given: data.predict(path.prediction, x, t), {})


@pytest.mark.parametrize("schedule", [Linear(), Polynomial(2.0), Cosine()], ids=repr)
def test_endpoint(schedule: Schedule) -> None:
    """From -0.7 to m + s x_0 = 0.65, for any schedule with exact ends."""
    x_1 = simulate(driven(Affine(schedule), Normal(schedule)), column(-0.7), linear_grid(40), RK4(), Rng(0))
    close(x_1, 0.65, 1e-5)


def test_endpoint_of_vp_is_biased() -> None:
    """VP starts at alpha = 0.0066: normal noise ends at 0.64671 instead of 0.65."""
    times = [1 - (1 - t) ** 2 for t in linear_grid(60)]  # its slope is infinite at t = 1
    times[-1] = 1 - 1e-9
    x_1 = simulate(driven(Affine(VP(), DataPrediction()), Normal(VP())), column(-0.7), times, RK4(), Rng(0))
    close(x_1, 0.64671, 6e-6)
    exact = Normal(VP()).carry(f64(-0.7), 0.0, 1.0)
    close(exact, 0.64671, 6e-6)


@pytest.mark.parametrize("kind", KINDS, ids=repr)
@pytest.mark.parametrize("schedule", [Linear(), Polynomial(2.0), LinearVP(), Cosine()], ids=repr)
def test_any_prediction_drives_the_same_flow(schedule: Schedule, kind: Prediction) -> None:
    data, x, t = Normal(schedule), torch.linspace(-2, 2, 9, dtype=F64)[:, None], torch.linspace(0.1, 0.9, 9, dtype=F64)
    velocity = driven(Affine(schedule, kind), data)(x, t).velocity
    close(velocity, data.predict(VelocityPrediction(), x, t), 1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=repr)
@pytest.mark.parametrize("noise", [ConstantDiffusion(0.7), SigmaProportional(2.0), MemorylessDiffusion()], ids=repr)
def test_noise_comes_with_its_drift(noise: DiffusionCoefficient, kind: Prediction) -> None:
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
def test_an_angular_prediction_is_not_correlated_with_the_state(schedule: Schedule) -> None:
    """Of standard normal data, whose x_t knows nothing of it; the velocity is then all outside of the network."""
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


def test_noise_levels() -> None:
    t = f64(0.0, 0.5, 1.0)
    assert ConstantDiffusion(2.0).variance(Linear()(t)) == 4
    close(SigmaProportional(3.0).variance(Linear()(t)), (3.0, 1.5, 0.0), 0.0)
    close(MemorylessDiffusion(50.0).variance(Linear()(t)), (50.0, 2.0, 0.0), 0.0)
    assert MemorylessDiffusion().variance(VP()(t)).isfinite().all()


def test_vanishing_noise_has_a_finite_drift_at_both_ends() -> None:
    """And its drift near the end is the limit: a constant level's grows without bound there."""
    data, x, t = Normal(), torch.full((4, 1), 0.7, dtype=F64), f64(0.0, 0.5, 1 - 1e-6, 1.0)
    drift = driven(Affine(noise=SigmaProportional(2.0)), data)(x, t).velocity
    assert drift.abs().max() < 10
    assert driven(Affine(noise=ConstantDiffusion(1.0)), data)(x, t).velocity[2].abs() > 0.1
    # u + g^2 / 2 s with g^2 = 2 (1 - t) ends at u alone, since the score of the data is finite
    close(drift[3], data.predict(VelocityPrediction(), x, t)[3], 1e-5)


NOISES: dict[str, tuple[DiffusionCoefficient | None, tuple[float, float]]] = {  # as printed, from 2e5 sampled paths
    "none": (None, (1.0001, 0.4987)),
    "one": (ConstantDiffusion(1.0), (0.9985, 0.5002)),
    "vanishing": (SigmaProportional(2.0), (0.9996, 0.4986)),
    "memoryless": (MemorylessDiffusion(198.0), (1.0028, 0.4987)),
}


@pytest.mark.parametrize("name", NOISES)
def test_noise_keeps_the_end_at_400_steps(name: str) -> None:
    """Exact moments of the chain, within 4 standard errors of the printed ones, 0.0045 and 0.0032, and of the truth."""
    noise, (mean, std) = NOISES[name]
    m, v = chain(Euler(), driven(Affine(noise=noise), Normal()), linear_grid(400), 0.0, 1.0)
    assert abs(m - mean) < 0.0045
    assert abs(v**0.5 - std) < 0.0032
    assert abs(m - 1) < 0.0045
    assert abs(v**0.5 - 0.5) < 0.0032


@pytest.mark.parametrize("name", NOISES)
def test_noise_keeps_the_marginals(name: str) -> None:
    """At t = 0.3, 0.6 and 0.9: errors fall as the step, and extrapolated to no step they vanish."""
    noise, _ = NOISES[name]
    process, data = driven(Affine(noise=noise), Normal()), Normal()
    start = 0.1  # the memoryless noise is stiff before
    for end in (0.3, 0.6, 0.9):
        coarse, fine = (
            f64(*chain(Euler(), process, linear_grid(n, start, end), *data.moments(start))) for n in (20, 40)
        )
        close(2 * fine - coarse, data.moments(end), 3e-3)


def test_wrong_drift_would_be_found() -> None:
    """The same check on a process whose noise has no drift to pay for it."""
    noisy = driven(Affine(noise=ConstantDiffusion(1.0)), Normal())
    flow = driven(Affine(), Normal())

    def wrong(x, t):
        return flow(x, t) + 0.0 * noisy(x, t) + type(noisy(x, t))(diffusion=noisy(x, t).diffusion)

    _, variance = chain(Euler(), wrong, linear_grid(20, 0.1, 0.6), *Normal().moments(0.1))
    assert variance > Normal().moments(0.6)[1] + 0.2


def test_sampled_paths_have_the_marginal() -> None:
    """Through the loop, with its draws: 20,000 paths to t = 0.6; false alarm 2 x 6e-7 beside a bias below 0.004."""
    data, n = Normal(), 20_000
    draws = Rng(4)
    x_0 = draws.stream("source").normal((n, 1), F64)
    end = simulate(driven(Affine(noise=ConstantDiffusion(1.0)), data), x_0, linear_grid(40, 0.0, 0.6), Euler(), draws)
    mean, variance = data.moments(0.6)
    assert abs(end.mean().item() - mean) < 5 * (variance / n) ** 0.5 + 0.004
    assert abs(end.var().item() - variance) < 5 * variance * (2 / n) ** 0.5 + 0.004


def test_an_exploding_schedule_scales_its_source() -> None:
    assert Affine(VE(0.1, 5.0)).initial_state(torch.ones(2, 3)).unique().tolist() == [5.0]
    x_0 = torch.ones(2, 3)
    assert torch.equal(Affine().initial_state(x_0), x_0)


def test_exploding_schedule_reaches_the_data() -> None:
    """From sigma_max noise to N(1, 0.25 + sigma_min^2), up to what alpha_0 m = m adds at the start."""
    schedule = VE(0.01, 50.0)
    data = Normal(schedule)
    x_0 = column(-1.0, 0.0, 2.0)
    path = Affine(schedule, DataPrediction())
    times = linear_grid(64)
    end = simulate(driven(path, data), path.initial_state(x_0), times, RK4(), Rng(0))
    close(end, data.carry(50.0 * x_0, 0.0, 1.0), 1e-3)


def test_straight_paths_of_an_optimal_coupling_have_constant_speed() -> None:
    """E |u_t(X_t)|^2 is constant in t for the linear schedule on the monotone coupling x_1 = m + s x_0."""
    x_0 = torch.linspace(-3, 3, 101, dtype=F64)[:, None]
    x_1 = 1 + 0.5 * x_0
    speeds = []
    for t in (0.0, 0.3, 0.9):
        time = torch.full((101,), t, dtype=F64)
        speeds.append(Affine().target(Affine().sample(x_0, x_1, time), x_0, x_1, time).square().mean())
    close(torch.stack(speeds), speeds[0].expand(3), 1e-13)


def test_finite_data_attract_the_flow() -> None:
    """With three points the exact field is a softmax over them; from noise it ends on one of them."""
    points = f64(-2.0, 0.5, 1.5)

    def network(x, t, given):
        weights = torch.softmax(-((x - t[:, None] * points) ** 2) / (2 * (1 - t[:, None]) ** 2), -1)
        return (weights @ points)[:, None]

    x_0 = Rng(0).stream("source").normal((200, 1), F64)
    end = simulate(Affine(prediction=DataPrediction()).process(network, {}), x_0, linear_grid(60), Midpoint(), Rng(0))
    distance = (end - points).abs().min(1).values
    assert distance.max() < 1e-2


def test_a_mere_tensor_of_times_may_be_single_precision() -> None:
    x = torch.ones(2, 3, dtype=F64)
    assert Affine().sample(x, x, torch.tensor([0.25, 0.5])).dtype == F64

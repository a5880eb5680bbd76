"""Velocities of one token: the vectors of the kinetic-optimal reference, sections 12.1 to 12.3, and its properties."""

import itertools

import pytest
import torch
from torch import Tensor

from feller.paths import (
    FewestJumps,
    KineticOptimalRates,
    LeastEnergy,
    LevelDistance,
    MetricPath,
    Mixture,
    PowerBeta,
    Rates,
    SoftmaxPath,
    Tempered,
)
from feller.paths.discrete.token_path import TokenPath
from feller.paths.discrete.token_schedules import KineticOptimal, KineticOptimalPerToken
from feller.paths.schedules import Linear, Polynomial
from feller.spaces import CategoricalSource, UniformSource
from tests.errors import refuses
from tests.oracle import F64, close, f64

A, B = f64(0.0, 0.5, -0.3, 0.2), f64(1.0, -0.5, 0.3, -1.2)
NEIGHBOURS = tuple(tuple(1.0 + 4 * max(abs(y - x) - 1, 0) for x in range(4)) for y in range(4))
KINDS = [KineticOptimalRates(), Tempered(0.0), Tempered(2.0), FewestJumps(), LeastEnergy(NEIGHBOURS)]


def law(t: float) -> tuple[Tensor, Tensor]:
    """Return log p and its derivative of softmax(a + b t)."""
    log_p = (A + B * t).log_softmax(0)
    return log_p, B - (log_p.exp() * B).sum()


def energy(rates: Tensor, p: Tensor, multiples: Tensor | float = 1.0) -> float:
    """Return the sum over pairs of multiples j^2 / (p(x) p(y))."""
    flux = (rates - torch.diag(rates.diag())) * p
    return float((multiples * flux**2 / (p * p[:, None])).sum())


LOG_P, SLOPE = law(0.4)
P = LOG_P.exp()


def test_vector_of_probabilities() -> None:
    close(P, (0.33654705, 0.30452036, 0.18843214, 0.17050045), 6e-9)
    close(P * SLOPE, (0.32435867, -0.16328868, 0.04970539, -0.21077538), 6e-9)


def test_vector_of_kinetic_optimal_rates() -> None:
    rates = KineticOptimalRates().matrix(LOG_P, SLOPE)
    expected = [
        [0.0, 0.50482057, 0.23558293, 0.7404035],
        [0.0, -0.65556628, 0.0, 0.21316425],
        [0.0, 0.15074571, -0.23558293, 0.28264821],
        [0.0, 0.0, 0.0, -1.23621597],
    ]
    close(rates, torch.tensor(expected, dtype=F64), 6e-9)
    assert energy(rates, P) == pytest.approx(0.67384508, abs=6e-9)
    assert energy(rates, P) == pytest.approx(float((P * SLOPE**2).sum()), abs=1e-15)


def test_vector_of_uniform_weights() -> None:
    rates = Tempered(0.0).matrix(LOG_P, SLOPE)
    expected = [
        [0.0, 0.40034051, 0.36439282, 0.78465195],
        [0.0, -0.5752008, 0.0, 0.06962841],
        [0.0, 0.17486029, -0.36439282, 0.3819356],
        [0.0, 0.0, 0.0, -1.23621597],
    ]
    close(rates, torch.tensor(expected, dtype=F64), 6e-9)
    assert energy(rates, P) == pytest.approx(0.71539908, abs=6e-9)


def test_vector_of_tempered_weights() -> None:
    """Tau proportional to p^2; with p^1 it is the kinetic optimum."""
    rates = Tempered(2.0).matrix(LOG_P, SLOPE)
    close(rates[0, 1:], (0.58951692, 0.11546722, 0.72188096), 6e-9)
    close(torch.stack([rates[1, 3], rates[2, 1], rates[2, 3]]), (0.32078804, 0.12630775, 0.19354696), 6e-9)
    assert energy(rates, P) == pytest.approx(0.70322173, abs=6e-9)
    close(Tempered(1.0).matrix(LOG_P, SLOPE), KineticOptimalRates().matrix(LOG_P, SLOPE), 1e-15)


def test_vector_of_fewest_jumps() -> None:
    """The total rate is half the L1 norm of dp, less than that of the optimum; the energy is more."""
    rates = FewestJumps().matrix(LOG_P, SLOPE)
    found = torch.stack([rates[0, 1], rates[0, 3], rates[2, 1], rates[2, 3]])
    close(found, (0.46496393, 1.07194839, 0.07125203, 0.16426758), 6e-9)
    assert energy(rates, P) == pytest.approx(0.81037876, abs=6e-9)
    total = [-float((kind.matrix(LOG_P, SLOPE).diag() * P).sum()) for kind in (FewestJumps(), KineticOptimalRates())]
    assert total == pytest.approx([0.37406406, 0.45480006], abs=6e-9)
    assert total[0] == pytest.approx(float((P * SLOPE).abs().sum()) / 2, abs=1e-15)


def test_vector_of_least_energy() -> None:
    kind = LeastEnergy(NEIGHBOURS)
    potential = kind.potential(LOG_P[None], SLOPE[None])[0]
    close(potential, (3.03089266, 0.65559833, 0.05455193, -3.74104292), 6e-9)
    rates = kind.matrix(LOG_P, SLOPE)
    found = [rates[y, x] for y, x in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))]
    close(torch.stack(found), (0.79939829, 0.20033574, 0.25323055, 0.18303087, 0.26777336, 0.71521206), 6e-9)
    multiples = torch.tensor(NEIGHBOURS, dtype=F64)
    assert energy(rates, P, multiples) == pytest.approx(1.6672758, abs=6e-9)
    optimum = KineticOptimalRates().matrix(LOG_P, SLOPE)
    assert energy(optimum, P, multiples) == pytest.approx(3.12171460, abs=6e-9)


def test_least_energy_with_equal_multiples_is_the_kinetic_optimum() -> None:
    close(LeastEnergy(((1.0,) * 4,) * 4).matrix(LOG_P, SLOPE), KineticOptimalRates().matrix(LOG_P, SLOPE), 1e-14)


@pytest.mark.parametrize("kind", [KineticOptimalRates(), Tempered(0.0)], ids=repr)
def test_rates_transport_the_marginals(kind: Rates) -> None:
    """400 steps of dp/dt = U p from t = 0 to 1: 1e-12."""

    def slope(t: float, p: Tensor) -> Tensor:
        return kind.matrix(*law(t)) @ p

    p, h = law(0.0)[0].exp(), 1 / 400
    for i in range(400):
        t = i * h
        a = slope(t, p)
        b = slope(t + h / 2, p + h / 2 * a)
        c = slope(t + h / 2, p + h / 2 * b)
        p = p + h / 6 * (a + 2 * b + 2 * c + slope(t + h, p + h * c))
    close(p, law(1.0)[0].exp(), 1e-12)


def wave(x_1: Tensor, t: Tensor) -> Tensor:
    """Return oscillating logits with a growing bump at the data."""
    x = torch.arange(6, dtype=t.dtype)
    bump = torch.where(x_1[:, None] == x, 4.0, 0.0) * t[:, None] ** 2
    return bump + torch.sin(3 * t[:, None] + x) * t[:, None] * (1 + x_1[:, None]) / 3


WEIGHTS = (1.0, 2.0, 0.5, 3.0, 1.5, 2.5)
MASSES = tuple(w / sum(WEIGHTS) for w in WEIGHTS)
SIX = tuple(tuple(1.0 + abs(y - x) for x in range(6)) for y in range(6))
PATHS = {
    "mixture": Mixture(Polynomial(2.0), CategoricalSource(WEIGHTS)),
    "mixture, uniform": Mixture(KineticOptimal(1 / 6), UniformSource()),
    "mixture, per token": Mixture(KineticOptimalPerToken(MASSES), CategoricalSource(WEIGHTS)),
    "metric, power": MetricPath(LevelDistance(6), PowerBeta()),
    "metric, constant speed": MetricPath(LevelDistance(6, 3.0)),
    "geometric": SoftmaxPath(wave),
}
ALL = [*KINDS[:-1], LeastEnergy(SIX)]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize("name", PATHS)
def test_rates_solve_the_forward_equation(name: str, kind: Rates) -> None:
    """U p = dp, relative to the size of U; columns sum to 0; only the diagonal is negative; dp is the slope of p."""
    path, h = PATHS[name], 1e-6
    for x_1, t in itertools.product(range(6), (0.1, 0.4, 0.8)):
        a, time = torch.tensor([x_1]), f64(t)
        log_p, slope = path.log_probabilities(a, time, 6)[0], path.time_derivative(a, time, 6)[0]
        rates, p = kind.matrix(log_p, slope), log_p.exp()
        size = 1 + float(rates.abs().max())
        close(rates @ p / size, p * slope / size, 1e-12)
        close(rates.sum(0) / size, torch.zeros(6), 1e-12)
        assert (rates - torch.diag(rates.diag()) >= 0).all()
        before, after = (path.log_probabilities(a, time + d, 6)[0].exp() for d in (-h, h))
        close(rates @ p / size, (after - before) / (2 * h) / size, 1e-6)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize("name", PATHS)
def test_max_outgoing_bounds_the_total_rate(name: str, kind: Rates) -> None:
    path = PATHS[name]
    a, t = torch.arange(6), torch.full((6,), 0.6, dtype=F64)
    log_p, slope = path.log_probabilities(a, t, 6), path.time_derivative(a, t, 6)
    for x in range(6):
        total = kind.outgoing(log_p, slope, torch.full((6,), x)).sum(1)
        assert (total <= kind.max_outgoing(log_p, slope)[:, x] * (1 + 1e-12) + 1e-12).all()


@pytest.mark.parametrize("name", ["mixture", "mixture, per token", "metric, power", "metric, constant speed"])
def test_time_derivatives_equal_automatic_differentiation(name: str) -> None:
    path = PATHS[name]
    a, t = torch.arange(6), torch.linspace(0.05, 0.9, 6, dtype=F64)
    torch.testing.assert_close(
        path.time_derivative(a, t, 6), TokenPath.time_derivative(path, a, t, 6), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize(
    "source", [UniformSource(), CategoricalSource(WEIGHTS)], ids=lambda source: type(source).__name__
)
@pytest.mark.parametrize("schedule", [Linear(), Polynomial(3.0), KineticOptimal(0.3)], ids=repr)
def test_kinetic_optimal_rates_of_a_mixture_go_to_the_data(schedule, source) -> None:
    """kappa' / (1 - kappa) to x_1 and to nothing else, for the formula of any path."""
    path, t = Mixture(schedule, source), f64(0.37)
    scales, a = schedule(t), torch.tensor([2])
    log_p, slope = path.log_probabilities(a, t, 6)[0], path.time_derivative(a, t, 6)[0]
    rate = float(torch.as_tensor(scales.d_alpha) / scales.sigma)
    expected = torch.zeros(6, 6, dtype=F64)
    expected[2] = rate
    expected.fill_diagonal_(-rate)
    expected[2, 2] = 0
    for kind in (KineticOptimalRates(), FewestJumps()):
        close(kind.matrix(log_p, slope), expected, 1e-12)
    for x in range(6):
        outward = path.conditional_rates(a, torch.tensor([x]), t, 6)[0]
        close(outward, torch.where(torch.arange(6) == x, 0.0, expected[:, x]), 1e-12)


def test_vector_of_the_kinetic_optimal_schedule() -> None:
    """p = (.2, .5, .3), x_1 = 1, t = 0.4, at constant energy 4 angle^2."""
    path, t, a = Mixture(KineticOptimal(0.5), CategoricalSource((0.2, 0.5, 0.3))), f64(0.4), torch.tensor([1])
    scales = path.schedule(t)
    close(torch.cat([scales.alpha, scales.d_alpha]), (0.58778525, 1.27080092), 6e-9)
    log_p, slope = path.log_probabilities(a, t, 3)[0], path.time_derivative(a, t, 3)[0]
    close(log_p.exp(), (0.08244295, 0.79389263, 0.12366442), 6e-9)
    close(log_p.exp() * slope, (-0.25416018, 0.63540046, -0.38124028), 6e-9)
    rates = KineticOptimalRates().matrix(log_p, slope)
    close(rates[1, [0, 2]], (3.08286137, 3.08286137), 6e-9)
    assert rates[[0, 2]][:, 1].tolist() == [0.0, 0.0]
    for time in (0.05, 0.4, 0.95):
        log_p, slope = path.log_probabilities(a, f64(time), 3)[0], path.time_derivative(a, f64(time), 3)[0]
        assert energy(KineticOptimalRates().matrix(log_p, slope), log_p.exp()) == pytest.approx(2.4674011, abs=6e-9)


def test_tokens_of_probability_zero_have_no_rates() -> None:
    three, slope = law(0.4)[0][:3].log_softmax(0), f64(0.5, -0.2, 0.1)
    log_p = torch.cat([three, f64(-torch.inf)])
    change = torch.cat([slope, f64(torch.nan)])
    for kind in (KineticOptimalRates(), Tempered(0.0), Tempered(2.0), FewestJumps(), LeastEnergy(NEIGHBOURS)):
        rates = kind.matrix(log_p, change)
        assert (rates[3] == 0).all()
        assert (rates[:, 3] == 0).all()
        if not isinstance(kind, LeastEnergy):
            close(rates[:3, :3], kind.matrix(three, slope), 1e-14)
    part = LeastEnergy(tuple(row[:3] for row in NEIGHBOURS[:3]))
    close(LeastEnergy(NEIGHBOURS).matrix(log_p, change)[:3, :3], part.matrix(three, slope), 1e-13)


@pytest.mark.parametrize(
    "multiples",
    [((1.0, 2.0),), ((1.0, 0.0), (0.0, 1.0)), ((1.0, 2.0), (3.0, 1.0))],
    ids=["shape", "zero", "asymmetric"],
)
def test_costs_without_a_potential_are_refused(multiples) -> None:
    with refuses(ValueError):
        LeastEnergy(multiples)


def test_costs_of_another_vocabulary_are_refused() -> None:
    with refuses(ValueError, found="4"):
        LeastEnergy(((1.0, 1.0), (1.0, 1.0))).matrix(LOG_P, SLOPE)

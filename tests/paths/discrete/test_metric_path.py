"""Metric paths: the vector 12.3 and the table of section 6 of the kinetic-optimal reference; costs and betas."""

import math

import pytest
import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.paths import (
    ConstantSpeedBeta,
    DistanceTable,
    EmbeddingDistance,
    KineticOptimalRates,
    LevelDistance,
    MetricPath,
    PowerBeta,
    ReversibleCorrector,
    SoftmaxPath,
    Tempered,
    TokenDistance,
)
from feller.spaces import MaskSource, Tokens
from feller.training.objective import FlowMatching
from tests.errors import refuses
from tests.oracle import F64, close, f64

FIVE = MetricPath(LevelDistance(5), PowerBeta(2.0, 3.0))


def test_vector_of_probabilities_rates_and_corrector() -> None:
    """Five places, x_1 = 3, t = 0.4: law, slope, all rates, and the corrector that keeps the law."""
    a, t = torch.tensor([3]), f64(0.4)
    close(FIVE.distance.to_data(a), (2.25, 1, 0.25, 0, 0.25), 0.0)
    close(torch.cat(FIVE.beta(t)), (1.33333333, 11.11111111), 6e-9)
    log_p, slope = FIVE.log_probabilities(a, t)[0], FIVE.time_derivative(a, t)[0]
    p = log_p.exp()
    close(p, (0.01812781, 0.09597751, 0.26089393, 0.36410681, 0.26089393), 6e-9)
    close(p * slope, (-0.39937339, -0.78145739, 0.04989467, 1.08104143, 0.04989467), 6e-9)
    rates = KineticOptimalRates().matrix(log_p, slope)
    expected = [
        [-22.03097718, 0.0, 0.0, 0.0, 0.0],
        [1.33302102, -8.39386344, 0.0, 0.0, 0.0],
        [5.79764292, 2.1741161, -1.01140781, 0.0, 0.0],
        [9.10267031, 4.04563125, 1.01140781, 0.0, 1.01140781],
        [5.79764292, 2.1741161, 0.0, 0.0, -1.01140781],
    ]
    close(rates, torch.tensor(expected, dtype=F64), 6e-9)
    close(rates @ p, p * slope, 1e-14)
    v = ReversibleCorrector().extra_rates(log_p.expand(5, 5), slope.expand(5, 5), torch.arange(5)).T
    d, (_, rise) = FIVE.distance.to_data(a)[0], FIVE.beta(t)
    close(v, rise * p[:, None] * (d - d[:, None]).abs(), 1e-12)
    close((v - torch.diag(v.sum(0))) @ p, torch.zeros(5), 1e-14)


def test_expected_jumps_of_a_midpoint_increment() -> None:
    """Expected jumps p_mid(y) (beta_s - beta_t) [d(x) - d(y)]_+, and none at the data; the bound is that of no p."""
    t, s, x = 0.3, 0.5, torch.arange(5)
    a = torch.full((5,), 3)
    d = FIVE.distance.to_data(a)[0]
    now, later = (3 * (v / (1 - v)) ** 2 for v in (t, s))
    middle = (-(now + later) / 2 * d).softmax(0)
    expected = middle * (later - now) * (d[:, None] - d).relu()
    jumps, weights = FIVE.expected_jumps(a, x, torch.full((5,), t, dtype=F64), s, 5)
    close(weights, expected, 1e-14)
    close(jumps, expected.sum(1), 1e-14)
    bound = FIVE.max_hazard(x[None], f64(t), s, 5)[0]
    close(bound, (later - now) * f64(4.0, 2.25, 1.0, 2.25, 4.0), 1e-13)


@pytest.mark.parametrize(
    "cost",
    [LevelDistance(17), LevelDistance(40, 3.0), DistanceTable(((0.0, 1.0, 5.0), (1.0, 0.0, 2.0), (4.0, 2.0, 0.0)))],
)
@pytest.mark.parametrize("schedule", [PowerBeta(2.0, 3.0), PowerBeta(0.9, 3.0), ConstantSpeedBeta()], ids=repr)
def test_betas_increase_and_their_derivative_is_exact(schedule, cost: TokenDistance) -> None:
    beta = schedule.build(cost)
    t = torch.linspace(0, 1, 4001, dtype=F64)[:-1]
    value, _ = beta(t)
    assert value[0] == 0
    assert (value.diff() > 0).all()
    inside, h = torch.linspace(0.03, 0.97, 301, dtype=F64), 1e-6
    torch.testing.assert_close(
        beta(inside)[1], (beta(inside + h)[0] - beta(inside - h)[0]) / (2 * h), rtol=1e-5, atol=1e-6
    )
    assert beta(f64(1.0))[0].item() == math.inf


def test_constant_speed_has_constant_fisher_information() -> None:
    """The mean over the data of sum p'^2 / p, within 0.1 % from t = 0.02 to 0.98; a power varies by 20."""

    def speed(path: MetricPath, t: float) -> float:
        x_1 = torch.arange(17)
        time = torch.full((17,), t, dtype=F64)
        return float((path.log_probabilities(x_1, time).exp() * path.time_derivative(x_1, time) ** 2).sum(1).mean())

    times = [0.02 + 0.96 * i / 40 for i in range(41)]
    found = [speed(MetricPath(LevelDistance(17)), t) for t in times]
    assert max(found) / min(found) < 1.001
    power = [speed(MetricPath(LevelDistance(17), PowerBeta()), t) for t in times]
    assert max(power) / min(power) > 20


def test_constant_speed_ends_at_the_given_beta() -> None:
    """8 over the distance of neighbours is 512 for 17 levels; weights of the data count."""
    cost = LevelDistance(17)
    assert cost.median_nearest() == pytest.approx(1 / 64)
    just_before = f64(1 - 1e-12)
    close(ConstantSpeedBeta().build(cost)(just_before)[0], [512.0], 1e-4)
    close(ConstantSpeedBeta(100.0).build(cost)(just_before)[0], [100.0], 1e-4)
    ends = tuple(float(x in (0, 16)) for x in range(17))
    middle = f64(0.5)
    assert ConstantSpeedBeta(weights=ends).build(cost)(middle)[0] != ConstantSpeedBeta().build(cost)(middle)[0]
    with refuses(ValueError, found="1"):
        ConstantSpeedBeta(weights=(1.0,)).build(cost)


def test_level_distances() -> None:
    a = torch.tensor([0, 2])
    close(LevelDistance(5, 3.0).to_data(a), [[0, 0.125, 1, 3.375, 8], [1, 0.125, 0, 0.125, 1]], 1e-15)
    for cost in (LevelDistance(5, 3.0), EmbeddingDistance(((0.0, 1.0), (2.0, 0.5), (1.0, 1.0)), 1.5)):
        x = torch.arange(cost.vocab_size)
        close(cost.max_distance(x), cost.to_data(x).amax(0), 1e-15)


def test_embedding_distances() -> None:
    vectors = torch.randn(1500, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    cost = EmbeddingDistance(tuple(tuple(row) for row in vectors.tolist()), 4.0)
    a = torch.tensor([3, 1499, 700])
    expected = (vectors[a][:, None] - vectors).square().sum(2) ** 2
    torch.testing.assert_close(cost.to_data(a), expected, rtol=1e-12, atol=0)
    assert cost.to_data(a)[torch.arange(3), a].tolist() == [0.0] * 3
    assert cost.max_distance(a).tolist() == expected.amax(1).tolist() or torch.allclose(
        cost.max_distance(a), expected.amax(1)
    )
    few = EmbeddingDistance(tuple(tuple(row) for row in vectors[:50].tolist()))
    assert few.median_nearest() == pytest.approx(
        few.to_data(torch.arange(50)).fill_diagonal_(99.0).amin(1).median().item()
    )


def test_distance_tables_may_be_asymmetric() -> None:
    """entries[a][x] is the distance of x to a; the farthest data of x is in its column."""
    cost = DistanceTable(((0.0, 1.0, 5.0), (2.0, 0.0, 3.0), (4.0, 1.0, 0.0)))
    assert cost.to_data(torch.tensor([1])).tolist() == [[2.0, 0.0, 3.0]]
    assert cost.max_distance(torch.arange(3)).tolist() == [4.0, 1.0, 5.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: DistanceTable(((0.0, 1.0), (-2.0, 0.0))),
        lambda: DistanceTable(((0.0, 1.0), (1.0, 0.5))),
        lambda: DistanceTable(((0.0, 1.0), (1.0,))),
        lambda: DistanceTable(((0.0, math.nan), (1.0, 0.0))),
        lambda: DistanceTable(((0.0,),)),
        lambda: LevelDistance(1),
        lambda: LevelDistance(5, 0.0),
        lambda: PowerBeta(0.0),
        lambda: ConstantSpeedBeta(-1.0),
        lambda: EmbeddingDistance(((0.0,),)),
        lambda: EmbeddingDistance(((0.0,), (1.0, 2.0))),
        lambda: EmbeddingDistance(((0.0,), (math.inf,))),
        lambda: FIVE.log_probabilities(torch.tensor([0]), f64(0.5), 7),
        lambda: FlowMatching(FIVE, Tokens(5, (3,), MaskSource())),
        lambda: MetricPath(EmbeddingDistance(((1.0,), (1.0,)))).beta(torch.tensor([0.5])),
    ],
)
def test_invalid_distances_and_betas_are_refused(make) -> None:
    with refuses(ValueError):
        make()


def test_vocabularies_of_thousands_need_no_square_matrix() -> None:
    """Bounds, laws and samples of 5,000 codes; the path is made in a moment."""
    vectors = torch.randn(5000, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    path = MetricPath(EmbeddingDistance(tuple(tuple(row) for row in vectors.tolist())), PowerBeta(0.9, 3.0))
    x_1 = torch.randint(5000, (2, 3), generator=torch.Generator().manual_seed(1))
    x_t = path.sample(x_1, x_1, f64(0.1, 0.9), Rng(0).stream("path"))
    jumps = path.characteristics(torch.zeros(2, 3, 5000), x_t, f64(0.1).expand(2)).jumps
    assert jumps.hazard(0.2).isfinite().all()
    which = torch.ones_like(x_t, dtype=torch.bool)
    assert jumps.sample_destination(0.2, which, Rng(0).stream("land")).shape == (6,)


def shrink(x_1: Tensor, t: Tensor) -> Tensor:
    """Return the logits of `FIVE` by the definition."""
    v = torch.linspace(-1, 1, 5, dtype=t.dtype)
    return -3 * (t / (1 - t))[:, None] ** 2 * (v[x_1][:, None] - v) ** 2


def test_softmax_path_with_metric_logits_equals_the_metric_path() -> None:
    path, a, x = SoftmaxPath(shrink), torch.arange(5), torch.tensor([4, 0, 0, 1, 2])
    t = torch.linspace(0.1, 0.8, 5, dtype=F64)
    close(path.log_probabilities(a, t), FIVE.log_probabilities(a, t), 1e-13)
    torch.testing.assert_close(path.time_derivative(a, t), FIVE.time_derivative(a, t), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        path.expected_jumps(a, x, t, 0.9, 5)[0], FIVE.expected_jumps(a, x, t, 0.9, 5)[0], rtol=1e-12, atol=0
    )
    torch.testing.assert_close(
        path.max_hazard(x[None], t[:1], 0.9, 5), FIVE.max_hazard(x[None], t[:1], 0.9, 5), rtol=1e-12, atol=0
    )


def test_rates_stay_finite_for_vanishing_probabilities() -> None:
    """Data that a network draws may be far from the state; the mass there, 1e-309 here, has no inverse."""
    log_p, change = f64(0.0, -710.0, -800.0)[None].log_softmax(1), f64(0.0, -300.0, -400.0)[None]
    for s in (0.0, -1.0):
        outward = Tempered(s).outgoing(log_p, change, torch.tensor([1]))
        assert outward.isfinite().all()
        assert outward.sum() <= Tempered(s).max_outgoing(log_p, change)[0, 1]

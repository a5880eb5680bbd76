"""Jumps, flows and their sums from one posterior: tables and vectors of the reference, sections 12.5 and 13."""

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import (
    CircularBins,
    GaussianConditionalPath,
    IntervalBins,
    JumpPath,
    LatticeLevels,
    MaximalCoupling,
    MeanEndpoint,
    Mixture,
    PointEstimate,
    ProductPath,
    RotationConditionalPath,
    VonMisesConditionalPath,
)
from feller.paths.jumps.jump_step_rules import IntegratedRate
from feller.paths.processes import Characteristics, superpose
from feller.paths.schedules import Cosine, Polynomial
from feller.paths.time_distributions import linear_grid
from feller.sampling import RK4, Euler, Heun, Midpoint, simulate
from feller.spaces import SO3, Euclidean, Torus
from feller.spaces import Product as ProductSpace
from feller.spaces.rotations import rotation
from tests.errors import refuses
from tests.oracle import F64, close, f64

N = 10_000
SLOW = pytest.mark.slow
TWO = JumpPath(endpoint_support=LatticeLevels(-1.0, 1.0, 2))
PRIOR = f64(0.3, 0.7).log()


def constant(logits: Tensor):
    """Return a network of the prior of independent entries: exact, as the path adds the likelihood."""
    return lambda x, t, given: logits.to(x.dtype).expand(*x.shape, len(logits))


def normal_source(n: int = N) -> Tensor:
    """Return evenly spread quantiles of N(0, 1) in random order, [n, 1]."""
    even = (torch.arange(n, dtype=F64) + 0.5) / n
    return torch.special.ndtri(even)[torch.randperm(n, generator=torch.Generator().manual_seed(5))][:, None]


def ks(x: Tensor, cdf) -> float:
    return float(stats.kstest(x.double().flatten().numpy(), cdf).statistic)


def run(path: JumpPath, network, x: Tensor, steps: int, stop: float = 1.0, space=None, seed: int = 1) -> Tensor:
    solver = Euler(space or Euclidean((1,)))
    return simulate(path.process(network, {}), x, linear_grid(steps, 0.0, stop), solver, Rng(seed))


def posterior(x: Tensor, t: float = 0.5) -> Tensor:
    odds = PRIOR - (x[:, None] - t * f64(-1.0, 1.0)).square() / (2 * (1 - t) ** 2)
    return odds.softmax(-1)


def test_vector_of_the_marginal_kernel() -> None:
    """Section 13.4: posterior, velocity and rate for 0.3 delta(-1) + 0.7 delta(1) at t = 1/2."""
    x, t = f64(-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)[:, None], torch.full((7,), 0.5, dtype=F64)
    read = TWO.complete_prediction(PRIOR.expand(7, 1, 2), x, t)
    table = (0.00078213, 0.04098494, 0.23999587, 0.7, 0.94517884, 0.99221158, 0.99985625)
    close(read.softmax(-1)[:, 0, 1], table, 6e-9)
    flow = replace(TWO, jump_weight=0.0).characteristics(PRIOR.expand(7, 1, 2), x, t)
    table = (2.00312854, 0.16393975, -0.04001651, 0.8, 0.78071535, -0.0311537, -2.000575)
    close(flow.velocity[:, 0], table, 6e-8)
    jump = replace(TWO, jump_weight=1.0).characteristics(PRIOR.expand(7, 1, 2), x, t)
    assert jump.velocity is None
    table = f64(10.03754243, 0.90166864, 2.39995872, 2.0, 0.54821162, 0.17134532, 10.00689995)
    torch.testing.assert_close(jump.jumps.hazard(0.5 + 1e-7)[:, 0] / 1e-7, table, rtol=3e-6, atol=0)
    half = TWO.characteristics(PRIOR.expand(7, 1, 2), x, t)
    close(half.velocity, flow.velocity / 2, 1e-14)
    torch.testing.assert_close(half.jumps.hazard(0.5 + 1e-7)[:, 0] / 1e-7, table / 2, rtol=3e-6, atol=0)


@pytest.mark.parametrize(
    ("place", "table"),
    [(0.0, (0.4401758, 0.08803516, 0.20541537, 1.02707687)), (2.0, (0.00122247, 0.00024449, 0.29320604, 1.46603021))],
)
def test_vector_of_marginal_destinations(place: float, table: tuple[float, ...]) -> None:
    """Section 13.4: densities where a jump from x lands, in bins of .1: 200,000 jumps, 5 standard errors."""
    n = 200_000
    x, t = torch.full((n, 1), place, dtype=F64), torch.full((), 0.5, dtype=F64).expand(n)
    jumps = replace(TWO, jump_weight=1.0).characteristics(PRIOR.expand(n, 1, 2), x, t).jumps
    y = jumps.sample_destination(0.5 + 1e-7, torch.ones_like(x, dtype=torch.bool), Rng(0).stream("land"))
    for at, density in zip((-0.75, -0.25, 0.25, 0.75), table, strict=True):
        share = ((y - at).abs() < 0.05).double().mean().item() / 0.1
        assert abs(share - density) < 5 * math.sqrt(density / 0.1 / n) + 0.01 * density


def test_hazard_averages_survival_over_the_posterior() -> None:
    """exp(-H) = sum_z p(z | x) exp(-share Lambda_z), by hand, forward and with the corrector."""
    x, t, s = f64(-2.0, 0.1, 1.4)[:, None], torch.full((3,), 0.5, dtype=F64), 0.7
    p, law = posterior(x[:, 0]), GaussianConditionalPath()
    change = law.integrated_derivative(x, f64(-1.0, 1.0), t[:, None], f64(s))
    for share, b in ((0.3, 0.0), (1.0, 0.0), (0.5, 2.0)):
        number = share * ((1 + b) * (-change).clamp(min=0) + b * change.clamp(min=0))
        path = replace(TWO, jump_weight=share, corrector_rate=b)
        hazard = path.characteristics(PRIOR.expand(3, 1, 2), x, t).jumps.hazard(s)
        assert hazard.dtype == F64
        close(hazard[:, 0], -(p * torch.exp(-number)).sum(-1).log(), 1e-12)
        assert (path.characteristics(PRIOR.expand(3, 1, 2), x, t).jumps.hazard(1.0) == math.inf).all()


@pytest.mark.parametrize(
    ("survival", "most"),
    [
        (IntegratedRate(), {(0.8, 50): 0.0104, (0.95, 50): 0.0366, (0.95, 200): 0.0093}),
        (MaximalCoupling(), {(0.8, 50): 0.0, (0.95, 50): 0.0, (0.95, 200): 0.0}),
    ],
    ids=repr,
)
def test_conditional_jumps_have_the_marginals(survival, most: dict) -> None:
    """Section 13.2, with 10,000 paths: the printed KS within .02, 1.5 times the 95 % value of both samples."""
    path = JumpPath(endpoint_support=PointEstimate(), jump_weight=1.0, step_rule=survival)
    for (stop, steps), printed in most.items():
        y = run(path, lambda x, t, given: torch.ones_like(x), normal_source(), steps, stop)
        assert abs(ks(y, stats.norm(stop, 1 - stop).cdf) - printed) < 0.02


def mixed(x):
    return 0.3 * stats.norm(-1, 0.2).cdf(x) + 0.7 * stats.norm(1.5, 0.3).cdf(x)


FINE = IntervalBins(-2.2, 3.0, 130)
DENSITY = (
    0.3 / 0.2 * torch.exp(-0.5 * ((FINE.centres + 1) / 0.2) ** 2)
    + 0.7 / 0.3 * torch.exp(-0.5 * ((FINE.centres - 1.5) / 0.3) ** 2)
).log()


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        ({"jump_weight": 0.0}, (0.0204, 0.0095)),
        ({"jump_weight": 1.0}, (0.0649, 0.0475)),
        ({"jump_weight": 0.5}, (0.0095, 0.0075)),
    ],
    ids=repr,
)
def test_marginal_processes_transport_the_source_to_the_data(kind: dict, table: tuple[float, float]) -> None:
    """Section 13.3 at 20 and 50 steps: the printed KS within .016, the 99 % value of 10,000 paths."""
    for steps, printed in zip((20, 50), table, strict=True):
        y = run(JumpPath(endpoint_support=FINE, **kind), constant(DENSITY.float()), normal_source().float(), steps)
        assert abs(ks(y, mixed) - printed) < 0.016


def test_maximal_coupling_is_more_accurate_for_pure_jumps() -> None:
    """At 20 steps a KS below .025, where the explicit rate leaves .065."""
    path = JumpPath(endpoint_support=FINE, jump_weight=1.0, step_rule=MaximalCoupling())
    assert ks(run(path, constant(DENSITY.float()), normal_source().float(), 20), mixed) < 0.025


@pytest.mark.parametrize(
    ("share", "corrector"),
    [pytest.param(0.25, 0.0, marks=SLOW), (0.75, 0.0), pytest.param(0.5, 0.5, marks=SLOW), (1.0, 1.0), (0.3, 2.0)],
)
def test_every_jump_weight_and_corrector_keeps_the_marginals(share: float, corrector: float) -> None:
    """KS at t = .5 and, by 200 steps, .8: below 1.95 / sqrt(n) + .003 for the steps; false alarm 1e-3."""
    path = JumpPath(
        endpoint_support=FINE,
        jump_weight=share,
        corrector_rate=corrector,
        step_rule=MaximalCoupling() if share == 1 else None,
    )
    for stop in (0.5, 0.8):
        y = run(path, constant(DENSITY.float()), normal_source(4000).float(), 60, stop)
        a, b = (math.hypot(stop * sd, 1 - stop) for sd in (0.2, 0.3))

        def cdf(x, stop=stop, a=a, b=b):
            return 0.3 * stats.norm(-stop, a).cdf(x) + 0.7 * stats.norm(1.5 * stop, b).cdf(x)

        assert ks(y, cdf) < 1.95 / math.sqrt(4000) + 0.003


def test_jump_weight_zero_is_the_flow_and_one_the_jump_process() -> None:
    x, network, grid = normal_source(500), constant(PRIOR), linear_grid(12)
    flow, leap = (replace(TWO, jump_weight=share).process(network, {}) for share in (0.0, 1.0))

    def velocity_alone(x: Tensor, t: Tensor) -> Characteristics:
        mean = TWO.complete_prediction(network(x, t, {}), x, t).softmax(-1) @ f64(-1.0, 1.0)
        return Characteristics(TWO.conditional_path.velocity(x, mean, t[:, None]))

    by_hand = simulate(velocity_alone, x, grid[:-1], Euler(), Rng(1))
    assert torch.equal(simulate(flow, x, grid[:-1], Euler(), Rng(1)), by_hand)
    finish = replace(TWO, jump_weight=0.0, final_step=MeanEndpoint()).process(network, {})
    assert torch.equal(simulate(finish, x, grid, Euler(), Rng(1)), simulate(velocity_alone, x, grid, Euler(), Rng(1)))
    jumps = simulate(leap, x, grid, Euler(), Rng(1))
    assert torch.equal(simulate(superpose((0.0, flow), (1.0, leap)), x, grid, Euler(), Rng(1)), jumps)
    assert leap(x, torch.full((500,), 0.3)).velocity is None
    still = simulate(flow, x, grid, Euler(), Rng(1))
    assert set(still.flatten().tolist()) == {-1.0, 1.0}


def test_the_final_step_samples_or_takes_the_mean() -> None:
    x, t = normal_source(4000), torch.full((4000,), 0.9, dtype=F64)
    which = torch.ones(4000, 1, dtype=torch.bool)
    p = posterior(x[:, 0], 0.9)
    for share in (0.0, 0.5, 1.0):
        now = replace(TWO, jump_weight=share).characteristics(PRIOR.expand(4000, 1, 2), x, t)
        assert (now.jumps.hazard(1.0) == math.inf).all()
        y = now.jumps.sample_destination(1.0, which, Rng(0).stream("x"))
        assert set(y.tolist()) == {-1.0, 1.0}
        assert abs((y > 0).double().mean() - p[:, 1].mean()) < 5 * 0.5 / math.sqrt(4000)  # false alarm 6e-7
    now = replace(TWO, final_step=MeanEndpoint()).characteristics(PRIOR.expand(4000, 1, 2), x, t)
    close(now.jumps.sample_destination(1.0, which, Rng(0).stream("x")), p @ f64(-1.0, 1.0), 1e-12)
    assert (
        replace(TWO, jump_weight=0.0, final_step=MeanEndpoint()).characteristics(PRIOR.expand(4000, 1, 2), x, t).jumps
        is None
    )


def test_dependent_entries_keep_their_joint_distribution() -> None:
    """Section 13.8.4: four atoms, most on the diagonal, exact posterior of each part given both.

    Shares of atoms within 5 standard errors (false alarm 6e-7) beside .02 for the steps, 4,000 paths of 100 steps;
    independent parts would be .25 off.
    """
    atoms = f64(-1, -1, 1, 1, -1, 1, 1, -1).view(4, 2)
    weights = f64(0.45, 0.45, 0.05, 0.05)

    def network(x: Tensor, t: Tensor, given: dict) -> Tensor:
        """Return logits of each entry given both, minus its own log likelihood, which the path adds."""
        t = t[:, None, None]
        fit = -((x[:, None] - t * atoms).square()) / (2 * (1 - t) ** 2)  # [b, 4, 2]
        joint = (weights.log() + fit.sum(-1)).softmax(-1)
        up = torch.stack([(joint * (atoms[:, i] > 0)).sum(-1) for i in range(2)], -1)
        logits = torch.stack([1 - up, up], -1).clamp(min=1e-300).log()
        own = -((x[..., None] - t * f64(-1.0, 1.0)).square()) / (2 * (1 - t) ** 2)
        return logits - own

    x = Rng(0).stream("x").normal((4000, 2), F64)
    for share in (1.0, 0.5):
        path = replace(TWO, jump_weight=share, step_rule=MaximalCoupling() if share == 1 else None)
        y = run(path, network, x, 100)
        shares = torch.stack([(y == atom).all(1).double().mean() for atom in atoms])
        close(shares, weights, 5 * math.sqrt(0.25 / 4000) + 0.02)
        assert shares[2:].sum() < 0.15


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_product_path_samples_its_leaves_independently(share: float) -> None:
    """Section 13.8.6: numbers beside tokens, with a network for both. Each leaf's sampler alone has the same law.

    KS and shares of tokens below 1.95 / sqrt(n) each between two samples (false alarm 2e-3); and, as draws are
    addressed by step, nearly all tokens are drawn alike.
    """
    n = 3000
    real, token = replace(TWO, jump_weight=share, endpoint_support=IntervalBins(-2.0, 2.0, 16)), Mixture()
    logits, words = torch.linspace(0, 2, 16, dtype=F64), f64(0.2, 0.3, 0.5).log()

    def network(x: dict, t: dict, given: dict) -> dict:
        return {"real": constant(logits)(x["real"], t, given), "token": words.expand(*x["token"].shape, 3)}

    x = {"real": normal_source(n), "token": Rng(2).stream("x").randint(3, (n, 2))}
    space = ProductSpace({"real": Euclidean((1,)), "token": Euclidean((2,))})
    both = simulate(
        ProductPath({"real": real, "token": token}).process(network, {}), x, linear_grid(20), Euler(space), Rng(3)
    )
    alone = run(real, constant(logits), x["real"], 20, seed=4)
    assert stats.ks_2samp(both["real"].flatten().numpy(), alone.flatten().numpy()).statistic < 1.95 * math.sqrt(2 / n)
    tokens = simulate(
        token.process(lambda x, t, given: words.expand(*x.shape, 3), {}), x["token"], linear_grid(20), Euler(), Rng(5)
    )
    for symbol in range(3):
        ours, theirs = ((y == symbol).double().mean() for y in (both["token"], tokens))
        assert abs(ours - theirs) < 1.95 * math.sqrt(2 / (2 * n))


def around(y: Tensor, z: float) -> Tensor:
    return torch.remainder(y.double() - z + math.pi, 2 * math.pi) - math.pi


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("stop", [0.4, pytest.param(0.8, marks=SLOW), 0.95])
def test_marginals_on_the_circle(share: float, stop: float) -> None:
    """Section 12.5: one atom, 10,000 angles, 100 steps; KS at most .0136, from an even source."""
    law, space = VonMisesConditionalPath(), Torus((1,))
    even = 2 * math.pi * (torch.arange(N) + 0.5) / N
    x = even[torch.randperm(N, generator=torch.Generator().manual_seed(6))][:, None].float()
    path = JumpPath(conditional_path=law, endpoint_support=PointEstimate(space), jump_weight=share)
    y = run(path, lambda x, t, given: torch.full_like(x, 1.0), x, 100, stop, space)
    assert y.dtype == torch.float32
    assert (y >= 0).all()
    assert (y < 2 * math.pi).all()
    kappa = float(law.concentration(f64(stop)))
    assert ks(around(y, 1.0), stats.vonmises(kappa).cdf) <= 0.0136


def test_binned_angles_have_their_probabilities() -> None:
    """A posterior over 12 bins of the circle, prior known: shares within 5 standard errors and .01 for the steps."""
    shares = torch.linspace(1, 3, 12, dtype=F64)
    path = JumpPath(conditional_path=VonMisesConditionalPath(), endpoint_support=CircularBins(12), jump_weight=1.0)
    x = Torus((1,)).sample_base(6000, Rng(0).stream("x"))
    y = run(path, constant(shares.log().float()), x, 40, space=Torus((1,)))
    got = torch.bincount(path.endpoint_support.target(y).flatten(), minlength=12).double() / 6000
    close(got, shares / shares.sum(), 5 * math.sqrt(0.1 / 6000) + 0.01)
    inside = around(y, 0.0).remainder(2 * math.pi / 12) * 12 / (2 * math.pi)
    assert ks(inside, stats.uniform.cdf) < 1.95 / math.sqrt(6000)  # ends are spread over their bins


@pytest.mark.parametrize("share", [pytest.param(0.0, marks=SLOW), 0.5, 1.0])
def test_marginals_of_rotations(share: float) -> None:
    """The law of the angle from the end at t = .25 after 60 steps: KS of 3,000 below 1.95 / sqrt(n) + .02 for them."""
    n, law, stop = 3000, RotationConditionalPath(), 0.25
    z = rotation(f64(0.3, 1.0, -0.5)).float()
    x = SO3().sample_base(n, Rng(0).stream("x"))
    path = JumpPath(conditional_path=law, endpoint_support=PointEstimate(SO3()), jump_weight=share)
    y = run(path, lambda x, t, given: 1.7 * z.expand_as(x), x, 60, stop, SO3())
    assert SO3().constraint_error(y).max() < 1e-4
    angle, _ = law.angle_and_direction(y.double(), z.double())
    exact, _ = law.angle_and_direction(law.sample(x.double(), z.double(), f64(stop)), z.double())
    assert stats.ks_2samp(angle.numpy(), exact.numpy()).statistic < 1.95 * math.sqrt(2 / n) + 0.02
    end = simulate(path.process(lambda x, t, given: z.expand_as(x), {}), y, [stop, 0.6, 1.0], Euler(SO3()), Rng(4))
    close(end, z.expand(n, 3, 3), 1e-4)


def test_complete_prediction_is_finite_near_the_data() -> None:
    """In single precision at t = 1 - 6e-8 the nearest end has all mass, with finite gradients."""
    path = JumpPath(endpoint_support=IntervalBins(-1.0, 1.0, 8))
    x = torch.tensor([[-0.9, 0.1], [5.0, 0.875]])
    for t in (0.0, 0.5, 1 - 2**-24, 1.0):
        logits = torch.zeros(2, 2, 8, requires_grad=True)
        read = path.complete_prediction(logits, x, torch.full((2,), t))
        assert read.isfinite().all()
        torch.nn.functional.cross_entropy(read.flatten(0, 1), path.target(x, x, x, torch.ones(2)).flatten()).backward()
        assert logits.grad.isfinite().all()
    assert read.softmax(-1).argmax(-1).tolist() == [[0, 4], [7, 7]]


def test_targets_are_the_nearest_bins() -> None:
    x = f64(-7.0, -1.0, -0.51, 0.0, 0.99, 3.0)
    assert IntervalBins(-1.0, 1.0, 4).target(x).tolist() == [0, 0, 0, 2, 3, 3]
    assert LatticeLevels(-1.0, 1.0, 3).target(x).tolist() == [0, 0, 0, 1, 2, 2]
    assert CircularBins(4).target(f64(0.0, -0.1, 3.2, 6.29)).tolist() == [0, 3, 2, 0]
    for ends in (IntervalBins(-1.0, 3.0, 5), LatticeLevels(-1.0, 3.0, 5), CircularBins(5)):
        assert ends.target(ends.centres).tolist() == [0, 1, 2, 3, 4]


def test_endpoints_are_spread_over_their_bins() -> None:
    u, index = f64(0.0, 0.5, 1.0), torch.tensor([0, 1, 1])
    close(IntervalBins(0.0, 2.0, 2).select(IntervalBins(0.0, 2.0, 2).centres, index, u), (0.0, 1.5, 2.0), 1e-15)
    half = IntervalBins(0.0, 2.0, 2, spread=0.5)
    close(half.select(half.centres, index, u), (0.25, 1.5, 1.75), 1e-15)
    assert LatticeLevels(0.0, 1.0, 2).select(LatticeLevels(0.0, 1.0, 2).centres, index, u).tolist() == [0, 1, 1]
    close(CircularBins(2).select(CircularBins(2).centres, torch.tensor([0]), f64(0.0)), 0.0, 1e-15)
    middle = CircularBins(4).mean(f64(0.5, 0.0, 0.0, 0.5)[None], CircularBins(4).centres)
    close(torch.sin(middle), 0.0, 1e-7)
    close(torch.cos(middle), 1.0, 1e-7)  # the mean of 315 and 45 degrees is 0, not 180


def test_rows_are_independent() -> None:
    path = JumpPath(endpoint_support=IntervalBins(-2.0, 2.0, 16), corrector_rate=0.5)
    process = path.process(constant(torch.linspace(0, 1, 16, dtype=F64)), {})
    x = normal_source(300).view(100, 3)
    whole = simulate(process, x, linear_grid(5), Euler(), Rng(0))
    parts = [
        simulate(process, x[a:b], linear_grid(5), Euler(), Rng(0, first_example=a))
        for a, b in ((0, 1), (1, 40), (40, 100))
    ]
    close(torch.cat(parts), whole, 1e-9)


@pytest.mark.parametrize("schedule", [Cosine(), pytest.param(Polynomial(2.0), marks=SLOW)], ids=repr)
def test_superpositions_on_other_schedules_are_as_accurate_as_the_flow(schedule) -> None:
    """40 steps: by an overlap beside the flow the KS is .049 and .026, by the usual way .022 and .015."""
    path = JumpPath(conditional_path=GaussianConditionalPath(schedule), endpoint_support=FINE, jump_weight=0.5)
    flow, both = (
        ks(run(replace(path, jump_weight=share), constant(DENSITY.float()), normal_source().float(), 40), mixed)
        for share in (0.0, 0.5)
    )
    assert both < flow + 0.012
    wrong = replace(path, step_rule=MaximalCoupling())
    assert ks(run(wrong, constant(DENSITY.float()), normal_source().float(), 40), mixed) > both + 0.005


@pytest.mark.parametrize("solver", [Euler, Midpoint, Heun, RK4])
def test_the_flow_to_the_mean_endpoint_is_finite_for_every_solver(solver) -> None:
    """Some rules look at t = 1, where a mean end alone says nothing of the deviation, which is none."""
    path = JumpPath(endpoint_support=IntervalBins(-1.0, 1.0, 16), jump_weight=0.0, final_step=MeanEndpoint())
    x = normal_source(200).float()
    y = simulate(path.process(constant(torch.zeros(16)), {}), x, linear_grid(10), solver(), Rng(0))
    assert y.abs().max() < 1.2


@pytest.mark.parametrize(
    "wrong",
    [
        {"jump_weight": 1.5},
        {"corrector_rate": -1.0},
        {"conditional_path": VonMisesConditionalPath()},
        {"endpoint_support": CircularBins()},
        {"conditional_path": RotationConditionalPath()},
        {"conditional_path": GaussianConditionalPath(Cosine()), "step_rule": IntegratedRate()},
    ],
)
def test_parts_that_do_not_fit_are_refused(wrong: dict) -> None:
    with refuses(UsageError):
        JumpPath(**wrong)


def test_invalid_bins_and_predictions_are_refused() -> None:
    for make in (
        lambda: IntervalBins(1.0, 0.0),
        lambda: IntervalBins(num_bins=1),
        lambda: CircularBins(spread=2.0),
        lambda: LatticeLevels(num_levels=1),
    ):
        with pytest.raises(UsageError):
            make()
    with refuses(UsageError, found="3"):
        TWO.complete_prediction(torch.zeros(1, 1, 3), torch.zeros(1, 1), torch.zeros(1))

"""Binned jump rates: the vector of the reference, section 13.5, and exact rates."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import (
    BinnedJumpPath,
    CircularBins,
    GaussianConditionalPath,
    IntervalBins,
    LatticeLevels,
    RotationConditionalPath,
    VonMisesConditionalPath,
)
from feller.paths.schedules import Cosine
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from feller.training.losses import InfinitesimalKL, RateAndVelocityLoss
from tests.errors import refuses
from tests.oracle import F64, close, f64

FOUR = BinnedJumpPath(bins=LatticeLevels(-1.2, 1.2, 4))


def answer(path: BinnedJumpPath, rates: Tensor, velocity: Tensor | None = None) -> Tensor:
    """Return the network output for given rates to bins, which it states times 1 - t, [..., bins]."""
    total = rates.sum(-1, keepdim=True).clamp(min=1e-12)
    raw = torch.where(total > 20, total, torch.expm1(total.clamp(max=20)).log())
    parts = [(rates / total).clamp(min=1e-30).log(), raw]
    return torch.cat(parts if velocity is None else [*parts, velocity[..., None]], -1)


def test_vector_of_target_and_loss() -> None:
    """Section 13.5: x = -.6 in bin 1 at t = .5 with z = 1; Q, and the loss of lambda = 3, J = (.1, .2, .4, .3)."""
    x, z, t = f64(-0.6)[:, None], f64(1.0)[:, None], f64(0.5)
    target = FOUR.target(x, x, z, t)
    close(target[0, 0] / 0.5, (0, 0, 9.88806491, 2.19193509), 6e-8)
    close(FOUR.destination_probs(z, t[:, None])[0, 0], (0, 0, 0.81854842, 0.18145158), 6e-9)
    read = FOUR.complete_prediction(answer(FOUR, 0.5 * 3 * f64(0.1, 0.2, 0.4, 0.3))[None, None], x, t)
    close(read.exp()[0, 0] / 0.5, 3 * f64(0.1, 0.0, 0.4, 0.3), 1e-12)
    loss = InfinitesimalKL()(read, target, x, t)
    close(loss / 0.5, 13.1251378579, 6e-7)  # (1 - t) times the loss of the rates themselves


def test_the_rate_to_the_own_bin_is_zero() -> None:
    x, z, t = f64(1.2, -1.2)[:, None], f64(1.0, 1.0)[:, None], f64(0.5, 0.5)
    assert (FOUR.target(x, x, z, t)[:, 0, [3, 0]].diagonal() == 0).all()
    prediction = torch.zeros(2, 1, 5, dtype=F64, requires_grad=True)
    read = FOUR.complete_prediction(prediction, x, t)
    close(read.exp().sum(-1), torch.full((2, 1), 0.75 * math.log(2), dtype=F64), 1e-12)


def test_hazard_and_destinations_of_predicted_rates() -> None:
    """The survival with R of section 8 for the answered rate; landings in bins in proportion, never the own one."""
    n = 20_000
    x, t = torch.full((n, 1), -0.6, dtype=F64), torch.full((n,), 0.5, dtype=F64)
    rates = 0.5 * f64(0.3, 0.7, 1.2, 0.8)
    now = FOUR.characteristics(answer(FOUR, rates).expand(n, 1, 5), x, t)
    assert now.velocity is None
    lam = 0.3 + 1.2 + 0.8
    expected = lam * 0.5 / 2 * ((0.5 / 0.4) ** 2 - 1)
    close(now.jumps.hazard(0.6)[:3, 0], (expected,) * 3, 1e-9)
    assert (now.jumps.hazard(1.0) > 1e9).all()
    y = now.jumps.sample_destination(0.6, torch.ones_like(x, dtype=torch.bool), Rng(0).stream("land"))
    for place, rate in ((-1.2, 0.3), (-0.4, 0.0), (0.4, 1.2), (1.2, 0.8)):
        share = (y == place).double().mean().item()
        assert abs(share - rate / lam) < 5 * math.sqrt(0.25 / n)  # false alarm 6e-7


def test_the_last_step_may_stay_in_its_bin() -> None:
    n, p = 20_000, f64(0.1, 0.6, 0.2, 0.1)
    x, t = torch.full((n, 1), -0.5, dtype=F64), torch.full((n,), 0.9, dtype=F64)
    prediction = torch.cat([p.log(), f64(0.0)]).expand(n, 1, 5)
    now = FOUR.characteristics(prediction, x, t)
    assert (now.jumps.hazard(1.0) > 1e9).all()
    y = now.jumps.sample_destination(1.0, torch.ones_like(x, dtype=torch.bool), Rng(0).stream("land"))
    for place, chance in ((-1.2, 0.1), (-0.5, 0.6), (0.4, 0.2), (1.2, 0.1)):
        assert abs(((y - place).abs() < 1e-9).double().mean() - chance) < 5 * 0.5 / math.sqrt(n)  # false alarm 6e-7


@pytest.mark.parametrize("share", [None, 0.0, 0.5, 1.0])
def test_exact_rates_keep_the_marginals(share: float | None) -> None:
    """Two atoms, rates averaged over the posterior, 64 bins: KS at t = .5 after 50 steps below .025 for 6,000 paths.

    The 99.9 % value is .0252 for a right law; a wrong weight of landings moves it above .05.
    """
    path, atoms, prior = (
        BinnedJumpPath(bins=IntervalBins(-2.0, 2.0, 64), jump_weight=share),
        f64(-1.0, 1.0),
        f64(0.3, 0.7),
    )

    def network(x: Tensor, t: Tensor, given: dict) -> Tensor:
        z = atoms.expand(*x.shape, 2)
        time = t[:, None, None]
        law = GaussianConditionalPath()
        p = (prior.log() + law.log_density(x[..., None], z, time)).softmax(-1)
        rates = law.time_derivative(x[..., None], z, time).neg().clamp(min=0) * (1 - time)
        flat = path.destination_probs(atoms[:, None], t[:1].expand(2)[:, None])[:, 0]
        velocity = (p * law.velocity(x[..., None], z, time)).sum(-1)
        return answer(path, (p * rates) @ flat, None if share is None else velocity)

    even = torch.special.ndtri((torch.arange(6000, dtype=F64) + 0.5) / 6000)
    x = even[torch.randperm(6000, generator=torch.Generator().manual_seed(1))][:, None]
    y = simulate(path.process(network, {}), x, linear_grid(50, 0.0, 0.5), Euler(), Rng(2))

    def cdf(v):
        return 0.3 * stats.norm(-0.5, 0.5).cdf(v) + 0.7 * stats.norm(0.5, 0.5).cdf(v)

    assert stats.kstest(y.flatten().numpy(), cdf).statistic < 0.025


def test_velocity_is_predicted_along_with_rates() -> None:
    path = BinnedJumpPath(jump_weight=0.5)
    x_0, x_1, t = f64(0.3, -0.4)[:, None], f64(1.0, -0.2)[:, None], f64(0.4, 1.0)
    x_t = path.sample(x_0, x_1, t)
    target = path.target(x_t, x_0, x_1, t)
    assert target.shape == (2, 1, 65)
    close(target[:, 0, -1], (0.7, 0.2), 1e-12)
    assert target.isfinite().all()
    prediction = torch.randn(2, 1, 66, dtype=F64, generator=torch.Generator().manual_seed(0))
    loss = RateAndVelocityLoss()(path.complete_prediction(prediction, x_t, t), target, x_t, t)
    assert loss.shape == (2,)
    assert loss.isfinite().all()
    now = path.characteristics(prediction, x_t, t)
    close(now.velocity, prediction[..., -1] / 2, 1e-15)


@pytest.mark.parametrize(
    "law", [GaussianConditionalPath(), GaussianConditionalPath(Cosine()), VonMisesConditionalPath()], ids=repr
)
def test_targets_are_finite_at_all_times(law) -> None:
    path = BinnedJumpPath(
        conditional_path=law,
        bins=CircularBins(16) if isinstance(law, VonMisesConditionalPath) else IntervalBins(-1.65, 1.65, 16),
    )
    x_0, x_1 = torch.tensor([[0.3], [2.0], [-0.7]]), torch.tensor([[0.95], [0.1], [0.4]])
    for time in (0.0, 0.5, 0.999, 1 - 2**-24):
        t = torch.full((3,), time)
        x_t = path.sample(x_0, x_1, t)
        target = path.target(x_t, x_0, x_1, t)
        assert target.dtype == torch.float32
        assert target.isfinite().all()
        assert (target >= 0).all()
    home = path.destination_probs(x_1, t[:, None])
    assert home.argmax(-1).flatten().tolist() == path.bins.target(x_1).flatten().tolist()


def test_log_rates_do_not_underflow() -> None:
    prediction = torch.tensor([0.0, 0.0, 0.0, 0.0, -200.0])[None, None]
    close(FOUR.complete_prediction(prediction, torch.zeros(1, 1), torch.zeros(1))[0, 0, 0], -200 - math.log(4), 1e-3)


def test_incompatible_parts_are_refused() -> None:
    with refuses(UsageError, argument="jump_weight", found="2"):
        BinnedJumpPath(jump_weight=2.0)
    for wrong in (
        {"conditional_path": VonMisesConditionalPath()},
        {"conditional_path": RotationConditionalPath()},
        {"bins": CircularBins()},
    ):
        with refuses(UsageError):
            BinnedJumpPath(**wrong)
    with refuses(UsageError, found="[1, 1, 4]"):
        FOUR.complete_prediction(torch.zeros(1, 1, 4), torch.zeros(1, 1), torch.zeros(1))

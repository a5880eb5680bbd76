"""The estimated distance from the target against closed forms of normal laws and of two modes."""

import math

import pytest
import torch
from torch import Tensor

from feller.control.fine_tuning.memoryless_chain import roll_out
from feller.control.fine_tuning.target_gap import MIN_GROUP, TargetGap, compare_paths, target_gap
from feller.core.rng import Rng
from feller.paths.processes import Characteristics, Process
from feller.paths.time_distributions import linear_grid
from feller.sampling import MemorylessEuler
from tests.oracle import F64, Normal

CENTRES, VARIANCE = torch.tensor([-2.0, 1.5], dtype=F64), 0.16


def modes(shares: Tensor, shift: float = 0.0) -> Process:
    """Return the exact flow of two normal modes."""

    def flow(x: Tensor, t: Tensor) -> Characteristics:
        t = t[:, None]
        variance, away = t**2 * VARIANCE + (1 - t) ** 2, x - t * (CENTRES + shift)
        posterior = (shares.log() - away.square() / (2 * variance)).softmax(1)
        velocity = CENTRES + shift + (t * VARIANCE - (1 - t)) / variance * away
        return Characteristics(velocity=(posterior * velocity).sum(1, keepdim=True))

    return flow


def estimate(base: Process, tuned: Process, scale: float, n: int) -> TargetGap | None:
    x_0, times, solver = Rng(0).stream("source").normal((n, 1), F64), linear_grid(80), MemorylessEuler()
    chains = [roll_out(flow, x_0, times, solver, Rng(number)) for number, flow in enumerate((tuned, base))]
    compared, base_ratio = compare_paths(chains[0], base), compare_paths(chains[1], tuned).log_ratio
    rewards, group = (
        [end[:, 0] * math.copysign(1, scale) for end in (compared.end, chains[1].end)],
        torch.zeros(n).long(),
    )
    return target_gap(compared.log_ratio, rewards[0], base_ratio, rewards[1], reward_scale=abs(scale), group=group)


@pytest.mark.parametrize(("mean", "kl"), [(1.0, 0.5), (1.25, 0.125), (1.5, 0.0), (1.75, 0.125)])
def test_normal_laws(mean: float, kl: float) -> None:
    """N(1, 0.25) with r = 2 x has the target N(1.5, 0.25), at 2 (mean - 1.5)^2 nats from N(mean, 0.25)."""
    gap = estimate(Normal().flow, Normal(m=mean).flow, 2.0, 2000)
    assert gap is not None
    assert gap.kl == pytest.approx(kl, abs=0.03)
    assert gap.reward == pytest.approx(1.5, abs=0.03)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_two_modes_far_apart(share: float) -> None:
    """Modes whose target has 0.976 of the mass at the left; the tuned flow has another share there."""
    slope, shares = -1.3, torch.tensor([0.3, 0.7], dtype=F64)
    target = (shares.log() + slope * CENTRES).softmax(0)
    tuned = torch.tensor([share, 1 - share], dtype=F64)
    wanted = (tuned * (tuned / target).log()).sum().item()  # the modes do not overlap
    gap = estimate(modes(shares), modes(tuned, slope * VARIANCE), slope, 2000)
    assert gap is not None
    assert gap.kl == pytest.approx(wanted, abs=0.06 * wanted + 0.04)
    assert gap.reward == pytest.approx(-(target @ (CENTRES + slope * VARIANCE)).item(), abs=0.06)


def test_a_ratio_of_equal_flows_is_zero() -> None:
    flow = Normal().flow
    chain = roll_out(flow, Rng(0).stream("source").normal((3, 1), F64), linear_grid(5), MemorylessEuler(), Rng(1))
    compared = compare_paths(chain, flow)
    assert compared.cost.tolist() == compared.log_ratio.tolist() == [0.0] * 3
    assert torch.equal(compared.end, chain.end)


def test_each_condition_has_its_own_constant() -> None:
    """Two conditions with rewards 0 and 5 for all: nothing is tilted, so nothing is missing."""
    group = torch.arange(2).repeat_interleave(MIN_GROUP)
    zeros, rewards = torch.zeros(len(group)), 5.0 * group
    gap = target_gap(zeros, rewards, zeros, rewards, reward_scale=1.0, group=group)
    assert gap is not None
    assert (gap.kl, gap.reward, gap.effective_fraction) == (pytest.approx(0, abs=1e-12), 2.5, pytest.approx(1))
    assert target_gap(zeros[1:], rewards[1:], zeros[1:], rewards[1:], reward_scale=1.0, group=group[1:]) is None
    merged = target_gap(zeros, rewards, zeros, rewards, reward_scale=1.0, group=torch.zeros_like(group))
    assert merged is not None
    assert merged.kl == pytest.approx(math.log((1 + math.exp(5)) / 2) - 2.5, abs=1e-6)

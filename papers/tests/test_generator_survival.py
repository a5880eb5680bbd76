"""Steps of jumps that are worse than the usual, and a diffusion without drift: tables of the reference, section 13."""

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from tests.oracle import F64, close, f64
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import GaussianConditionalPath, IntervalBins, JumpPath
from feller.paths.jumps.jump_step_rules import EulerJump, IntegratedRate
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from feller.spaces import Euclidean
from feller_papers.generator_matching import kernels
from feller_papers.generator_matching.absorbed import AbsorbingDiffusion
from feller_papers.generator_matching.setting import JUMPS
from feller_papers.generator_matching.survival import AtStart, FrozenRate

FINE = IntervalBins(-2.2, 3.0, 130)
DENSITY = (
    0.3 / 0.2 * torch.exp(-0.5 * ((FINE.centres + 1) / 0.2) ** 2)
    + 0.7 / 0.3 * torch.exp(-0.5 * ((FINE.centres - 1.5) / 0.3) ** 2)
).log()


def test_frozen_rates_in_numbers() -> None:
    """Section 13.5: a state with rate 2 at t has s^2 - s = 1 + 2 (1 - t) for z = 1."""
    law, z = GaussianConditionalPath(), f64(1.0)
    for t in (0.6, 0.9):
        s = (1 + math.sqrt(1 + 4 * (1 + 2 * (1 - t)))) / 2
        x, now, later = f64(t + (1 - t) * s), f64(t), f64(t + 0.05)
        close(FrozenRate().log_density_change(law, x, z, now, later).exp(), 0.9048374180, 6e-11)


def test_at_start_lands_where_the_law_rises_at_t() -> None:
    t, s = f64(0.2), f64(0.3)
    assert AtStart(IntegratedRate()).destination_times(t, s) == (t, t)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("survival", "most"),
    [
        (AtStart(EulerJump()), {(0.8, 50): 0.0154, (0.95, 50): 0.0717, (0.95, 200): 0.0154}),
        (AtStart(FrozenRate()), {(0.8, 50): 0.0214, (0.95, 50): 0.1046, (0.95, 200): 0.0315}),
    ],
    ids=repr,
)
def test_conditional_jumps_alone_have_the_law(survival, most: dict) -> None:
    """Section 13.2, with 10,000 paths: the printed KS within .02, 1.5 times the 95 % value of both samples."""
    sampler = replace(JUMPS, step_rule=survival)
    for (stop, steps), printed in most.items():
        found = kernels._distance(GaussianConditionalPath(), Euclidean((1,)), sampler, steps, stop, 0)
        assert abs(found - printed) < 0.02


def mixed(x):
    return 0.3 * stats.norm(-1, 0.2).cdf(x) + 0.7 * stats.norm(1.5, 0.3).cdf(x)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "table"), [(1.0, (0.1077, 0.0735)), (0.5, (0.0419, 0.0255))])
def test_marginal_processes_carry_the_source_to_the_data(share: float, table: tuple[float, float]) -> None:
    """Section 13.3 at 20 and 50 steps: the printed KS within .016, the 99 % value of 10,000 paths."""
    shuffled_grid = (torch.arange(10_000, dtype=F64) + 0.5) / 10_000
    x = torch.special.ndtri(shuffled_grid)[torch.randperm(10_000, generator=torch.Generator().manual_seed(5))][
        :, None
    ].float()

    def network(x: Tensor, t: Tensor, given: dict) -> Tensor:
        return DENSITY.float().expand(*x.shape, len(DENSITY))

    path = JumpPath(endpoint_support=FINE, jump_weight=share, step_rule=AtStart(IntegratedRate()))
    for steps, printed in zip((20, 50), table, strict=True):
        y = simulate(path.process(network, {}), x, linear_grid(steps), Euler(Euclidean((1,))), Rng(1))
        assert abs(stats.kstest(y.double().flatten().numpy(), mixed).statistic - printed) < 0.016


def test_vector_of_the_pure_diffusion() -> None:
    """Section 13.7, and absorption: of 4,000 paths the share at z at t = .9 is .89 (printed .886 to .899)."""
    better = AbsorbingDiffusion(0.0, 1.0)
    x, z = f64(0.0, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0), f64(0.3)
    close(better.variance(x, z, 0.4, 1.0), (0.15, 0.133333, 0.083333, 0, 0.4, 0.75, 0.816667), 6e-7)
    generator, y, steps = torch.Generator().manual_seed(0), torch.rand(4000, dtype=F64), 400
    for i in range(steps):
        t, h = 0.9 * i / steps, 0.9 / steps
        noise = torch.randn(4000, dtype=F64, generator=generator)
        y = better.absorb(y, y + (h * better.variance(y, z, t, 1.0)).sqrt() * noise, z)
    assert abs((y == z).double().mean().item() - 0.89) < 0.035
    assert (y - 0.5).abs().max() <= 0.5
    with pytest.raises(UsageError, match="low < high"):
        AbsorbingDiffusion(1.0, 0.0)

"""Beyond the paper: counts with a long tail, one alone, or two that share a rate, at few calls of one network."""

import functools
import statistics
from dataclasses import replace

import torch
from jaxtyping import Float, Float64
from scipy import stats
from torch import Tensor

from feller.core.rng import Rng, categorical
from feller.networks.mlp import MLP
from feller.paths import JumpPath, LatticeLevels
from feller.spaces import Euclidean
from feller.training.losses import CrossEntropy
from feller.training.objective import FlowMatching
from feller.training.optimizer import TrainConfig
from feller_papers.claims import Claim, mean_of, verdict
from feller_papers.generator_matching.fitted import Fitted, fit
from feller_papers.generator_matching.rows import Measure, all_below, ranges, ratios, table
from feller_papers.generator_matching.setting import LATE, OVERLAP, WAYS, Setting, Way

MOST = 32
"""Larger counts count as this one."""
SHAPE, MEAN = 0.5, 3.0
"""Of the gamma law of the rate: the variance of a count is 7 times its mean."""
FEW, MORE = (4, 8), (16,)
"""Of the network."""
MIDPOINTS = ("midpoint flow", *(f"midpoint flow, late {power:g}" for power in LATE))
"""The flow on four grids."""
TRAINING = TrainConfig(batch_size=512, lr=2e-3, lr_decay_fraction=1.0, ema_decay=0.99)


@functools.cache
def law(columns: int) -> Float64[Tensor, " k"]:
    """Return the probabilities of all rows of one or two counts, those of two side by side."""
    rates = stats.gamma(SHAPE, scale=MEAN / SHAPE).ppf((torch.arange(4000).double().numpy() + 0.5) / 4000)
    p = torch.from_numpy(stats.poisson.pmf(torch.arange(MOST + 1).numpy(), rates[:, None]))
    p[:, MOST] += 1 - p.sum(1)
    return p.mean(0) if columns == 1 else (p.T @ p / len(p)).flatten()


def ends() -> LatticeLevels:
    """Return the counts, scaled to mean 0 and deviation 1."""
    deviation = (MEAN + MEAN**2 / SHAPE) ** 0.5
    return LatticeLevels(-MEAN / deviation, (MOST - MEAN) / deviation, MOST + 1)


def rows(columns: int, n: int, draws: Rng) -> Float[Tensor, "n d"]:
    """Draw rows of scaled counts."""
    index = categorical(law(columns).expand(n, -1), draws.stream("rows").uniform((n,), torch.float64))
    counts = index[:, None] if columns == 1 else torch.stack([index // (MOST + 1), index % (MOST + 1)], 1)
    return ends().centres[counts].float()


@functools.cache
def fitted(setting: Setting, columns: int, seed: int) -> Fitted:
    """Return a network of the law of the counts given the state."""
    objective = FlowMatching(JumpPath(endpoint_support=ends()), Euclidean((columns,)), CrossEntropy())
    x_1 = rows(columns, setting.counted, Rng(seed).fold_in("counts"))
    return fit(
        objective, MLP(width=128, depth=2, num_bins=MOST + 1), x_1, replace(TRAINING, steps=setting.counts), seed
    )


def variation(x: Float[Tensor, "n d"]) -> float:
    """Return the total variation between rows and their law."""
    place = ends().target(x)
    index = place[:, 0] if x.shape[1] == 1 else place[:, 0] * (MOST + 1) + place[:, 1]
    expected = law(x.shape[1])
    return (torch.bincount(index, minlength=len(expected)) / len(x) - expected).abs().sum().item() / 2


@functools.cache
def distance(setting: Setting, columns: int, way: Way, calls: int, seed: int) -> float:
    """Return the total variation between samples and the law of the data."""
    model = fitted(setting, columns, seed)
    return variation(model.samples(way, calls, setting.counted, Rng(seed).fold_in("samples")))


def measure(setting: Setting, columns: int) -> Measure:
    """Return what gives the distance of a way for each seed."""
    return lambda way, calls: [distance(setting, columns, way, calls, seed) for seed in setting.seeds]


def few_calls(setting: Setting) -> list[Claim]:
    """Overlap steps are exact for one number whose posterior is; not for two that depend on each other."""
    return [
        _against_flows(setting, 1, FEW, "one count with a long tail, few calls"),
        _against_flows(setting, 1, MORE, "one count with a long tail, more calls"),
        _against_flows(setting, 2, FEW, "two counts that share a rate, few calls"),
    ]


def _against_flows(setting: Setting, columns: int, calls: tuple[int, ...], words: str) -> Claim:
    """Compare with the flow at the best of four grids for each number of calls."""
    found = measure(setting, columns)
    best = [min((found(WAYS[name], n) for name in MIDPOINTS), key=statistics.fmean) for n in calls]
    compared = [ratios(found(OVERLAP, n), flow) for n, flow in zip(calls, best, strict=True)]
    real = [variation(rows(columns, setting.counted, Rng(seed).fold_in("floor"))) for seed in setting.seeds]
    return Claim(
        f"Jumps by the overlap rule beat the midpoint flow on its best grid: {words}",
        "not in the paper",
        f"total variation {table(found, calls, 'jumps, overlap', 'superposition')}; on the best of four grids "
        f"{', '.join(mean_of(row, 3) for row in best)}; {setting.counted:,} real draws {mean_of(real, 2)}",
        ranges(compared),
        verdict(all_below(compared)),
    )

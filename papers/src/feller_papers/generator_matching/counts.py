"""Claims beyond the paper: overdispersed counts, one or two with a shared rate, at few network calls."""

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
from feller_papers.generator_matching.fitted import TrainedProcess, fit
from feller_papers.generator_matching.rows import Measure, all_below, ranges, ratios, table
from feller_papers.generator_matching.setting import LATE, OVERLAP, WAYS, Sampler, Setting

MAX_COUNT = 32
"""Largest count; larger ones are clipped."""
SHAPE, MEAN = 0.5, 3.0
"""Gamma distribution of the rate: the variance of a count is 7 times its mean."""
FEW, MORE = (4, 8), (16,)
"""Network calls."""
MIDPOINTS = ("midpoint flow", *(f"midpoint flow, late {power:g}" for power in LATE))
"""Midpoint flows on four time grids."""
TRAINING = TrainConfig(batch_size=512, lr=2e-3, lr_decay_fraction=1.0, ema_decay=0.99)


@functools.cache
def law(columns: int) -> Float64[Tensor, " k"]:
    """Return the probabilities of all rows of one or two counts, flattened."""
    rates = stats.gamma(SHAPE, scale=MEAN / SHAPE).ppf((torch.arange(4000).double().numpy() + 0.5) / 4000)
    p = torch.from_numpy(stats.poisson.pmf(torch.arange(MAX_COUNT + 1).numpy(), rates[:, None]))
    p[:, MAX_COUNT] += 1 - p.sum(1)
    return p.mean(0) if columns == 1 else (p.T @ p / len(p)).flatten()


def ends() -> LatticeLevels:
    """Return the support, scaled to mean 0 and standard deviation 1."""
    deviation = (MEAN + MEAN**2 / SHAPE) ** 0.5
    return LatticeLevels(-MEAN / deviation, (MAX_COUNT - MEAN) / deviation, MAX_COUNT + 1)


def rows(columns: int, n: int, draws: Rng) -> Float[Tensor, "n d"]:
    """Return samples of scaled counts."""
    index = categorical(law(columns).expand(n, -1), draws.stream("rows").uniform((n,), torch.float64))
    counts = index[:, None] if columns == 1 else torch.stack([index // (MAX_COUNT + 1), index % (MAX_COUNT + 1)], 1)
    return ends().centres[counts].float()


@functools.cache
def fitted(setting: Setting, columns: int, seed: int) -> TrainedProcess:
    """Return a network of the posterior of the counts."""
    objective = FlowMatching(JumpPath(endpoint_support=ends()), Euclidean((columns,)), CrossEntropy())
    x_1 = rows(columns, setting.counted, Rng(seed).fold_in("counts"))
    return fit(
        objective, MLP(width=128, depth=2, num_bins=MAX_COUNT + 1), x_1, replace(TRAINING, steps=setting.counts), seed
    )


def variation(x: Float[Tensor, "n d"]) -> float:
    """Return the total variation between samples and the exact distribution."""
    place = ends().target(x)
    index = place[:, 0] if x.shape[1] == 1 else place[:, 0] * (MAX_COUNT + 1) + place[:, 1]
    expected = law(x.shape[1])
    return (torch.bincount(index, minlength=len(expected)) / len(x) - expected).abs().sum().item() / 2


@functools.cache
def distance(setting: Setting, columns: int, sampler: Sampler, calls: int, seed: int) -> float:
    """Return the total variation between generated samples and the exact distribution."""
    model = fitted(setting, columns, seed)
    return variation(model.samples(sampler, calls, setting.counted, Rng(seed).fold_in("samples")))


def measure(setting: Setting, columns: int) -> Measure:
    """Return a function that gives the distances of a sampler for all seeds."""
    return lambda sampler, calls: [distance(setting, columns, sampler, calls, seed) for seed in setting.seeds]


def few_calls(setting: Setting) -> list[Claim]:
    """Return the claims about overlap steps: exact for one count, but not for two dependent ones."""
    return [
        _against_flows(setting, 1, FEW, "one count with a long tail, few calls"),
        _against_flows(setting, 1, MORE, "one count with a long tail, more calls"),
        _against_flows(setting, 2, FEW, "two counts that share a rate, few calls"),
    ]


def _against_flows(setting: Setting, columns: int, calls: tuple[int, ...], words: str) -> Claim:
    """Return the claim against the midpoint flow on the best of four grids, for each number of calls."""
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

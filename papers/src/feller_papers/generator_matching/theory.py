"""Claims of the propositions about marginals, with exact posteriors."""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from feller.core.rng import Rng
from feller.paths import BinnedJumpPath, IntervalBins, JumpPath, LatticeLevels
from feller.paths.jumps.jump_step_rules import MaximalCoupling
from feller.paths.path import Cond
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from feller.training.losses import InfinitesimalKL, ItakuraSaito, Loss, SquaredError
from feller_papers.claims import Claim, mean_of, seeds_of, spread_of, verdict
from feller_papers.generator_matching.kernels import cumulative, kolmogorov, shuffled_grid
from feller_papers.generator_matching.setting import Setting

CENTRES, DEVIATIONS, SHARES = (-1.0, 1.5), (0.2, 0.3), (0.3, 0.7)
"""Parameters of a mixture of two Gaussians."""
COUNT = 2000
"""Number of simulated paths."""
STEPS = 60
ATOMS, WEIGHTS = ((-1.0, -1.0), (1.0, 1.0), (-1.0, 1.0), (1.0, -1.0)), (0.45, 0.45, 0.05, 0.05)
"""Atoms and weights of a 2-D distribution with dependent coordinates."""


def _mixture(grid: Tensor, t: float) -> Float64[Tensor, " n"]:
    """Return the unnormalised marginal density on straight paths at a time."""
    density = torch.zeros_like(grid)
    for centre, deviation, share in zip(CENTRES, DEVIATIONS, SHARES, strict=True):
        width = math.hypot(t * deviation, 1 - t)
        density += share / width * torch.exp(-0.5 * ((grid - t * centre) / width) ** 2)
    return density


def keeps_marginals(setting: Setting) -> list[Claim]:
    """Return the claim of proposition 3: superpositions and correctors keep the marginals."""
    ends, grid = IntervalBins(-2.2, 3.0, 52), torch.linspace(-6, 6, 120_001, dtype=torch.float64)
    prior = _mixture(ends.centres, 1.0).log().clamp(min=-1e9).float()
    most, found = 1.95 / math.sqrt(COUNT) + 0.003, {}
    for share, corrector in ((0.25, 0.0), (0.75, 0.0), (1.0, 0.0), (0.5, 1.0)):
        path = JumpPath(
            endpoint_support=ends,
            jump_weight=share,
            corrector_rate=corrector,
            step_rule=MaximalCoupling() if share == 1 else None,
        )
        process = path.process(lambda x, t, given: prior.expand(*x.shape, ends.num_bins), {})
        name = f"{share:g}" + (" with a corrector" if corrector else "")
        for seed in setting.seeds:
            x = torch.special.ndtri(shuffled_grid(COUNT, seed))[:, None].float()
            for t in (0.5, 0.8):
                y = simulate(process, x, linear_grid(STEPS, 0.0, t), Euler(), Rng(seed))
                found.setdefault(name, []).append(kolmogorov(y, cumulative(_mixture(grid, t), grid)))
    worst = [max(row) for row in found.values()]
    return [
        Claim(
            "Superpositions of flow and jumps, and correctors, have the marginals of the path (proposition 3)",
            "exact as steps become small",
            f"Kolmogorov distance of {COUNT:,} paths at t = .5, .8, {STEPS} steps, by share of the jumps: "
            + "; ".join(f"{name} {mean_of(row, 2)}" for name, row in found.items()),
            f"{seeds_of(setting.seeds)}; largest {max(worst):.3g}, allowed {most:.3g}",
            verdict(max(worst) <= most),
        )
    ]


def same_gradient(setting: Setting) -> list[Claim]:
    """Return the claim of proposition 2 about Bregman divergences, on rates to 16 bins."""
    path, t = BinnedJumpPath(bins=IntervalBins(-2.0, 2.0, 16)), torch.tensor(0.5, dtype=torch.float64)
    x = torch.linspace(-1.9, 1.9, 39, dtype=torch.float64)[:, None]
    ends = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    fit = -((x - t * ends) ** 2) / (2 * (1 - t) ** 2)
    posterior = (fit + torch.tensor([0.3, 0.7], dtype=torch.float64).log()).softmax(1)
    rates = torch.stack([path.target(x, x, z.expand_as(x), t.expand(len(x)))[:, 0] for z in ends], 1) + 1e-6
    log_b = 0.3 * Rng(0).stream("b").normal((len(x), 16), torch.float64)
    losses: dict[str, Loss] = {
        "infinitesimal KL": InfinitesimalKL(),
        "squares": SquaredError(),
        "Itakura-Saito": ItakuraSaito(),
    }
    gaps = {name: _gap(loss, rates, posterior, log_b) for name, loss in losses.items()}
    swapped = _gap(None, rates, posterior, log_b)
    return [
        Claim(
            "A Bregman divergence of the rates given the data has the gradient of that of the marginal rates (prop. 2)",
            "equal",
            "largest relative difference "
            + ", ".join(f"{name} {gap:.1e}" for name, gap in gaps.items())
            + f"; KL with its arguments swapped {swapped:.2g}",
            "no randomness",
            verdict(max(gaps.values()) < 1e-12 and swapped > 0.1),
        )
    ]


def _gap(loss: Loss | None, rates: Tensor, posterior: Tensor, log_b: Tensor) -> float:
    """Return the relative difference of the gradients; None is the infinitesimal KL with swapped arguments."""

    def gradient(target: Tensor, weight: Tensor) -> Tensor:
        b = log_b[:, None].expand(target.shape).clone().requires_grad_()
        if loss is None:
            value = (b.exp() * (b - target.log()) - b.exp() + target).sum(-1)
        else:
            value = loss.entries(b, target, b, b)
        while value.ndim > weight.ndim:
            value = value.sum(-1)
        return torch.autograd.grad((weight * value).sum(), b)[0].sum(1)

    each = gradient(rates, posterior)
    mean = gradient((posterior[..., None] * rates).sum(1, keepdim=True), torch.ones_like(posterior[:, :1]))
    return ((each - mean).abs().max() / mean.abs().max()).item()


def parts_together(setting: Setting) -> list[Claim]:
    """Return the claim of proposition 4 about independent jumps of coordinates within a step."""
    ends, calls = LatticeLevels(-1.0, 1.0, 2), (10, 100)
    path = JumpPath(endpoint_support=ends, jump_weight=1.0, step_rule=MaximalCoupling())
    expected, found = torch.tensor(WEIGHTS, dtype=torch.float64), []
    for seed in setting.seeds:
        x = Rng(seed).stream("source").normal((COUNT, 2), torch.float64)
        samples = [simulate(path.process(four_atoms, {}), x, linear_grid(n), Euler(), Rng(seed)) for n in calls]
        atoms = torch.tensor(ATOMS, dtype=torch.float64)
        shares = [torch.stack([(y == atom).all(1).double().mean() for atom in atoms]) for y in samples]
        found.append([(share - expected).abs().sum().item() / 2 for share in shares])
    few, many = zip(*found, strict=True)
    return [
        Claim(
            "Parts that jump independently within a step keep their joint law (proposition 4): jumps in the plane",
            "exact as steps become small; here a total variation of at most 0.03, where independent parts have 0.4",
            f"total variation {mean_of(few, 2)} after {calls[0]} steps, {mean_of(many, 2)} after {calls[1]}",
            spread_of(many),
            verdict(max(many) <= 0.03),
        )
    ]


def four_atoms(x: Float64[Tensor, "b 2"], t: Tensor, given: Cond) -> Float64[Tensor, "b 2 2"]:
    """Return logits of each coordinate of the end given the state, without the term that the path adds."""
    atoms, weights = torch.tensor(ATOMS).to(x), torch.tensor(WEIGHTS).to(x)
    t = t[:, None, None]
    fit = -((x[:, None] - t * atoms) ** 2).sum(-1) / (2 * (1 - t[..., 0]) ** 2)
    joint = (weights.log() + fit).softmax(-1)
    up = torch.stack([(joint * (atoms[:, i] > 0)).sum(-1) for i in (0, 1)], -1)
    own = -((x[..., None] - t * torch.tensor([-1.0, 1.0]).to(x)) ** 2) / (2 * (1 - t) ** 2)
    return torch.stack([1 - up, up], -1).clamp(min=1e-300).log() - own

"""Rows read from noisy clipped gradients by whoever knows all others, beside the bounds that apply."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.func import functional_call, grad, jacfwd, vmap
from torch.nn.functional import cross_entropy

from feller.core.rng import Rng
from feller.evaluation.attacks.reconstruction import NUM_STANDARD_ERRORS
from feller.privacy.leakage.leakage_tracking import hard_clip
from feller.privacy.leakage.reconstruction_bounds import van_trees
from feller_papers.claims import Claim, verdict
from feller_papers.reconstruction_bounds.inversion import Added, Prior, deepest
from feller_papers.reconstruction_bounds.pictures import digits
from feller_papers.reconstruction_bounds.private import on_digits
from feller_papers.reconstruction_bounds.setting import Setting

NOISES = (0.005, 0.05, 0.5)
"""Standard deviations, in clip norms; the last is that of the training."""
CLASS, SPREAD = 3, 0.25
"""Of rows that are drawn from a prior: digits, and how far pixels are about their mean."""
STARTS = 2
AT_ONCE = 50
"""Rows whose Jacobians are laid out beside each other."""
UNBIASED_DRAWS = 200


def added_by(networks: list[nn.Module], label: int, clip: float) -> Added:
    """Return what a picture of a class adds to the sums of clipped gradients at several weights, [p] of all."""
    weights = [{name: value.detach().double() for name, value in each.named_parameters()} for each in networks]
    answer = torch.tensor([label])

    def one(values: dict[str, Tensor], z: Tensor) -> Tensor:
        def of(values: dict[str, Tensor]) -> Tensor:
            return cross_entropy(functional_call(networks[0], values, (z[None],)), answer)

        gradient = torch.cat([part.flatten() for part in grad(of)(values).values()])
        return gradient * hard_clip(gradient.square().sum().sqrt(), clip)

    return lambda z: torch.cat([one(values, z) for values in weights])


@dataclass(frozen=True)
class Reached:
    """What attackers reach at one noise, mean squared of a pixel, and what bounds it."""

    noise: float
    error: float
    standard: float
    """Error of that mean."""
    bound: float

    @property
    def below(self) -> bool:
        """Whether the error is below its bound by more than chance."""
        return self.error + NUM_STANDARD_ERRORS * self.standard < self.bound

    @property
    def words(self) -> str:
        """Say it."""
        return f"{self.error:.3g} +- {self.standard:.1g} beside {self.bound:.3g}"


@functools.cache
def with_prior(setting: Setting) -> list[Reached]:
    """Let an attacker who knows the law of rows read rows that are drawn from it, at each noise."""
    found, draws = on_digits(setting), Rng(setting.seed).fold_in("inversion")
    mean, clip = digits().train.of(CLASS).x.mean(0), found.plan.clip
    z = mean + SPREAD * draws.stream("rows").normal((setting.rows, len(mean)), torch.float64)
    added, prior, reached = added_by(found.snapshots[::2], CLASS, clip), Prior(mean, SPREAD), []
    clean = torch.cat([vmap(added)(part) for part in z.split(AT_ONCE)])
    sizes = torch.cat([vmap(jacfwd(added))(part).square().sum((1, 2)) for part in z.split(AT_ONCE)])
    for noise in NOISES:
        scale, at = noise * clip, draws.fold_in(noise)
        seen = clean + scale * at.stream("noise").normal(clean.shape, torch.float64)
        starts = mean + SPREAD * at.stream("starts").normal((STARTS, *z.shape), torch.float64)
        starts[0] = mean
        parts = zip(seen.split(AT_ONCE), starts.split(AT_ONCE, 1), strict=True)
        rows = torch.cat([deepest(added, some, scale, prior, begin) for some, begin in parts])
        errors, eta2 = (rows - z).square().mean(1), sizes.mean().item() / scale**2 / len(mean)
        spread = errors.std().item() / math.sqrt(len(errors))
        reached.append(Reached(noise, errors.mean().item(), spread, van_trees(eta2, SPREAD)))
    return reached


@dataclass(frozen=True)
class Unbiased:
    """An estimate without bias of some rows, at the noise of the training."""

    errors: Float64[Tensor, " b"]
    standard: Float64[Tensor, " b"]
    bounds: Float64[Tensor, " b"]
    sharp: Float64[Tensor, " b"]
    """Tr(I^-1) / d, which knows directions."""


@functools.cache
def without_bias(setting: Setting) -> Unbiased:
    """Take the step of Gauss and Newton from the row itself: no estimate that is right on average is nearer there."""
    found, draws = on_digits(setting), Rng(setting.seed).fold_in("unbiased")
    clip, scale, parts = found.plan.clip, found.plan.sigma * found.plan.clip, []
    for label in found.labels.unique().tolist():
        rows = found.rows[found.labels == label].flatten(1).double()
        jacobian = vmap(jacfwd(added_by(found.snapshots, label, clip)))(rows)
        inverse = torch.linalg.solve(jacobian.mT @ jacobian, jacobian.mT)
        noise = draws.stream("noise", label).normal((UNBIASED_DRAWS, *jacobian.shape[:2]), torch.float64)
        errors = torch.einsum("bdp,kbp->bkd", inverse, noise).mul(scale).square().mean(2)
        d = rows.shape[1]
        parts.append(
            torch.stack(
                [
                    errors.mean(1),
                    errors.std(1) / math.sqrt(UNBIASED_DRAWS),
                    d * scale**2 / jacobian.square().sum((1, 2)),
                    scale**2 * inverse.square().sum((1, 2)) / d,
                ]
            )
        )
    return Unbiased(*torch.cat(parts, 1))


def gradients(setting: Setting) -> Iterator[Claim]:
    """Gradient inversion, at steps in which the row is known to be."""
    where = "digits, noisy clipped gradients of a private training that hold the row"
    reached = with_prior(setting)
    told = "; ".join(f"noise {each.noise:g}: {each.words}" for each in reached)
    yield Claim(
        f"{where}: whoever knows the law of rows errs by no less than van Trees says",
        "not in the paper",
        f"mean squared error of a pixel, {told}; the mean picture {SPREAD**2:.3g}. Rows from a normal law about the"
        f" mean {CLASS}, two gradients, the likeliest row by Gauss and Newton from {STARTS} starts",
        f"{setting.rows} rows at each noise",
        verdict(not any(each.below for each in reached)),
    )
    free = without_bias(setting)
    below = int((free.errors + NUM_STANDARD_ERRORS * free.standard < free.bounds).sum())
    ratio, sharp = (free.errors / free.bounds).log10(), (free.errors / free.sharp - 1).abs()
    yield Claim(
        f"{where}: an estimate without bias errs by no less than 1 / eta^2, for every row",
        "at least",
        f"{below} of {len(ratio)} rows below; errors are {told_times(ratio)} times the bound, and within"
        f" {100 * sharp.max().item():.2g} % of Tr(I^-1) / d, which knows directions: the step of Gauss and Newton from"
        f" the row itself, which no attacker can take",
        f"{UNBIASED_DRAWS} draws of the noise for each row",
        verdict(below == 0),
    )


def told_times(orders: Float64[Tensor, " b"]) -> str:
    """Say the range of numbers whose logarithms are given."""
    return f"{10 ** orders.min().item():.3g} to {10 ** orders.max().item():.3g}"

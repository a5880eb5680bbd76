"""Claims about gradient inversion from noisy clipped gradients, and its bounds."""

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
from feller_papers.reconstruction_bounds.inversion import Contribution, Prior, best_of_starts
from feller_papers.reconstruction_bounds.pictures import digits
from feller_papers.reconstruction_bounds.private import digits_run
from feller_papers.reconstruction_bounds.setting import Setting

NOISE_MULTIPLIERS = (0.005, 0.05, 0.5)
"""Noise multipliers; the last is that of the training."""
PRIOR_CLASS, PRIOR_STD = 3, 0.25
"""Class of the prior's mean image, and standard deviation of its pixels."""
NUM_STARTS = 2
BATCH_SIZE = 50
"""Batch size of Jacobians."""
UNBIASED_DRAWS = 200


def clipped_gradient_sum(networks: list[nn.Module], label: int, clip: float) -> Contribution:
    """Return the map from an image of a class to its clipped gradients at several networks, concatenated."""
    weights = [{name: value.detach().double() for name, value in each.named_parameters()} for each in networks]
    answer = torch.tensor([label])

    def one(values: dict[str, Tensor], z: Tensor) -> Tensor:
        def of(values: dict[str, Tensor]) -> Tensor:
            return cross_entropy(functional_call(networks[0], values, (z[None],)), answer)

        gradient = torch.cat([part.flatten() for part in grad(of)(values).values()])
        return gradient * hard_clip(gradient.square().sum().sqrt(), clip)

    return lambda z: torch.cat([one(values, z) for values in weights])


@dataclass(frozen=True)
class AttackMetrics:
    """Mean squared pixel error of attackers at one noise, and its bound."""

    noise: float
    error: float
    standard_errors: float
    """Standard error of `error`."""
    bound: float

    @property
    def below(self) -> bool:
        """True if the error is significantly below its bound."""
        return self.error + NUM_STANDARD_ERRORS * self.standard_errors < self.bound

    @property
    def formatted(self) -> str:
        """Formatted error and bound."""
        return f"{self.error:.3g} +- {self.standard_errors:.1g} beside {self.bound:.3g}"


@functools.cache
def prior_attack(setting: Setting) -> list[AttackMetrics]:
    """Return the errors of an attacker who knows the prior of the rows, at each noise."""
    run, draws = digits_run(setting), Rng(setting.seed).fold_in("inversion")
    mean, clip = digits().train.of(PRIOR_CLASS).x.mean(0), run.plan.clip
    z = mean + PRIOR_STD * draws.stream("rows").normal((setting.rows, len(mean)), torch.float64)
    added, prior, metrics = clipped_gradient_sum(run.snapshots[::2], PRIOR_CLASS, clip), Prior(mean, PRIOR_STD), []
    clean = torch.cat([vmap(added)(part) for part in z.split(BATCH_SIZE)])
    jacobian_norms = torch.cat([vmap(jacfwd(added))(part).square().sum((1, 2)) for part in z.split(BATCH_SIZE)])
    for noise in NOISE_MULTIPLIERS:
        scale, at = noise * clip, draws.fold_in(noise)
        seen = clean + scale * at.stream("noise").normal(clean.shape, torch.float64)
        starts = mean + PRIOR_STD * at.stream("starts").normal((NUM_STARTS, *z.shape), torch.float64)
        starts[0] = mean
        parts = zip(seen.split(BATCH_SIZE), starts.split(BATCH_SIZE, 1), strict=True)
        rows = torch.cat([best_of_starts(added, some, scale, prior, begin) for some, begin in parts])
        errors, eta2 = (rows - z).square().mean(1), jacobian_norms.mean().item() / scale**2 / len(mean)
        spread = errors.std().item() / math.sqrt(len(errors))
        metrics.append(AttackMetrics(noise, errors.mean().item(), spread, van_trees(eta2, PRIOR_STD)))
    return metrics


@dataclass(frozen=True)
class UnbiasedResult:
    """Errors of an unbiased estimator at the noise of the training."""

    errors: Float64[Tensor, " b"]
    standard_errors: Float64[Tensor, " b"]
    bounds: Float64[Tensor, " b"]
    matrix_bounds: Float64[Tensor, " b"]
    """Cramér-Rao bounds Tr(I^-1) / d of the full Fisher information."""


@functools.cache
def unbiased_errors(setting: Setting) -> UnbiasedResult:
    """Return the errors of a Gauss-Newton step from the true row, the best locally unbiased estimator."""
    run, draws = digits_run(setting), Rng(setting.seed).fold_in("unbiased")
    clip, scale, parts = run.plan.clip, run.plan.sigma * run.plan.clip, []
    for label in run.labels.unique().tolist():
        rows = run.rows[run.labels == label].flatten(1).double()
        jacobian = vmap(jacfwd(clipped_gradient_sum(run.snapshots, label, clip)))(rows)
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
    return UnbiasedResult(*torch.cat(parts, 1))


def gradients(setting: Setting) -> Iterator[Claim]:
    """Return the claims about gradient inversion at steps that contain the row."""
    setting_words = "digits, noisy clipped gradients of a private training that hold the row"
    metrics = prior_attack(setting)
    words = "; ".join(f"noise {each.noise:g}: {each.formatted}" for each in metrics)
    yield Claim(
        f"{setting_words}: whoever knows the law of rows errs by no less than van Trees says",
        "not in the paper",
        f"mean squared error of a pixel, {words}; the mean picture {PRIOR_STD**2:.3g}. Rows from a normal law about the"
        f" mean {PRIOR_CLASS}, two gradients, the likeliest row by Gauss and Newton from {NUM_STARTS} starts",
        f"{setting.rows} rows at each noise",
        verdict(not any(each.below for each in metrics)),
    )
    unbiased = unbiased_errors(setting)
    below = int((unbiased.errors + NUM_STANDARD_ERRORS * unbiased.standard_errors < unbiased.bounds).sum())
    ratio, sharp = (unbiased.errors / unbiased.bounds).log10(), (unbiased.errors / unbiased.matrix_bounds - 1).abs()
    yield Claim(
        f"{setting_words}: an estimate without bias errs by no less than 1 / eta^2, for every row",
        "at least",
        f"{below} of {len(ratio)} rows below; errors are {format_range(ratio)} times the bound, and within"
        f" {100 * sharp.max().item():.2g} % of Tr(I^-1) / d, which knows directions: the step of Gauss and Newton from"
        f" the row itself, which no attacker can take",
        f"{UNBIASED_DRAWS} draws of the noise for each row",
        verdict(below == 0),
    )


def format_range(orders: Float64[Tensor, " b"]) -> str:
    """Return the formatted range of 10^orders."""
    return f"{10 ** orders.min().item():.3g} to {10 ** orders.max().item():.3g}"

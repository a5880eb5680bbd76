"""Claims about a reconstruction attack on logistic regression, which is exact without noise."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from feller.evaluation.attacks.reconstruction import NUM_STANDARD_ERRORS
from feller.privacy.erm.regularized_erm import ERMSolution
from feller.privacy.erm.weight_release import reconstruct_rows
from feller.privacy.noise.grid_noise import make_noise
from feller_papers.claims import Claim, verdict
from feller_papers.reconstruction_bounds.perturbed import DECAY, fitted
from feller_papers.reconstruction_bounds.setting import Setting

SCALE = 1e-5
BATCH_SIZE, SHOWN = 200, 8
"""Batch size of noisy weights; number of rows shown at each end."""
MAX_EXACT_RMSE, MAX_READABLE_RMSE, MIN_CORRELATION = 1e-10, 0.1, 0.9
"""RMSE limits without noise and of readable mean reconstructions; smallest correlation."""
INFORMATIVE_BOUND = 1.0
"""Bound above which any guess is better, so a biased attack may be below it."""
MIN_RESIDUAL = 5.0
"""Smallest residual, in standard deviations of its noise, at which the attack is reliable."""


def squared_errors(minimum: ERMSolution, theta: Float64[Tensor, "k d"]) -> Float64[Tensor, "k n"]:
    """Return the mean squared pixel error of `reconstruct_rows` for each row, without the reconstructions.

    With w the gradient at the released weights and r the residual of a row, it is |w - w_0 x|^2 / (w_0 - r)^2 / d.
    """
    x, glm = minimum.x, minimum.erm.glm
    residuals = glm.mean(theta @ x.mT) - minimum.y
    gradient_sum = residuals @ x + minimum.n * minimum.erm.l2 * theta
    first, sizes = gradient_sum[:, :1], x.square().sum(1)
    squares = gradient_sum.square().sum(1, keepdim=True) - 2 * first * (gradient_sum @ x.mT) + first.square() * sizes
    return squares.clamp(min=0) / (first - residuals).square() / (x.shape[1] - 1)


@dataclass(frozen=True, eq=False)
class AttackResult:
    """Means over noise of the attack on each row."""

    name: str
    side: int
    bounds: Float64[Tensor, " n"]
    errors: Float64[Tensor, " n"]
    """Mean squared pixel errors."""
    standard_errors: Float64[Tensor, " n"]
    """Standard errors of `errors`."""
    extremes: Int64[Tensor, " m"]
    """Indices of the rows with the lowest bounds, then of those with the highest."""
    rows: Float64[Tensor, "m d"]
    """Pixels of the extreme rows."""
    means: Float64[Tensor, "m d"]
    """Mean reconstructions of the extreme rows."""
    without_noise: float
    """RMSE per pixel without noise, over all rows."""
    max_error: float
    """Largest pixel error without noise."""

    reliable: Bool[Tensor, " n"]
    """Rows whose residual is well above its noise."""

    @property
    def below(self) -> Bool[Tensor, " n"]:
        """Rows whose error is significantly below their bound."""
        return self.errors + NUM_STANDARD_ERRORS * self.standard_errors < self.bounds

    def correlation(self, mask: Bool[Tensor, " n"]) -> float:
        """Return the correlation of log errors and log bounds over selected rows."""
        return torch.corrcoef(torch.stack([self.bounds[mask].log(), self.errors[mask].log()]))[0, 1].item()


@functools.cache
def run_attack(setting: Setting) -> AttackResult:
    """Return the result of the attack on all rows and noisy weights."""
    model = fitted(setting, constant=True)
    minimum, bounds_ = model.minimum, model.bounds(SCALE)
    order = bounds_.argsort()
    extremes = torch.cat([order[:SHOWN], order.flip(0)[:SHOWN]])
    noise = make_noise(setting.seed, "reconstruction bounds", "attack")
    total, squares = torch.zeros_like(bounds_), torch.zeros_like(bounds_)
    means, remaining = torch.zeros(len(extremes), minimum.x.shape[1], dtype=torch.float64), setting.draws
    while remaining:
        k = min(remaining, BATCH_SIZE)
        theta = minimum.theta + SCALE * noise.normal((k, len(minimum.theta)))
        errors = squared_errors(minimum, theta)
        total, squares = total + errors.sum(0), squares + errors.square().sum(0)
        means += reconstruct_rows(minimum.erm, minimum.x, minimum.y, theta, extremes)[0].sum(0)
        remaining -= k
    mean = total / setting.draws
    standard = ((squares / setting.draws - mean.square()).clamp(min=0) / (setting.draws - 1)).sqrt()
    exact = reconstruct_rows(minimum.erm, minimum.x, minimum.y, minimum.theta[None])[0][0] - minimum.x
    return AttackResult(
        model.name,
        model.side,
        bounds_,
        mean,
        standard,
        extremes,
        minimum.x[extremes, 1:],
        means[:, 1:] / setting.draws,
        exact.square().mean().sqrt().item(),
        exact.abs().max().item(),
        minimum.residuals.abs() > MIN_RESIDUAL * SCALE * torch.linalg.inv(minimum.inverse_hessian)[0].norm(),
    )


def attack(setting: Setting) -> Iterator[Claim]:
    """Return the claims about the attack and its bounds."""
    result = run_attack(setting)
    setting_words = f"{result.name}, logistic regression with a constant, decay {DECAY:g}, noise {SCALE:g}"
    ratio, sample_words = result.errors / result.bounds, f"{setting.draws:,} sets of weights"
    yield from _above(result, setting_words, ratio, sample_words)
    all_rows = torch.ones_like(result.reliable)
    mask, steady = result.correlation(all_rows), result.correlation(result.reliable)
    claim = f"{setting_words}: the bound tells which rows are easy to reconstruct"
    criterion = f"points along the diagonal; here a correlation of logarithms above {MIN_CORRELATION:g}"
    num_reliable = int(result.reliable.sum())
    yield Claim(
        claim, criterion, f"{mask:.4f} over all {len(ratio):,} rows", sample_words, verdict(mask > MIN_CORRELATION)
    )
    yield Claim(
        f"{claim}, of those whose residual is not lost in the noise",
        criterion,
        f"{steady:.4f} over {num_reliable:,} rows of a residual above {MIN_RESIDUAL:g} standard deviations of its"
        f" noise, of which errors are {ratio[result.reliable].median().item():.3g} times the bound at the median;"
        " others are divided by what may be zero",
        sample_words,
        verdict(steady > MIN_CORRELATION),
    )
    bias = (result.means - result.rows).square().mean(1).sqrt()
    low, high = bias[:SHOWN].max().item(), bias[SHOWN:].min().item()
    yield Claim(
        f"{setting_words}: mean reconstructions can be read of the {SHOWN} rows with the lowest bounds, less of the"
        " highest",
        f"pictures; here nearer than {MAX_READABLE_RMSE:g} in the root mean square of a pixel, and ten times as far",
        f"at most {low:.3g}, and at least {high:.3g}",
        sample_words,
        verdict(low < MAX_READABLE_RMSE and high >= 10 * low),
    )
    yield Claim(
        f"{setting_words}: without noise the attack is exact",
        f"exact; here to {MAX_EXACT_RMSE:g}, root mean square of a pixel over all rows",
        f"{result.without_noise:.2g}; largest error {result.max_error:.2g}, of a row with next to no residual",
        "exact",
        verdict(result.without_noise <= MAX_EXACT_RMSE),
    )


def _above(result: AttackResult, setting_words: str, ratio: Tensor, sample_words: str) -> Iterator[Claim]:
    """Return the claims that errors are above bounds, for informative bounds and for all."""
    below, informative = result.below, result.bounds <= INFORMATIVE_BOUND
    yield Claim(
        f"{setting_words}: whoever knows all other rows errs by no less than each row's bound, of those of at most"
        f" {INFORMATIVE_BOUND:g}",
        "points above the diagonal; 10,000 sets of weights",
        f"{int((below & informative).sum())} of {int(informative.sum()):,} rows below, with {NUM_STANDARD_ERRORS:g}"
        f" standard errors; errors are {ratio[informative].median().item():.3g} times the bound at the median,"
        f" {ratio[informative].min().item():.3g} at least",
        sample_words,
        verdict(not (below & informative).any()),
    )
    least = f", all with bounds above {result.bounds[below].min().item():.3g}" if below.any() else ""
    yield Claim(
        f"{setting_words}: the same for all rows, though this attack is biased and the bound is about those that are"
        " not",
        "points above the diagonal",
        f"{int(below.sum())} of {len(ratio):,} rows below{least}; pixels lie between 0 and 1, and any picture would do",
        sample_words,
        verdict(not below.any()),
    )

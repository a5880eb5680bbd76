"""The attack on logistic regression that is exact without noise, beside the bound of each row."""

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
PORTION, SHOWN = 200, 8
"""Weights that are attacked beside each other; rows at each end that are shown."""
EXACT, READABLE, CLOSE = 1e-10, 0.1, 0.9
"""Root mean square of a pixel without noise, and of a mean reconstruction that can be read; correlation, at least."""
SAYS = 1.0
"""Bound above which any picture errs less, so that an attack with a bias may be below it."""
FAR = 5.0
"""Standard deviations of the noise in what the attack divides by, from where on it is not turned over."""


def squared_errors(minimum: ERMSolution, theta: Float64[Tensor, "k d"]) -> Float64[Tensor, "k n"]:
    """Return the mean squared error of the pixels of each row as `reconstruct_rows` has them, laying none out.

    With the slopes w of all rows at what was told and a row's residual r, it is |w - w_0 x|^2 / (w_0 - r)^2 over d.
    """
    x, family = minimum.x, minimum.erm.glm
    residuals = family.mean(theta @ x.mT) - minimum.y
    whole = residuals @ x + minimum.n * minimum.erm.l2 * theta
    first, sizes = whole[:, :1], x.square().sum(1)
    squares = whole.square().sum(1, keepdim=True) - 2 * first * (whole @ x.mT) + first.square() * sizes
    return squares.clamp(min=0) / (first - residuals).square() / (x.shape[1] - 1)


@dataclass(frozen=True, eq=False)
class Attacked:
    """Means over noise of what the attack does to each row."""

    name: str
    side: int
    bounds: Float64[Tensor, " n"]
    errors: Float64[Tensor, " n"]
    """Mean squared, of a pixel."""
    standard: Float64[Tensor, " n"]
    """Errors of these means."""
    extremes: Int64[Tensor, " m"]
    """Rows with the lowest bounds, then those with the highest, each from its end."""
    rows: Float64[Tensor, "m d"]
    """Their pixels."""
    means: Float64[Tensor, "m d"]
    """Their mean reconstructions."""
    without_noise: float
    """Root mean square error of a pixel, over all rows."""
    farthest: float
    """Largest error of a pixel without noise."""

    steady: Bool[Tensor, " n"]
    """Rows whose residual stands out of the noise that is in it."""

    @property
    def below(self) -> Bool[Tensor, " n"]:
        """Rows whose error is below their bound by more than chance."""
        return self.errors + NUM_STANDARD_ERRORS * self.standard < self.bounds

    def correlation(self, which: Bool[Tensor, " n"]) -> float:
        """Return that of the logarithms of errors and bounds over some rows."""
        return torch.corrcoef(torch.stack([self.bounds[which].log(), self.errors[which].log()]))[0, 1].item()


@functools.cache
def attacked(setting: Setting) -> Attacked:
    """Attack every row at every noisy set of weights."""
    model = fitted(setting, constant=True)
    minimum, each = model.minimum, model.bounds(SCALE)
    order = each.argsort()
    extremes = torch.cat([order[:SHOWN], order.flip(0)[:SHOWN]])
    noise = make_noise(setting.seed, "reconstruction bounds", "attack")
    total, squares = torch.zeros_like(each), torch.zeros_like(each)
    means, left = torch.zeros(len(extremes), minimum.x.shape[1], dtype=torch.float64), setting.draws
    while left:
        k = min(left, PORTION)
        theta = minimum.theta + SCALE * noise.normal((k, len(minimum.theta)))
        errors = squared_errors(minimum, theta)
        total, squares = total + errors.sum(0), squares + errors.square().sum(0)
        means += reconstruct_rows(minimum.erm, minimum.x, minimum.y, theta, extremes)[0].sum(0)
        left -= k
    mean = total / setting.draws
    standard = ((squares / setting.draws - mean.square()).clamp(min=0) / (setting.draws - 1)).sqrt()
    exact = reconstruct_rows(minimum.erm, minimum.x, minimum.y, minimum.theta[None])[0][0] - minimum.x
    return Attacked(
        model.name,
        model.side,
        each,
        mean,
        standard,
        extremes,
        minimum.x[extremes, 1:],
        means[:, 1:] / setting.draws,
        exact.square().mean().sqrt().item(),
        exact.abs().max().item(),
        minimum.residuals.abs() > FAR * SCALE * torch.linalg.inv(minimum.inverse_hessian)[0].norm(),
    )


def attack(setting: Setting) -> Iterator[Claim]:
    """The paper's check of its bound."""
    found = attacked(setting)
    where = f"{found.name}, logistic regression with a constant, decay {DECAY:g}, noise {SCALE:g}"
    ratio, over = found.errors / found.bounds, f"{setting.draws:,} sets of weights"
    yield from _above(found, where, ratio, over)
    everyone = torch.ones_like(found.steady)
    which, steady = found.correlation(everyone), found.correlation(found.steady)
    claim = f"{where}: the bound tells which rows are easy to reconstruct"
    asked = f"points along the diagonal; here a correlation of logarithms above {CLOSE:g}"
    few = int(found.steady.sum())
    yield Claim(claim, asked, f"{which:.4f} over all {len(ratio):,} rows", over, verdict(which > CLOSE))
    yield Claim(
        f"{claim}, of those whose residual is not lost in the noise",
        asked,
        f"{steady:.4f} over {few:,} rows of a residual above {FAR:g} standard deviations of its noise, of which errors"
        f" are {ratio[found.steady].median().item():.3g} times the bound at the median; others"
        " are divided by what may be zero",
        over,
        verdict(steady > CLOSE),
    )
    bias = (found.means - found.rows).square().mean(1).sqrt()
    low, high = bias[:SHOWN].max().item(), bias[SHOWN:].min().item()
    yield Claim(
        f"{where}: mean reconstructions can be read of the {SHOWN} rows with the lowest bounds, less of the highest",
        f"pictures; here nearer than {READABLE:g} in the root mean square of a pixel, and ten times as far",
        f"at most {low:.3g}, and at least {high:.3g}",
        over,
        verdict(low < READABLE and high >= 10 * low),
    )
    yield Claim(
        f"{where}: without noise the attack is exact",
        f"exact; here to {EXACT:g}, root mean square of a pixel over all rows",
        f"{found.without_noise:.2g}; largest error {found.farthest:.2g}, of a row with next to no residual",
        "exact",
        verdict(found.without_noise <= EXACT),
    )


def _above(found: Attacked, where: str, ratio: Tensor, over: str) -> Iterator[Claim]:
    """Yield whether errors are above bounds, of rows whose bound says something, and of all."""
    below, says = found.below, found.bounds <= SAYS
    yield Claim(
        f"{where}: whoever knows all other rows errs by no less than each row's bound, of those of at most {SAYS:g}",
        "points above the diagonal; 10,000 sets of weights",
        f"{int((below & says).sum())} of {int(says.sum()):,} rows below, with {NUM_STANDARD_ERRORS:g} standard"
        f" errors; errors are {ratio[says].median().item():.3g} times the bound at the median,"
        f" {ratio[says].min().item():.3g} at least",
        over,
        verdict(not (below & says).any()),
    )
    least = f", all with bounds above {found.bounds[below].min().item():.3g}" if below.any() else ""
    yield Claim(
        f"{where}: the same for all rows, though this attack is biased and the bound is about those that are not",
        "points above the diagonal",
        f"{int(below.sum())} of {len(ratio):,} rows below{least}; pixels lie between 0 and 1, and any picture would do",
        over,
        verdict(not below.any()),
    )

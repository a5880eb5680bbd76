"""Claims about logistic regression with released noisy weights: bounds per row, and one for all rows."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from feller.privacy.erm.glm import Logistic
from feller.privacy.erm.regularized_erm import ERMSolution, RegularizedERM, add_intercept, clip_rows, solve_erm
from feller.privacy.erm.weight_release import erm_leakage, release_weights
from feller.privacy.noise.grid_noise import make_noise
from feller_papers.claims import Claim, verdict
from feller_papers.reconstruction_bounds.pictures import pictures
from feller_papers.reconstruction_bounds.setting import Setting

DECAY, SCALE, TRIALS = 1e-2, 1e-2, 10
MAX_RELATIVE_NORM = 0.6
"""Largest norm of a row, relative to a white image; longer rows are clipped."""
MIN_SPREAD = 2.0
"""Smallest spread of row bounds from the 5 % to the 95 % quantile, in orders of magnitude."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """Logistic regression of 0 against 1."""

    name: str
    side: int
    num_clipped: int
    """Number of clipped rows."""
    minimum: ERMSolution
    test: tuple[Float64[Tensor, "n d"], Float64[Tensor, " n"]]

    @property
    def pixels(self) -> Tensor:
        """Mask of the pixels, without the intercept."""
        width = self.minimum.x.shape[1]
        return torch.arange(width) >= width - self.side**2

    def bounds(self, scale: float) -> Float64[Tensor, " n"]:
        """Return the lower bound of the mean squared pixel error per row, for weights with noise of a scale."""
        return erm_leakage(self.minimum, scale, self.pixels).rows.mse_bound()


@functools.cache
def fitted(setting: Setting, *, constant: bool) -> Fitted:
    """Return the fitted model, with or without an intercept."""
    data = pictures(setting)
    train, test = data.train.of(0, 1), data.test.of(0, 1)
    length = MAX_RELATIVE_NORM * data.side
    x, test_x = clip_rows(train.x, length), test.x
    if constant:
        x, test_x, length = add_intercept(x), add_intercept(test_x), math.hypot(length, 1)
    minimum = solve_erm(RegularizedERM(Logistic(), DECAY, length), x, train.labels.double())
    num_clipped = int((train.x.norm(dim=1) > MAX_RELATIVE_NORM * data.side).sum())
    return Fitted(data.name, data.side, num_clipped, minimum, (test_x, test.labels.double()))


def log10_bound(eps2: float) -> float:
    """Return log10 of 0.25 / (e^eps2 - 1), without underflow."""
    return math.log10(0.25) - (eps2 if eps2 > 30 else math.log(math.expm1(eps2))) / math.log(10)


def format_power(order: float) -> str:
    """Return the formatted power of 10."""
    return f"{10**order:.3g}" if abs(order) < 300 else f"10^{order:.0f}"


@dataclass(frozen=True)
class UniformBounds:
    """Log10 of the bound for all rows from Rényi privacy of order 2."""

    exact: float
    """With the actual norm of the rows."""
    published_bounds: float
    """With norm 1, as published."""


def lines(model: Fitted) -> UniformBounds:
    """Return the bounds with eps2 = (sensitivity / noise)^2, for a replaced row."""
    n, length = model.minimum.n, model.minimum.erm.max_row_norm
    eps2 = (model.minimum.erm.sensitivity(n) / SCALE) ** 2
    return UniformBounds(log10_bound(eps2), log10_bound(eps2 / length**2))


def bounds(setting: Setting) -> Iterator[Claim]:
    """Return the claims about the histogram of row bounds."""
    model = fitted(setting, constant=False)
    log_bounds, line = model.bounds(SCALE).log10(), lines(model)
    low, middle, high = log_bounds.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)).tolist()
    lowest, highest = log_bounds.min().item(), log_bounds.max().item()
    above = (log_bounds > line.published_bounds).double().mean().item()
    length, n = model.minimum.erm.max_row_norm, model.minimum.n
    accuracies = _accuracies(setting, model)
    setting_words = f"{model.name}, logistic regression of 0 against 1, decay {DECAY:g}, noise {SCALE:g}"
    yield Claim(
        f"{setting_words}: every row's bound lies above the one for all, by Rényi privacy of order 2",
        "a histogram over rows beside one line, which is at 0.0225 for MNIST with rows of length 1",
        f"{n:,} rows, lowest {format_power(lowest)}, median {format_power(middle)}, highest {format_power(highest)};"
        f" the line is at {format_power(line.exact)} for rows of length {length:.3g} (longer ones, {model.num_clipped},"
        f" were cut), and at {format_power(line.published_bounds)} as published, for length 1, which no row keeps to;"
        f" {100 * above:.4g} % of the rows lie above that, too. Exact, so the same in every trial;"
        f" {100 * min(accuracies):.4g} to {100 * max(accuracies):.4g} % of unseen pictures are told right",
        f"{TRIALS} trials of the noise",
        verdict(lowest > line.exact),
    )
    yield Claim(
        f"{setting_words}: bounds of rows differ by orders of magnitude",
        f"a histogram on a logarithmic axis; here at least {MIN_SPREAD:g} orders between the lowest and the highest 5"
        " %",
        f"{high - low:.2f} orders, {highest - lowest:.2f} between the lowest and the highest row",
        "exact",
        verdict(high - low >= MIN_SPREAD),
    )


def _accuracies(setting: Setting, model: Fitted) -> list[float]:
    x, y = model.test
    noise = make_noise(setting.seed, "reconstruction bounds", "trials")
    weights = [release_weights(model.minimum, SCALE, noise).theta for _ in range(TRIALS)]
    return [((x @ theta > 0).double() == y).double().mean().item() for theta in weights]

"""Logistic regression whose weights are told with noise: a bound for each row, beside the one for all."""

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
LENGTH = 0.6
"""Of a row, at most: this part of the longest there could be, that of a white picture; longer ones are cut."""
APART = 2.0
"""Orders of magnitude that bounds of rows differ by, at least: from the lowest 5 % to the highest."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model of 0 against 1."""

    name: str
    side: int
    cut: int
    """Rows that were longer."""
    minimum: ERMSolution
    test: tuple[Float64[Tensor, "n d"], Float64[Tensor, " n"]]

    @property
    def pixels(self) -> Tensor:
        """Mark what of a row is no constant."""
        width = self.minimum.x.shape[1]
        return torch.arange(width) >= width - self.side**2

    def bounds(self, scale: float) -> Float64[Tensor, " n"]:
        """Return the least mean squared error of a pixel of each row, where weights are told with noise of a scale."""
        return erm_leakage(self.minimum, scale, self.pixels).rows.mse_bound()


@functools.cache
def fitted(setting: Setting, *, constant: bool) -> Fitted:
    """Return the minimum, with a constant in each row or without."""
    found = pictures(setting)
    train, test = found.train.of(0, 1), found.test.of(0, 1)
    length = LENGTH * found.side
    x, more = clip_rows(train.x, length), test.x
    if constant:
        x, more, length = add_intercept(x), add_intercept(more), math.hypot(length, 1)
    minimum = solve_erm(RegularizedERM(Logistic(), DECAY, length), x, train.labels.double())
    cut = int((train.x.norm(dim=1) > LENGTH * found.side).sum())
    return Fitted(found.name, found.side, cut, minimum, (more, test.labels.double()))


def order_of(eps2: float) -> float:
    """Return the logarithm to base 10 of 0.25 / (e^eps2 - 1), also where that is too small for a float."""
    return math.log10(0.25) - (eps2 if eps2 > 30 else math.log(math.expm1(eps2))) / math.log(10)


def told_power(order: float) -> str:
    """Say 10 to a power for people."""
    return f"{10**order:.3g}" if abs(order) < 300 else f"10^{order:.0f}"


@dataclass(frozen=True)
class Lines:
    """Logarithms to base 10 of the bound from Rényi privacy of order 2, one for all rows."""

    true: float
    """With the length that rows have."""
    published: float
    """With rows of length 1, which these are not."""


def lines(model: Fitted) -> Lines:
    """Return both: eps2 = (sensitivity / noise)^2, for a row that is replaced."""
    n, length = model.minimum.n, model.minimum.erm.max_row_norm
    eps2 = (model.minimum.erm.sensitivity(n) / SCALE) ** 2
    return Lines(order_of(eps2), order_of(eps2 / length**2))


def bounds(setting: Setting) -> Iterator[Claim]:
    """The histogram of the paper's first figure of it."""
    model = fitted(setting, constant=False)
    each, line = model.bounds(SCALE).log10(), lines(model)
    low, middle, high = each.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)).tolist()
    least, most = each.min().item(), each.max().item()
    above = (each > line.published).double().mean().item()
    length, n = model.minimum.erm.max_row_norm, model.minimum.n
    right = _accuracies(setting, model)
    where = f"{model.name}, logistic regression of 0 against 1, decay {DECAY:g}, noise {SCALE:g}"
    yield Claim(
        f"{where}: every row's bound lies above the one for all, by Rényi privacy of order 2",
        "a histogram over rows beside one line, which is at 0.0225 for MNIST with rows of length 1",
        f"{n:,} rows, lowest {told_power(least)}, median {told_power(middle)}, highest {told_power(most)}; the line is"
        f" at {told_power(line.true)} for rows of length {length:.3g} (longer ones, {model.cut}, were cut), and at"
        f" {told_power(line.published)} as published, for length 1, which no row keeps to;"
        f" {100 * above:.4g} % of the rows lie above that, too. Exact, so the same in every trial;"
        f" {100 * min(right):.4g} to {100 * max(right):.4g} % of unseen pictures are told right",
        f"{TRIALS} trials of the noise",
        verdict(least > line.true),
    )
    yield Claim(
        f"{where}: bounds of rows differ by orders of magnitude",
        f"a histogram on a logarithmic axis; here at least {APART:g} orders between the lowest and the highest 5 %",
        f"{high - low:.2f} orders, {most - least:.2f} between the lowest and the highest row",
        "exact",
        verdict(high - low >= APART),
    )


def _accuracies(setting: Setting, model: Fitted) -> list[float]:
    x, y = model.test
    noise = make_noise(setting.seed, "reconstruction bounds", "trials")
    told = [release_weights(model.minimum, SCALE, noise).theta for _ in range(TRIALS)]
    return [((x @ theta > 0).double() == y).double().mean().item() for theta in told]

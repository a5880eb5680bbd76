"""Bounds of rows of a private training, beside the one for all and beside the published factor."""

from collections.abc import Iterator

import torch

from feller.privacy.accounting.accountant import compute_epsilon
from feller.privacy.leakage.reconstruction_bounds import eps2_replaced, van_trees
from feller_papers.claims import Claim, verdict
from feller_papers.reconstruction_bounds.perturbed import order_of, told_power
from feller_papers.reconstruction_bounds.private import Trained, model_of
from feller_papers.reconstruction_bounds.setting import Setting

MANY = 6.0
"""Orders of magnitude, at least, from the line for all up to the lowest row."""
GAIN = 0.2
"""By how much the exact law lifts the bound of the median row, at least; in parts of the most, 1 / rate."""
UNTOLD = "its figures are not at hand"


def line(found: Trained) -> float:
    """Return the logarithm to base 10 of the bound for all rows."""
    return order_of(eps2_replaced([found.expense]))


def steps(setting: Setting) -> Iterator[Claim]:
    """The paper's point: a bound for each row says something where that for all says nothing."""
    found = model_of(setting)
    plan, spent = found.plan, found.expense
    where = f"{found.name}, DP-SGD, noise {plan.sigma:g}, hard clipping at {plan.clip:g}, {spent.steps:,} steps"
    each = found.bounds.log10()
    spread = f"1 seed, {len(each)} rows, one probe every {plan.every} steps"
    low, middle, high = (told_power(value.item()) for value in (each.min(), each.median(), each.max()))
    cost = compute_epsilon([spent], plan.delta)
    yield Claim(
        f"{where}: at useful accuracy the bound for all rows says nothing, bounds of rows do",
        f"the line at 1e-13 or below at useful accuracy; {UNTOLD}; here an accuracy of {plan.useful:g}, and {MANY:g}"
        " orders of magnitude from the line to the lowest row",
        f"{100 * found.accuracy:.4g} % of unseen pictures right; epsilon {cost:.4g} at delta {plan.delta:g}; the line,"
        f" for a row that is replaced, at {told_power(line(found))}; rows' bounds lowest {low}, median {middle},"
        f" highest {high} ({found.seconds:.0f} CPU-seconds)",
        spread,
        verdict(found.accuracy >= plan.useful and each.min().item() - line(found) >= MANY),
    )
    near = (found.bounds >= 1).double().mean().item()
    prior = van_trees(1 / found.bounds, found.spread).sqrt()
    yield Claim(
        f"{where}: most rows' bounds are near 1 or above, where pixels go from 0 to 1",
        f"most; {UNTOLD}; here half of the rows above 1",
        f"{100 * near:.4g} % above 1. Whoever knows that pixels spread by {found.spread:.3g} errs by"
        f" {prior.min().item():.3g} to {prior.max().item():.3g} at least, root mean square, by van Trees",
        spread,
        verdict(near >= 0.5),
    )


def factor(setting: Setting) -> Iterator[Claim]:
    """The exact law of a sampled row in place of the paper's bracket."""
    found = model_of(setting)
    plan, limit = found.plan, 1 / found.expense.rate
    gain = found.bounds / found.published
    order = gain.log10().quantile(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    least, middle, most = (10**value for value in order.tolist())
    yield Claim(
        f"{found.name}, DP-SGD, noise {plan.sigma:g}: the exact law of a sampled row lifts bounds above the paper's",
        f"not in the paper, which multiplies with a bracket; here {GAIN * limit:.3g} times at the median, and no"
        " bound lower",
        f"{middle:.3g} times at the median, {least:.3g} to {most:.3g}; 1 / rate is {limit:.3g}",
        f"1 seed, {len(gain)} rows",
        verdict(middle >= GAIN * limit and least >= 1),
    )

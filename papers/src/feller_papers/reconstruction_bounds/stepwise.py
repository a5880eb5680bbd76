"""Claims about row bounds of DP-SGD, against the bound for all rows and the published factor."""

from collections.abc import Iterator

import torch

from feller.privacy.accounting.accountant import compute_epsilon
from feller.privacy.leakage.reconstruction_bounds import eps2_replaced, van_trees
from feller_papers.claims import Claim, verdict
from feller_papers.reconstruction_bounds.perturbed import format_power, log10_bound
from feller_papers.reconstruction_bounds.private import PrivateRun, private_run
from feller_papers.reconstruction_bounds.setting import Setting

MIN_GAP = 6.0
"""Smallest gap from the bound for all rows to the lowest row, in orders of magnitude."""
MIN_GAIN = 0.2
"""Smallest gain of the median bound by the exact law, relative to its maximum 1 / rate."""
NOT_AVAILABLE = "its figures are not at hand"


def line(run: PrivateRun) -> float:
    """Return log10 of the bound for all rows."""
    return log10_bound(eps2_replaced([run.dp_event]))


def steps(setting: Setting) -> Iterator[Claim]:
    """Return the claims about informative row bounds at useful accuracy."""
    run = private_run(setting)
    plan, event = run.plan, run.dp_event
    setting_words = f"{run.name}, DP-SGD, noise {plan.sigma:g}, hard clipping at {plan.clip:g}, {event.steps:,} steps"
    log_bounds = run.bounds.log10()
    spread = f"1 seed, {len(log_bounds)} rows, one probe every {plan.track_every} steps"
    low, middle, high = (
        format_power(value.item()) for value in (log_bounds.min(), log_bounds.median(), log_bounds.max())
    )
    epsilon = compute_epsilon([event], plan.delta)
    yield Claim(
        f"{setting_words}: at useful accuracy the bound for all rows says nothing, bounds of rows do",
        f"the line at 1e-13 or below at useful accuracy; {NOT_AVAILABLE}; here an accuracy of {plan.min_accuracy:g},"
        f" and {MIN_GAP:g} orders of magnitude from the line to the lowest row",
        f"{100 * run.accuracy:.4g} % of unseen pictures right; epsilon {epsilon:.4g} at delta {plan.delta:g}; the line,"
        f" for a row that is replaced, at {format_power(line(run))}; rows' bounds lowest {low}, median {middle},"
        f" highest {high} ({run.seconds:.0f} CPU-seconds)",
        spread,
        verdict(run.accuracy >= plan.min_accuracy and log_bounds.min().item() - line(run) >= MIN_GAP),
    )
    fraction_above_1 = (run.bounds >= 1).double().mean().item()
    prior = van_trees(1 / run.bounds, run.spread).sqrt()
    yield Claim(
        f"{setting_words}: most rows' bounds are near 1 or above, where pixels go from 0 to 1",
        f"most; {NOT_AVAILABLE}; here half of the rows above 1",
        f"{100 * fraction_above_1:.4g} % above 1. Whoever knows that pixels spread by {run.spread:.3g} errs by"
        f" {prior.min().item():.3g} to {prior.max().item():.3g} at least, root mean square, by van Trees",
        spread,
        verdict(fraction_above_1 >= 0.5),
    )


def factor(setting: Setting) -> Iterator[Claim]:
    """Return the claim about the exact law of a subsampled row against the paper's factor."""
    run = private_run(setting)
    plan, limit = run.plan, 1 / run.dp_event.rate
    gain = run.bounds / run.published_bounds
    log_gains = gain.log10().quantile(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    lowest, middle, highest = (10**value for value in log_gains.tolist())
    yield Claim(
        f"{run.name}, DP-SGD, noise {plan.sigma:g}: the exact law of a sampled row lifts bounds above the paper's",
        f"not in the paper, which multiplies with a bracket; here {MIN_GAIN * limit:.3g} times at the median, and no"
        " bound lower",
        f"{middle:.3g} times at the median, {lowest:.3g} to {highest:.3g}; 1 / rate is {limit:.3g}",
        f"1 seed, {len(gain)} rows",
        verdict(middle >= MIN_GAIN * limit and lowest >= 1),
    )

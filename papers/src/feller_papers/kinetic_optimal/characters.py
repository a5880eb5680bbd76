"""Claims about likelihood bounds of characters, in bits per character."""

import math
import statistics
from collections.abc import Sequence

from feller.models.families.elbo import ELBO, ReversalRates, SamplingRates
from feller.paths.discrete.token_schedules import KineticOptimal
from feller.paths.rescheduling import reschedule
from feller_papers.claims import Claim, mean_of, spread_of, untestable, verdict
from feller_papers.kinetic_optimal.setting import Setting
from feller_papers.kinetic_optimal.texts import MISSING, Bits, bound, corpus, train_model

NUM_WINDOWS = 600
"""Number of windows for the comparison of sources, with more times per window."""


def _bounds(setting: Setting, path_name: str, windows: int, times: int, rates: ELBO) -> list[Bits]:
    """Return the bound of each training seed, with times distributed as in training."""
    texts = corpus(setting.data)
    models = [train_model(texts, path_name, setting.text, seed) for seed in setting.seeds]
    test = texts.test[: min(windows, setting.windows)]
    return [bound(model, test, rates, times) for model in models]


def _format_bits(estimates: Sequence[Bits]) -> str:
    return f"{mean_of([estimate.mean for estimate in estimates])} ({max(estimate.error for estimate in estimates):.2g})"


def mask_bound(setting: Setting) -> list[Claim]:
    """Return the claim of section 11.5 about a small masked transformer."""
    claim = "A mask model bounds the bits of a character: 2 layers, windows of 64"
    paper = "perplexity bounds of large models; here at most 3.00 bits"
    texts = corpus(setting.data)
    if not texts.is_text8:
        return [untestable(claim, paper, MISSING)]
    estimates = _bounds(setting, "mask", len(texts.test), 4, SamplingRates())
    return [
        Claim(
            f"{claim}, {texts.name}",
            paper,
            f"{_format_bits(estimates)} bits after {setting.text:,} steps, {min(len(texts.test), setting.windows):,}"
            " windows; in brackets the standard error",
            spread_of([estimate.mean for estimate in estimates]),
            verdict(statistics.fmean(estimate.mean for estimate in estimates) <= 3),
        )
    ]


def schedules_agree(setting: Setting) -> list[Claim]:
    """Return the claim about the bound of one mask network under two schedules."""
    texts, pairs = corpus(setting.data), []
    for seed in setting.seeds:
        model, test = train_model(texts, "mask", setting.text, seed), texts.test[: setting.windows]
        linear = bound(model, test, SamplingRates(), 4)
        other = bound(
            model, test, SamplingRates(), 4, lambda path, network: reschedule(path, network, KineticOptimal())
        )
        pairs.append((linear, other))
    z_scores = [abs(a.mean - b.mean) / math.hypot(a.error, b.error) for a, b in pairs]
    return [
        Claim(
            f"The bound of a mask network does not depend on the schedule: {texts.name}",
            "equal",
            f"{_format_bits([a for a, _ in pairs])} bits under the linear, {_format_bits([b for _, b in pairs])} under"
            f" the kinetic-optimal law of times; in brackets the standard error, of which they are {max(z_scores):.2g}"
            " apart at most",
            spread_of([a.mean - b.mean for a, b in pairs]) + " of the difference",
            verdict(max(z_scores) <= 3),
        )
    ]


def sources(setting: Setting) -> list[Claim]:
    """Return the claims about velocities in the bound of a uniform source, and against the mask."""
    name = corpus(setting.data).name
    sampling = _bounds(setting, "uniform", NUM_WINDOWS, 16, SamplingRates())
    reversal = _bounds(setting, "uniform", NUM_WINDOWS, 16, ReversalRates())
    mask = _bounds(setting, "mask", NUM_WINDOWS, 16, SamplingRates())
    gaps = [a.mean - b.mean for a, b in zip(sampling, reversal, strict=True)]
    remaining = [a.mean - b.mean for a, b in zip(reversal, mask, strict=True)]
    return [
        Claim(
            f"A uniform source looks worse than a mask by the choice of velocity in its bound: {name}",
            "not in the paper; here at least 0.6 bits by the velocity, at most 0.25 left",
            f"uniform {_format_bits(sampling)} bits by the kinetic-optimal velocity, {_format_bits(reversal)} by the"
            f" time reversal, mask {_format_bits(mask)}; in brackets the standard error",
            f"{spread_of(gaps)} by the velocity; {spread_of(remaining)} left",
            verdict(min(gaps) >= 0.6 and max(remaining) <= 0.25),
        ),
        Claim(
            f"Other sources beat the mask in likelihood: uniform, {name}",
            "lower perplexity than a mask on text",
            f"uniform {_format_bits(reversal)} bits by its best bound, mask {_format_bits(mask)}",
            spread_of(remaining) + " of the difference",
            verdict(max(remaining) < 0),
        ),
    ]

"""Claims about characters: bounds on their probability, in bits per character, and language models on a budget."""

import math
import statistics
from collections.abc import Sequence

from feller.models.families.elbo import ELBO, ReversalRates, SamplingRates
from feller.paths.discrete.token_schedules import KineticOptimal
from feller.paths.rescheduling import reschedule
from feller_papers.claims import Claim, mean_of, spread_of, untestable, verdict
from feller_papers.kinetic_optimal.setting import Setting
from feller_papers.kinetic_optimal.texts import MISSING, Bits, bound, corpus, fitted

FEW = 600
"""Windows on which sources are compared, with more times each."""


def _bounds(setting: Setting, kind: str, windows: int, times: int, rates: ELBO) -> list[Bits]:
    """Return the bound of each training seed, under the law of times of the training."""
    texts = corpus(setting.data)
    models = [fitted(texts, kind, setting.text, seed) for seed in setting.seeds]
    test = texts.test[: min(windows, setting.windows)]
    return [bound(model, test, rates, times) for model in models]


def _row(found: Sequence[Bits]) -> str:
    return f"{mean_of([one.mean for one in found])} ({max(one.error for one in found):.2g})"


def mask_bound(setting: Setting) -> list[Claim]:
    """Section 11.5: a small transformer from masked characters."""
    claim = "A mask model bounds the bits of a character: 2 layers, windows of 64"
    paper = "perplexity bounds of large models; here at most 3.00 bits"
    texts = corpus(setting.data)
    if not texts.standard:
        return [untestable(claim, paper, MISSING)]
    found = _bounds(setting, "mask", len(texts.test), 4, SamplingRates())
    return [
        Claim(
            f"{claim}, {texts.name}",
            paper,
            f"{_row(found)} bits after {setting.text:,} steps, {min(len(texts.test), setting.windows):,} windows; "
            "in brackets the standard error",
            spread_of([one.mean for one in found]),
            verdict(statistics.fmean(one.mean for one in found) <= 3),
        )
    ]


def schedules_agree(setting: Setting) -> list[Claim]:
    """The bound of one mask network under the linear and under the kinetic-optimal law of times."""
    texts, pairs = corpus(setting.data), []
    for seed in setting.seeds:
        model, test = fitted(texts, "mask", setting.text, seed), texts.test[: setting.windows]
        linear = bound(model, test, SamplingRates(), 4)
        other = bound(
            model, test, SamplingRates(), 4, lambda path, network: reschedule(path, network, KineticOptimal())
        )
        pairs.append((linear, other))
    apart = [abs(a.mean - b.mean) / math.hypot(a.error, b.error) for a, b in pairs]
    return [
        Claim(
            f"The bound of a mask network does not depend on the schedule: {texts.name}",
            "equal",
            f"{_row([a for a, _ in pairs])} bits under the linear, {_row([b for _, b in pairs])} under the "
            "kinetic-optimal law of times; in brackets the standard error, of which they are "
            f"{max(apart):.2g} apart at most",
            spread_of([a.mean - b.mean for a, b in pairs]) + " of the difference",
            verdict(max(apart) <= 3),
        )
    ]


def sources(setting: Setting) -> list[Claim]:
    """What the choice of velocity does to the bound of a uniform source, and whether it beats the mask."""
    name = corpus(setting.data).name
    own = _bounds(setting, "uniform", FEW, 16, SamplingRates())
    back = _bounds(setting, "uniform", FEW, 16, ReversalRates())
    mask = _bounds(setting, "mask", FEW, 16, SamplingRates())
    gaps = [a.mean - b.mean for a, b in zip(own, back, strict=True)]
    rest = [a.mean - b.mean for a, b in zip(back, mask, strict=True)]
    return [
        Claim(
            f"A uniform source looks worse than a mask by the choice of velocity in its bound: {name}",
            "not in the paper; here at least 0.6 bits by the velocity, at most 0.25 left",
            f"uniform {_row(own)} bits by the kinetic-optimal velocity, {_row(back)} by the time reversal, mask "
            f"{_row(mask)}; in brackets the standard error",
            f"{spread_of(gaps)} by the velocity; {spread_of(rest)} left",
            verdict(min(gaps) >= 0.6 and max(rest) <= 0.25),
        ),
        Claim(
            f"Other sources beat the mask in likelihood: uniform, {name}",
            "lower perplexity than a mask on text",
            f"uniform {_row(back)} bits by its best bound, mask {_row(mask)}",
            spread_of(rest) + " of the difference",
            verdict(max(rest) < 0),
        ),
    ]

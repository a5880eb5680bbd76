"""Ablation of the fine-tuning of digits, one change at a time, at one seed; runs only if selected by name."""

from collections.abc import Iterator
from dataclasses import replace

from feller.control.fine_tuning.adjoint_matching import LandingAdjoint
from feller.sampling import MemorylessEuler
from feller_papers.adjoint_matching import digits, ink
from feller_papers.adjoint_matching.handwriting import Sampler, TuningBudget
from feller_papers.adjoint_matching.setting import Setting
from feller_papers.claims import Claim, verdict

DEFAULT = TuningBudget(80, lr=2e-4)
CHANGES = {
    "as it is": DEFAULT,
    "twice as many rounds": replace(DEFAULT, rounds=160),
    "a higher rate": replace(DEFAULT, lr=1e-3),
    "four times as many roll-outs": replace(DEFAULT, batch=512),
    "each set of roll-outs for 4 steps": replace(DEFAULT, rounds=320, replay=4),
    "40 steps in a roll-out": replace(DEFAULT, steps=40, share=0.5),
    "80 steps in a roll-out": replace(DEFAULT, steps=80, share=0.5),
    "an adjoint whose noise vanishes at the optimum": replace(DEFAULT, adjoint=LandingAdjoint()),
    "that, and a higher rate": replace(DEFAULT, adjoint=LandingAdjoint(), lr=4e-4),
    "that, in 40 steps": replace(DEFAULT, adjoint=LandingAdjoint(), lr=4e-4, steps=40, share=0.5),
    "a higher rate, twice the roll-outs, each set for 4 steps": TuningBudget(240, 256, lr=1e-3, average=0.99, replay=4),
}
"""Changes of the default budget."""


def in_set(setting: Setting) -> Iterator[Claim]:
    """Return the claims about digits of three classes."""
    target, default = (
        digits.target_metrics(setting),
        digits.tuned_metrics(setting, _capped(DEFAULT, setting), setting.seeds[0]),
    )
    for name, change in CHANGES.items():
        budget = _capped(change, setting)
        metrics = digits.tuned_metrics(setting, budget, setting.seeds[0])
        yield Claim(
            f"Digits tuned to be a 1, 3 or 7, {name}: {budget}",
            "not in the paper",
            f"share, entropy, distance, nearest real: {metrics}; tilted law {target}",
            "1 seed",
            verdict(metrics.target_fraction >= default.target_fraction),
        )


def more_ink(setting: Setting) -> Iterator[Claim]:
    """Return the claims about digits with more ink."""
    before, target = ink.target_metrics(setting)
    chain_before, chain_target = ink.target_metrics(setting, Sampler(MemorylessEuler(), 40))
    default = ink.tuned_metrics(setting, _capped(DEFAULT, setting), setting.seeds[0])
    for name, change in CHANGES.items():
        budget = _capped(change, setting)
        metrics = ink.tuned_metrics(setting, budget, setting.seeds[0])
        yield Claim(
            f"Digits tuned to more ink, {name}: {budget}",
            "not in the paper",
            f"{(metrics.ink - before) / (target - before):.3f} of the shift of the base's samples by weight;"
            f" {(metrics.ink - before) / (chain_target - chain_before):.3f} of that of its memoryless chain; ink, right"
            f" class, distance, nearest real: {metrics}",
            "1 seed",
            verdict(metrics.ink >= default.ink),
        )


def _capped(budget: TuningBudget, setting: Setting) -> TuningBudget:
    """Return a budget whose rounds are capped by the setting."""
    return replace(budget, rounds=min(budget.rounds, setting.max_rounds))

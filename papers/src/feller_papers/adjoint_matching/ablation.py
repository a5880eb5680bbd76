"""What brings tuned digits nearer to the tilted law, one change at a time and at one seed: run by name alone."""

from collections.abc import Iterator
from dataclasses import replace

from feller.control.fine_tuning.adjoint_matching import LandingAdjoint
from feller.sampling import MemorylessEuler
from feller_papers.adjoint_matching import digits, ink
from feller_papers.adjoint_matching.handwriting import Effort, Way
from feller_papers.adjoint_matching.setting import Setting
from feller_papers.claims import Claim, verdict

PLAIN = Effort(80, lr=2e-4)
CHANGES = {
    "as it is": PLAIN,
    "twice as many rounds": replace(PLAIN, rounds=160),
    "a higher rate": replace(PLAIN, lr=1e-3),
    "four times as many roll-outs": replace(PLAIN, batch=512),
    "each set of roll-outs for 4 steps": replace(PLAIN, rounds=320, replay=4),
    "40 steps in a roll-out": replace(PLAIN, steps=40, share=0.5),
    "80 steps in a roll-out": replace(PLAIN, steps=80, share=0.5),
    "an adjoint whose noise vanishes at the optimum": replace(PLAIN, adjoint=LandingAdjoint()),
    "that, and a higher rate": replace(PLAIN, adjoint=LandingAdjoint(), lr=4e-4),
    "that, in 40 steps": replace(PLAIN, adjoint=LandingAdjoint(), lr=4e-4, steps=40, share=0.5),
    "a higher rate, twice the roll-outs, each set for 4 steps": Effort(240, 256, lr=1e-3, average=0.99, replay=4),
}
"""Of the plain effort; one at a time, but for the last."""


def in_set(setting: Setting) -> Iterator[Claim]:
    """Digits that should be a 1, 3 or 7."""
    target, plain = digits.aim(setting), digits.matched(setting, _scaled(PLAIN, setting), setting.seeds[0])
    for name, change in CHANGES.items():
        effort = _scaled(change, setting)
        found = digits.matched(setting, effort, setting.seeds[0])
        yield Claim(
            f"Digits tuned to be a 1, 3 or 7, {name}: {effort}",
            "not in the paper",
            f"share, entropy, distance, nearest real: {found}; tilted law {target}",
            "1 seed",
            verdict(found.share >= plain.share),
        )


def more_ink(setting: Setting) -> Iterator[Claim]:
    """Digits with more ink."""
    before, target = ink.aim(setting)
    first, last = ink.aim(setting, Way(MemorylessEuler(), 40))
    plain = ink.matched(setting, _scaled(PLAIN, setting), setting.seeds[0])
    for name, change in CHANGES.items():
        effort = _scaled(change, setting)
        found = ink.matched(setting, effort, setting.seeds[0])
        yield Claim(
            f"Digits tuned to more ink, {name}: {effort}",
            "not in the paper",
            f"{(found.ink - before) / (target - before):.3f} of the shift of the base's samples by weight;"
            f" {(found.ink - before) / (last - first):.3f} of that of its memoryless chain; ink, right class, distance,"
            f" nearest real: {found}",
            "1 seed",
            verdict(found.ink >= plain.ink),
        )


def _scaled(effort: Effort, setting: Setting) -> Effort:
    """Spend no more rounds than the setting allows."""
    return replace(effort, rounds=min(effort.rounds, setting.most))

"""Claims about class-conditional 8 x 8 digits by FD-cnn, which depends on its judge and is not FID."""

import statistics

from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.generator_matching.pictures import sample_metrics
from feller_papers.generator_matching.rows import Measure, comparison_claim, ranges, ratios, table
from feller_papers.generator_matching.setting import BOTH, FLOW, FROZEN, JUMPS, Setting

FEW, SOME, USUAL = 8, 16, 32
"""Network calls."""
MAX_FD = {"flow": (FLOW, 0.5), "superposition": (BOTH, 0.55), "jumps": (JUMPS, 0.9)}
"""Largest FD-cnn of each process at which the claim holds."""


def measure(setting: Setting) -> Measure:
    """Return a function that gives the FD-cnn of a sampler for all seeds."""
    return lambda sampler, calls: [sample_metrics(setting, sampler, calls, seed)[0] for seed in setting.seeds]


def quality(setting: Setting) -> list[Claim]:
    """Return the claims about quality and class accuracy of each process."""
    found = []
    for name, (sampler, max_fd) in MAX_FD.items():
        distance, accuracy = zip(
            *(sample_metrics(setting, sampler, USUAL, seed) for seed in setting.seeds), strict=True
        )
        found.append(
            Claim(
                f"Digits, {name}, {setting.digits} training steps, {USUAL} calls",
                f"pictures of CIFAR-10 by FID; here at most FD-cnn {max_fd} and 90 % of the class asked for",
                f"FD-cnn {mean_of(distance, 3)} in the eyes of our own judge, at least {min(accuracy):.1%} of the"
                " class",
                spread_of(distance),
                verdict(statistics.fmean(distance) <= max_fd and min(accuracy) >= 0.9),
            )
        )
    return found


def order(setting: Setting) -> list[Claim]:
    """Return the claims about pairs of samplers, at equal calls of the same networks."""
    rows = (
        ("A superposition beats the Euler flow", "FID 2.49 against 2.94 on CIFAR-10", "superposition", "Euler flow"),
        ("A superposition beats the midpoint flow", "FID 2.49 against 2.48", "superposition", "midpoint flow"),
        ("Jumps alone beat the Euler flow", "no: FID 4.23 against 2.94 on CIFAR-10", "jumps", "Euler flow"),
    )
    return [
        comparison_claim(
            f"{claim} at equal calls: digits", paper, measure(setting), better, baseline, (FEW, USUAL), "FD-cnn"
        )
        for claim, paper, better, baseline in rows
    ]


def rules(setting: Setting) -> list[Claim]:
    """Return the claims about step rules of jumps."""
    found = measure(setting)
    worse = ratios(found(FROZEN, SOME), found(JUMPS, SOME))
    more = (
        (
            "The correction R is what makes jumps work, not the coin h lambda: digits, both landing at t",
            "FID 12 to 4.5 on CIFAR-10, against another rule",
            "jumps, R at t",
            "jumps, a coin h lambda at t",
        ),
        ("Landing at t + h helps: digits, jumps", "not in the paper", "jumps", "jumps, R at t"),
        (
            "Landing at t + h helps: digits, superposition",
            "not in the paper",
            "superposition",
            "superposition, R at t",
        ),
    )
    return [
        Claim(
            "A frozen rate exp(-h lambda) at t is the rule to avoid: digits, jumps, against R at t + h",
            "FID 12 to 4.5 on CIFAR-10 with R; here at least 1.5 times the FD-cnn",
            f"FD-cnn {table(found, (SOME,), 'jumps', 'jumps, exp(-h lambda) at t')}",
            ranges([worse]),
            verdict(min(worse) >= 1.5),
        ),
        *(
            comparison_claim(claim, paper, found, better, baseline, (SOME,), "FD-cnn")
            for claim, paper, better, baseline in more
        ),
    ]

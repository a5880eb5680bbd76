"""Claims about the 8 x 8 digits of the package: networks, and FD-cnn, which belongs to its judge and is no FID."""

import statistics
from dataclasses import replace

from feller.paths import Network, TokenPath
from feller_papers.claims import Claim, mean_of, seeds_of, spread_of, verdict
from feller_papers.kinetic_optimal.pictures import PATHS, Change, as_it_is, sampled
from feller_papers.kinetic_optimal.setting import Setting
from feller_papers.kinetic_optimal.stepping import Instant
from feller_papers.pictures import digits

MOST = {"mask": 0.75, "uniform": 0.65, "metric": 1.1}
"""FD-cnn that is asked of each path."""
FEW = 60
"""Training steps that are too few."""


def distances(setting: Setting, kind: str, calls: int, change: Change = as_it_is) -> list[float]:
    """Return the FD-cnn of samples for each training seed."""
    return [sampled(digits(setting.digits), kind, seed, calls, change=change)[0] for seed in setting.seeds]


def quality(setting: Setting) -> list[Claim]:
    """Samples of each path look like digits of the class that was asked for."""
    found, calls = [], setting.calls[2]
    for kind, most in MOST.items():
        pairs = [sampled(digits(setting.digits), kind, seed, calls) for seed in setting.seeds]
        distance, right = zip(*pairs, strict=True)
        found.append(
            Claim(
                f"Digits, {kind} path, {setting.digits} training steps, {calls} calls",
                f"pictures of CIFAR-10 by FID; here at most FD-cnn {most} and 92 % of the class asked for",
                f"FD-cnn {mean_of(distance, 3)} in the eyes of our own judge, at least {min(right):.1%} of the class "
                "asked for, 1,437 samples",
                spread_of(distance),
                verdict(statistics.fmean(distance) <= most and min(right) >= 0.92),
            )
        )
    return found


def can_fail(setting: Setting) -> list[Claim]:
    """FD-cnn of networks that hardly learned."""
    few = replace(digits(setting.digits), steps=min(FEW, setting.digits))
    found = [sampled(few, kind, seed, setting.calls[2])[0] for kind in PATHS for seed in setting.seeds]
    return [
        Claim(
            f"FD-cnn tells a network that was trained for {few.steps} steps",
            "not in the paper; here at least 10",
            f"FD-cnn at least {min(found):.3g}, {setting.calls[2]} calls",
            f"{seeds_of(setting.seeds)}, three paths, {min(found):.3g} to {max(found):.3g}",
            verdict(min(found) >= 10),
        )
    ]


def rates_at_the_start(path: TokenPath, network: Network) -> tuple[TokenPath, Network]:
    """Return the path with rates at the start of a step times the step."""
    return replace(path, step_rule=Instant()), network


def step_rule(setting: Setting) -> list[Claim]:
    """Increments of beta against rates at the start times the step, same networks."""
    ratios, rows = [], []
    for calls, most in zip(setting.calls[:2], (0.5, 0.6), strict=True):
        ours = distances(setting, "metric", calls)
        plain = distances(setting, "metric", calls, rates_at_the_start)
        ratio = [a / b for a, b in zip(ours, plain, strict=True)]
        ratios.append((ratio, most))
        rows.append(f"{calls} calls: {mean_of(ours, 3)} against {mean_of(plain, 3)}")
    return [
        Claim(
            "Increments beat rates at the start times the step: digits, metric path",
            "not in the paper; here FD-cnn at most 0.5 times as large at 4 calls, 0.6 at 8",
            "FD-cnn at " + ", at ".join(rows),
            "; ".join(spread_of(ratio) for ratio, _ in ratios) + " of the ratio",
            verdict(all(statistics.fmean(ratio) <= most for ratio, most in ratios)),
        )
    ]

"""Claims about 8 x 8 digits by FD-cnn, which depends on its judge network and is not FID."""

import statistics
from dataclasses import replace

from feller.paths import Network, TokenPath
from feller_papers.claims import Claim, mean_of, seeds_of, spread_of, verdict
from feller_papers.kinetic_optimal.pictures import PATHS, PathTransform, identity, sample_metrics
from feller_papers.kinetic_optimal.setting import Setting
from feller_papers.kinetic_optimal.stepping import EulerRates
from feller_papers.pictures import digits

MAX_FD = {"mask": 0.75, "uniform": 0.65, "metric": 1.1}
"""Largest FD-cnn of each path at which the claim holds."""
FEW_STEPS = 60
"""Training steps of an undertrained network."""


def distances(setting: Setting, path_name: str, calls: int, transform: PathTransform = identity) -> list[float]:
    """Return the FD-cnn of samples for each training seed."""
    return [
        sample_metrics(digits(setting.digits), path_name, seed, calls, transform=transform)[0] for seed in setting.seeds
    ]


def quality(setting: Setting) -> list[Claim]:
    """Return the claims about quality and class accuracy of each path."""
    results, calls = [], setting.calls[2]
    for path_name, max_fd in MAX_FD.items():
        pairs = [sample_metrics(digits(setting.digits), path_name, seed, calls) for seed in setting.seeds]
        distance, accuracy = zip(*pairs, strict=True)
        results.append(
            Claim(
                f"Digits, {path_name} path, {setting.digits} training steps, {calls} calls",
                f"pictures of CIFAR-10 by FID; here at most FD-cnn {max_fd} and 92 % of the class asked for",
                f"FD-cnn {mean_of(distance, 3)} in the eyes of our own judge, at least {min(accuracy):.1%} of the class"
                " asked for, 1,437 samples",
                spread_of(distance),
                verdict(statistics.fmean(distance) <= max_fd and min(accuracy) >= 0.92),
            )
        )
    return results


def can_fail(setting: Setting) -> list[Claim]:
    """Return the claim that FD-cnn detects undertrained networks."""
    undertrained = replace(digits(setting.digits), steps=min(FEW_STEPS, setting.digits))
    results = [
        sample_metrics(undertrained, path_name, seed, setting.calls[2])[0]
        for path_name in PATHS
        for seed in setting.seeds
    ]
    return [
        Claim(
            f"FD-cnn tells a network that was trained for {undertrained.steps} steps",
            "not in the paper; here at least 10",
            f"FD-cnn at least {min(results):.3g}, {setting.calls[2]} calls",
            f"{seeds_of(setting.seeds)}, three paths, {min(results):.3g} to {max(results):.3g}",
            verdict(min(results) >= 10),
        )
    ]


def euler_rates(path: TokenPath, network: Network) -> tuple[TokenPath, Network]:
    """Return the path with the Euler step of rates."""
    return replace(path, step_rule=EulerRates()), network


def step_rule(setting: Setting) -> list[Claim]:
    """Return the claim about increments of beta against Euler steps, with the same networks."""
    ratios, rows = [], []
    for calls, max_fd in zip(setting.calls[:2], (0.5, 0.6), strict=True):
        increments = distances(setting, "metric", calls)
        euler = distances(setting, "metric", calls, euler_rates)
        ratio = [a / b for a, b in zip(increments, euler, strict=True)]
        ratios.append((ratio, max_fd))
        rows.append(f"{calls} calls: {mean_of(increments, 3)} against {mean_of(euler, 3)}")
    return [
        Claim(
            "Increments beat rates at the start times the step: digits, metric path",
            "not in the paper; here FD-cnn at most 0.5 times as large at 4 calls, 0.6 at 8",
            "FD-cnn at " + ", at ".join(rows),
            "; ".join(spread_of(ratio) for ratio, _ in ratios) + " of the ratio",
            verdict(all(statistics.fmean(ratio) <= max_fd for ratio, max_fd in ratios)),
        )
    ]

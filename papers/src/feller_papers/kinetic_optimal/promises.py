"""Claims of the paper about paths, schedules, correctors and steps, on digits."""

import functools
import statistics
from collections.abc import Sequence
from dataclasses import replace

from feller.paths import Corrector, Mixture, Network, Path, RenoiseCorrector, ReversibleCorrector
from feller.paths.rescheduling import reschedule
from feller.paths.schedules import Linear
from feller_papers.claims import Claim, mean_of, numbers_of, seeds_of, spread_of, verdict
from feller_papers.kinetic_optimal.digits import distances
from feller_papers.kinetic_optimal.pictures import PATHS, PathTransform
from feller_papers.kinetic_optimal.setting import Setting


def metric_beats_mask(setting: Setting) -> list[Claim]:
    """Return the claims about metric against mask paths, with many and few calls."""
    claims = []
    for calls, words in ((setting.calls[2], "many calls"), (setting.calls[0], "few calls")):
        rows = {path_name: distances(setting, path_name, calls) for path_name in PATHS}
        ratios = [a / b for a, b in zip(rows["metric"], rows["mask"], strict=True)]
        claims.append(
            Claim(
                f"Metric paths beat mask paths on pixels: digits, {words}, {calls}",
                "better FID on CIFAR-10",
                "FD-cnn " + ", ".join(f"{path_name} {mean_of(values, 3)}" for path_name, values in rows.items()),
                spread_of(ratios) + " of metric over mask",
                verdict(max(ratios) < 1),
            )
        )
    return claims


def linear_schedule(path: Mixture, network: Network) -> tuple[Path, Network]:
    """Return a mixture rescheduled to the linear schedule, and its network at the matching times."""
    return reschedule(path, network, Linear())


def schedule_helps(setting: Setting) -> list[Claim]:
    """Return the claim about the sampling schedule, with the same networks."""
    ratios, rows, calls = [], [], setting.calls[:3]
    for path_name in ("mask", "uniform"):
        optimal = [distances(setting, path_name, n) for n in calls]
        linear = [distances(setting, path_name, n, linear_schedule) for n in calls]
        ratios += [statistics.fmean(a) / statistics.fmean(b) for a, b in zip(optimal, linear, strict=True)]
        rows.append(f"{path_name} {_means(optimal)} against {_means(linear)}")
    return [
        Claim(
            "The kinetic-optimal schedule improves samples: digits, same networks",
            "better than the linear one",
            f"FD-cnn after {numbers_of(calls)} calls, kinetic-optimal against linear: {'; '.join(rows)}",
            f"means of {seeds_of(setting.seeds)}, ratio {min(ratios):.3g} to {max(ratios):.3g} over six cells",
            verdict(max(ratios) < 1),
        )
    ]


def _means(rows: Sequence[Sequence[float]]) -> str:
    return ", ".join(mean_of(row, 3) for row in rows)


@functools.cache
def add_corrector(corrector: Corrector) -> PathTransform:
    """Return a transform that adds a corrector to a path."""
    return lambda path, network: (replace(path, corrector=corrector), network)


def correctors_help(setting: Setting) -> list[Claim]:
    """Return the claim about correctors of three strengths, and reversible ones on the metric path."""
    rows, ratios, calls = [], [], setting.calls[2]
    for path_name in PATHS:
        uncorrected = distances(setting, path_name, calls)
        corrected = [
            distances(setting, path_name, calls, add_corrector(RenoiseCorrector(rate))) for rate in setting.resamplings
        ]
        ratios += [a / b for row in corrected for a, b in zip(row, uncorrected, strict=True)]
        rows.append(f"{path_name} {_means([uncorrected, *corrected])}")
    reversible = distances(setting, "metric", calls, add_corrector(ReversibleCorrector(0.5)))
    num_better = sum(ratio < 1 for ratio in ratios)
    return [
        Claim(
            f"Correctors improve samples: digits, {calls} calls",
            "better with correctors and many steps",
            f"FD-cnn with {numbers_of((0.0, *setting.resamplings))} resamplings of a token: {'; '.join(rows)}; "
            f"metric path with forward and reverse rates {mean_of(reversible, 3)}; {num_better} of "
            f"{len(ratios)} runs with resampling are better than without",
            f"{seeds_of(setting.seeds)}, ratio {min(ratios):.3g} to {max(ratios):.3g}, mean {mean_of(ratios, 3)}",
            verdict(statistics.fmean(ratios) < 0.9),
        )
    ]


def steps_help(setting: Setting) -> list[Claim]:
    """Return the claim about more sampling steps."""
    calls = (setting.calls[0], *setting.calls[2:])
    rows = {path_name: [distances(setting, path_name, n) for n in calls] for path_name in PATHS}
    ratios = [statistics.fmean(row[-1]) / statistics.fmean(row[0]) for row in rows.values()]
    return [
        Claim(
            "More steps improve samples: digits",
            "FID falls up to 1,024 calls",
            f"FD-cnn after {numbers_of(calls)} calls: "
            + "; ".join(f"{path_name} {_means(row)}" for path_name, row in rows.items()),
            f"means of {seeds_of(setting.seeds)}, last over first {min(ratios):.3g} to {max(ratios):.3g}",
            verdict(max(ratios) < 0.9),
        )
    ]

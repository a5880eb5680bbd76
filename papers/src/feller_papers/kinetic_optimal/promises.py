"""What the paper promises of paths, schedules, correctors and steps, and whether samples of digits show it."""

import functools
import statistics
from collections.abc import Sequence
from dataclasses import replace

from feller.paths import Corrector, Mixture, Network, Path, RenoiseCorrector, ReversibleCorrector
from feller.paths.rescheduling import reschedule
from feller.paths.schedules import Linear
from feller_papers.claims import Claim, mean_of, numbers_of, seeds_of, spread_of, verdict
from feller_papers.kinetic_optimal.digits import distances
from feller_papers.kinetic_optimal.pictures import PATHS, Change
from feller_papers.kinetic_optimal.setting import Setting


def metric_beats_mask(setting: Setting) -> list[Claim]:
    """The paper's claim about pixels, with many calls and with few."""
    found = []
    for calls, when in ((setting.calls[2], "many calls"), (setting.calls[0], "few calls")):
        rows = {kind: distances(setting, kind, calls) for kind in PATHS}
        ratios = [a / b for a, b in zip(rows["metric"], rows["mask"], strict=True)]
        found.append(
            Claim(
                f"Metric paths beat mask paths on pixels: digits, {when}, {calls}",
                "better FID on CIFAR-10",
                "FD-cnn " + ", ".join(f"{kind} {mean_of(values, 3)}" for kind, values in rows.items()),
                spread_of(ratios) + " of metric over mask",
                verdict(max(ratios) < 1),
            )
        )
    return found


def linear_schedule(path: Mixture, network: Network) -> tuple[Path, Network]:
    """Return a mixture that moves at the linear schedule's pace, and its network, asked where it was trained."""
    return reschedule(path, network, Linear())


def schedule_helps(setting: Setting) -> list[Claim]:
    """The kinetic-optimal against the linear schedule at sampling, same networks."""
    ratios, rows, calls = [], [], setting.calls[:3]
    for kind in ("mask", "uniform"):
        own = [distances(setting, kind, n) for n in calls]
        linear = [distances(setting, kind, n, linear_schedule) for n in calls]
        ratios += [statistics.fmean(a) / statistics.fmean(b) for a, b in zip(own, linear, strict=True)]
        rows.append(f"{kind} {_means(own)} against {_means(linear)}")
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
def corrected(corrector: Corrector) -> Change:
    """Return what gives a path a corrector."""
    return lambda path, network: (replace(path, corrector=corrector), network)


def correctors_help(setting: Setting) -> list[Claim]:
    """Samples with correctors of three strengths; and forward and reverse rates on the metric path."""
    rows, ratios, calls = [], [], setting.calls[2]
    for kind in PATHS:
        plain = distances(setting, kind, calls)
        mended = [distances(setting, kind, calls, corrected(RenoiseCorrector(rate))) for rate in setting.resamplings]
        ratios += [a / b for row in mended for a, b in zip(row, plain, strict=True)]
        rows.append(f"{kind} {_means([plain, *mended])}")
    both = distances(setting, "metric", calls, corrected(ReversibleCorrector(0.5)))
    better = sum(ratio < 1 for ratio in ratios)
    return [
        Claim(
            f"Correctors improve samples: digits, {calls} calls",
            "better with correctors and many steps",
            f"FD-cnn with {numbers_of((0.0, *setting.resamplings))} resamplings of a token: {'; '.join(rows)}; "
            f"metric path with forward and reverse rates {mean_of(both, 3)}; {better} of "
            f"{len(ratios)} runs with resampling are better than without",
            f"{seeds_of(setting.seeds)}, ratio {min(ratios):.3g} to {max(ratios):.3g}, mean {mean_of(ratios, 3)}",
            verdict(statistics.fmean(ratios) < 0.9),
        )
    ]


def steps_help(setting: Setting) -> list[Claim]:
    """More calls than a few."""
    calls = (setting.calls[0], *setting.calls[2:])
    rows = {kind: [distances(setting, kind, n) for n in calls] for kind in PATHS}
    ratios = [statistics.fmean(row[-1]) / statistics.fmean(row[0]) for row in rows.values()]
    return [
        Claim(
            "More steps improve samples: digits",
            "FID falls up to 1,024 calls",
            f"FD-cnn after {numbers_of(calls)} calls: "
            + "; ".join(f"{kind} {_means(row)}" for kind, row in rows.items()),
            f"means of {seeds_of(setting.seeds)}, last over first {min(ratios):.3g} to {max(ratios):.3g}",
            verdict(max(ratios) < 0.9),
        )
    ]

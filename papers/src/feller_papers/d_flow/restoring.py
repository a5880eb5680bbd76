"""Claims about restored digits: inverse problems, by the same network in every way."""

import statistics
from collections.abc import Sequence

from feller_papers.claims import Claim, mean_of, seeds_of, spread_of, verdict
from feller_papers.d_flow.methods import Row, table
from feller_papers.d_flow.pictures import TASKS, Task
from feller_papers.d_flow.setting import Setting

MEAN, ONE = "mean of 4 D-Flow", "D-Flow"


def rows(setting: Setting, task: Task, name: str) -> list[Row]:
    """Return what a way gives for each seed."""
    return [table(setting, task, seed).rows[name] for seed in setting.seeds]


def gaps(setting: Setting, task: Task, one: str, other: str) -> list[float]:
    """Return by how many decibels a way is better than another, for each seed."""
    pairs = zip(rows(setting, task, one), rows(setting, task, other), strict=True)
    return [a.decibels - b.decibels for a, b in pairs]


def cell(found: Sequence[Row]) -> str:
    """Return means over seeds for people."""
    figures = [f"{statistics.fmean(row.decibels for row in found):.2f}"]
    figures.append(f"{statistics.fmean(row.accuracy for row in found):.2f}")
    figures.append(f"{statistics.fmean(row.residual for row in found):.1e}")
    if found[0].size is not None:
        figures.append(f"{statistics.fmean(row.size or 0.0 for row in found):.2f}")
    return f"{', '.join(figures)} in {statistics.fmean(row.seconds for row in found):.1f} s"


def written(setting: Setting, task: Task) -> str:
    """Return the table of a task in words."""
    tables = [table(setting, task, seed) for seed in setting.seeds]
    cells = [f"{name} {cell([one.rows[name] for one in tables])}" for name in tables[0].rows]
    scales = [f"{name} {', '.join(f'{one.scales[name]:g}' for one in tables)}" for name in tables[0].scales]
    return f"{'; '.join(cells)}; scales chosen {' and '.join(scales)}"


def means_beat_wiener(setting: Setting) -> list[Claim]:
    """The mean of four restorations against what needs no network; one claim for each task, with all figures."""
    found = []
    for task in TASKS:
        gap = gaps(setting, task, MEAN, "Wiener")
        found.append(
            Claim(
                f"Digits, {task.name}: the mean of four restorations is better than the Wiener filter",
                "not in the paper; here by 0.5 dB of PSNR",
                f"by {mean_of(gap, 3)} dB on {setting.pictures} unseen digits. PSNR in dB, accuracy by the judge,"
                f" residual, mean square of the source: {written(setting, task)}",
                f"{spread_of(gap)}, dB",
                verdict(min(gap) >= 0.5),
            )
        )
    return found


def over_tasks(setting: Setting, one: str, other: str) -> tuple[list[float], str]:
    """Return by how much one method is better than another, the mean over all tasks of each seed, and each task's."""
    each = {task.name: gaps(setting, task, one, other) for task in TASKS}
    means = [statistics.fmean(gap) for gap in zip(*each.values(), strict=True)]
    return means, "; ".join(f"{name} {mean_of(gap, 3)}" for name, gap in each.items())


def better_than_guidance(setting: Setting) -> list[Claim]:
    """One restoration against guidance as it is derived, over all tasks."""
    means, cells = over_tasks(setting, ONE, "PiGDM")
    return [
        Claim(
            "D-Flow restores better than guidance by the pseudo-inverse (scale 1), with the same network: digits",
            "better on ImageNet-128 by FID, LPIPS, PSNR and SSIM; here by 0.3 dB, mean of four tasks",
            f"by {mean_of(means, 3)} dB ({cells})",
            f"{spread_of(means)}, dB",
            verdict(statistics.fmean(means) >= 0.3),
        )
    ]


def tuned_guidance(setting: Setting) -> list[Claim]:
    """One restoration against guidance whose scale was chosen on other pictures, over all tasks."""
    means, cells = over_tasks(setting, "DPS tuned", ONE)
    pairs = [(rows(setting, task, "DPS tuned"), rows(setting, task, ONE)) for task in TASKS]
    share = sum(row.seconds for guided, _ in pairs for row in guided) / sum(
        row.seconds for _, searched in pairs for row in searched
    )
    return [
        Claim(
            "Guidance whose scale is chosen on other pictures beats one D-Flow restoration, in less time: digits, DPS",
            "not in the paper; expected here",
            f"by {mean_of(means, 3)} dB ({cells}), in {share:.1%} of the time",
            f"{spread_of(means)}, dB",
            verdict(min(means) > 0 and share < 0.2),
        )
    ]


def means_of_both(setting: Setting) -> list[Claim]:
    """Means of four against means of four with a chosen scale."""
    means, cells = over_tasks(setting, MEAN, "mean of 4 PiGDM tuned")
    return [
        Claim(
            "The mean of four D-Flow restorations beats that of four of PiGDM whose scale is chosen: digits",
            "not in the paper",
            f"by {mean_of(means, 3)} dB ({cells})",
            f"{spread_of(means)}, dB",
            verdict(min(means) > 0),
        )
    ]


def discrepancy(setting: Setting) -> list[Claim]:
    """Where the search stops for noisy measurements."""
    noisy = [task for task in TASKS if task.noise]
    shares = {task.name: [row.residual / task.noise**2 for row in rows(setting, task, ONE)] for task in noisy}
    every = [share for found in shares.values() for share in found]
    return [
        Claim(
            "A search that stops where the noise explains the rest does not fit the noise: digits, noise 0.1",
            "not in the paper; here a residual of 0.5 to 1 times the variance of the noise",
            "; ".join(f"{name} {mean_of(found, 3)}" for name, found in shares.items()),
            f"{seeds_of(setting.seeds)}, both tasks, {min(every):.3g} to {max(every):.3g}",
            verdict(min(every) >= 0.5 and max(every) <= 1),
        )
    ]

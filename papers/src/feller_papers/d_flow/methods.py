"""Every way of restoring the same digits, with the same network, and what is measured of it."""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.inverse.d_flow import ChiPrior, GaussianPrior, SourcePrior
from feller.control.inverse.guided_solver import DPS, GuidedSolver, PiGDM
from feller.control.inverse.inverse_methods import DFlow
from feller.control.inverse.inverse_problem import InverseSolver, Measurement, wiener_estimate
from feller.control.inverse.red_diff import REDDiff
from feller.control.optimize.lbfgs import LBFGS
from feller.core.rng import Rng
from feller_papers.d_flow.pictures import SHAPE, Task, Unseen, learned, moments, unseen
from feller_papers.d_flow.setting import Setting
from feller_papers.pictures import digits

MANY = 4
"""Restorations from as many starts, whose mean is taken."""
PIGDM, DISTANCE = (1.0, 2.0, 3.0, 4.5, 6.0), (10.0, 20.0, 40.0, 60.0, 80.0)
"""Scales to choose from."""
CHOSEN = 2
"""Starts of each picture that a scale is chosen by."""


@dataclass(frozen=True)
class Row:
    """What a way gives for one task and seed, means over pictures."""

    decibels: float
    """Peak signal-to-noise ratio, for a range of 2."""
    accuracy: float
    """Share that the judge sees as the digit that was there."""
    residual: float
    """Mean square, in squared units of [-1, 1]."""
    size: float | None
    """Mean square of the numbers of the sources, where they were searched."""
    seconds: float
    """Of the processor, for all pictures."""
    each: Float[Tensor, " n"]
    """Ratio of each picture."""


def decibels(x: Tensor, truth: Tensor) -> Float[Tensor, " n"]:
    """Return the peak signal-to-noise ratio of each picture."""
    return 10 * torch.log10(4 / (x - truth).square().flatten(1).mean(1))


@dataclass(frozen=True)
class Bench:
    """A task with one network, on some pictures."""

    setting: Setting
    task: Task
    seed: int
    pictures: Unseen

    @property
    def observation(self) -> Measurement:
        """What is measured, with the noise of the seed."""
        return self.task.observe(self.pictures.x, Rng(self.seed))

    def restored(self, way: InverseSolver, starts: int) -> tuple[Row, Row]:
        """Restore from some starts, the same ones for all ways; measure the first, and the mean of all."""
        model, about, found, seconds = learned(self.setting.base, self.seed), self.observation, [], []
        for start in range(starts):
            begun, draws = time.process_time(), Rng(self.seed).fold_in("start", start)
            x_0 = draws.stream("source").normal(self.pictures.x.shape)
            found.append(way.restore(model, about, x_0, draws))
            seconds.append(time.process_time() - begun)
        mean = torch.stack([one.state for one in found]).mean(0)
        sizes = [one.source.square().mean().item() for one in found if one.source is not None]
        first = self.row(found[0].state, seconds[0], sizes[0] if sizes else None)
        return first, self.row(mean, sum(seconds), statistics.fmean(sizes) if sizes else None)

    def row(self, state: Tensor, seconds: float, size: float | None = None) -> Row:
        """Measure restored pictures."""
        about, data, each = self.observation, self.pictures.data, decibels(state, self.pictures.x)
        judge = digits(self.setting.base).judge
        return Row(
            each.mean().item(),
            judge.agrees(data.modality.decode(state), data.given["label"]),
            about.residual_mse(state).mean().item(),
            size,
            seconds,
            each,
        )

    def wiener(self) -> Row:
        """Return what needs no network."""
        begun = time.process_time()
        state = wiener_estimate(self.observation, *moments(self.setting.base), SHAPE).float()
        return self.row(state, time.process_time() - begun)

    def best(self, make: Callable[[float], GuidedSolver], scales: Sequence[float]) -> float:
        """Return the scale with the highest ratio."""
        return max(scales, key=lambda scale: self.restored(make(scale), CHOSEN)[1].decibels)


def pigdm(scale: float) -> GuidedSolver:
    """Return guidance by the pseudo-inverse."""
    return GuidedSolver(PiGDM(scale))


def dps(scale: float) -> GuidedSolver:
    """Return guidance by the distance."""
    return GuidedSolver(DPS(scale))


def search(setting: Setting, blend: float = 0.1, prior: SourcePrior = ChiPrior()) -> DFlow:  # noqa: B008 - frozen
    """Return the search for sources, with the usual settings but for its length."""
    return DFlow(blend=blend, minimizer=LBFGS(steps=setting.search), prior=prior)


@dataclass(frozen=True, eq=False)
class Table:
    """What every way gives for one task and seed."""

    rows: dict[str, Row]
    scales: dict[str, float]
    """Of the guidance, chosen on other pictures."""


@functools.cache
def table(setting: Setting, task: Task, seed: int) -> Table:
    """Restore the same digits in every way."""
    judged, others = (Bench(setting, task, seed, part) for part in unseen(setting.pictures))
    scales = {"PiGDM": others.best(pigdm, PIGDM), "DPS": others.best(dps, DISTANCE)}
    d_flow, d_flows = judged.restored(search(setting), MANY)
    plain, plains = judged.restored(pigdm(1.0), MANY)
    tuned, tuneds = judged.restored(pigdm(scales["PiGDM"]), MANY)
    rows = {
        "Wiener": judged.wiener(),
        "PiGDM": plain,
        "PiGDM tuned": tuned,
        "DPS tuned": judged.restored(dps(scales["DPS"]), 1)[0],
        "OT-ODE": judged.restored(GuidedSolver(PiGDM(), start=0.2), 1)[0],
        "RED-Diff": judged.restored(REDDiff(), 1)[0],
        "D-Flow": d_flow,
        "D-Flow, random start": judged.restored(search(setting, 0.0), 1)[0],
        "D-Flow, density": judged.restored(search(setting, prior=GaussianPrior()), 1)[0],
        "mean of 4 D-Flow": d_flows,
        "mean of 4 PiGDM": plains,
        "mean of 4 PiGDM tuned": tuneds,
    }
    return Table(rows, scales)

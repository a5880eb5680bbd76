"""All restoration methods on the same digits and network, and their metrics."""

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
from feller_papers.d_flow.pictures import SHAPE, DigitSet, Task, moments, test_digits, train_prior
from feller_papers.d_flow.setting import Setting
from feller_papers.pictures import digits

NUM_STARTS = 4
"""Number of restorations, from different source samples, in a mean."""
PIGDM_SCALES, DPS_SCALES = (1.0, 2.0, 3.0, 4.5, 6.0), (10.0, 20.0, 40.0, 60.0, 80.0)
"""Grids of guidance scales."""
TUNING_STARTS = 2
"""Source samples per image in the tuning of a scale."""


@dataclass(frozen=True)
class Row:
    """Metrics of a method for one task and seed, means over images."""

    psnr: float
    """PSNR in dB, for a data range of 2."""
    accuracy: float
    """Fraction that the judge classifies as the true digit."""
    residual: float
    """Mean squared residual of the measurement, for pixels in [-1, 1]."""
    source_norm: float | None
    """Mean square of the optimised source; None for methods without one."""
    seconds: float
    """CPU-seconds for all images."""
    psnr_per_image: Float[Tensor, " n"]
    """PSNR of each image."""


def psnr(x: Tensor, truth: Tensor) -> Float[Tensor, " n"]:
    """Return the PSNR of each image in dB."""
    return 10 * torch.log10(4 / (x - truth).square().flatten(1).mean(1))


@dataclass(frozen=True)
class Experiment:
    """A task, a network and images."""

    setting: Setting
    task: Task
    seed: int
    images: DigitSet

    @property
    def observation(self) -> Measurement:
        """Noisy measurement of the images."""
        return self.task.observe(self.images.x, Rng(self.seed))

    def restore(self, method: InverseSolver, starts: int) -> tuple[Row, Row]:
        """Return the metrics of the first restoration and of the mean over source samples, shared by all methods."""
        model, observation, results, seconds = train_prior(self.setting.base_steps, self.seed), self.observation, [], []
        for start in range(starts):
            start_time, rng = time.process_time(), Rng(self.seed).fold_in("start", start)
            x_0 = rng.stream("source").normal(self.images.x.shape)
            results.append(method.restore(model, observation, x_0, rng))
            seconds.append(time.process_time() - start_time)
        mean = torch.stack([result.state for result in results]).mean(0)
        source_norms = [result.source.square().mean().item() for result in results if result.source is not None]
        first_metrics = self.measure(results[0].state, seconds[0], source_norms[0] if source_norms else None)
        return first_metrics, self.measure(mean, sum(seconds), statistics.fmean(source_norms) if source_norms else None)

    def measure(self, state: Tensor, seconds: float, source_norm: float | None = None) -> Row:
        """Return the metrics of restored images."""
        observation, data, psnr_per_image = self.observation, self.images.data, psnr(state, self.images.x)
        judge = digits(self.setting.base_steps).judge
        return Row(
            psnr_per_image.mean().item(),
            judge.accuracy(data.modality.decode(state), data.given["label"]),
            observation.residual_mse(state).mean().item(),
            source_norm,
            seconds,
            psnr_per_image,
        )

    def wiener(self) -> Row:
        """Return the metrics of the Wiener filter."""
        start_time = time.process_time()
        state = wiener_estimate(self.observation, *moments(self.setting.base_steps), SHAPE).float()
        return self.measure(state, time.process_time() - start_time)

    def tune_scale(self, make: Callable[[float], GuidedSolver], scales: Sequence[float]) -> float:
        """Return the scale with the highest PSNR."""
        return max(scales, key=lambda scale: self.restore(make(scale), TUNING_STARTS)[1].psnr)


def pigdm(scale: float) -> GuidedSolver:
    """Return a PiGDM solver."""
    return GuidedSolver(PiGDM(scale))


def dps(scale: float) -> GuidedSolver:
    """Return a DPS solver."""
    return GuidedSolver(DPS(scale))


def d_flow_solver(setting: Setting, blend: float = 0.1, prior: SourcePrior = ChiPrior()) -> DFlow:  # noqa: B008 - frozen
    """Return a D-Flow solver with the number of steps of the setting."""
    return DFlow(blend=blend, minimizer=LBFGS(steps=setting.search_steps), prior=prior)


@dataclass(frozen=True, eq=False)
class Table:
    """Metrics of all methods for one task and seed."""

    rows: dict[str, Row]
    scales: dict[str, float]
    """Guidance scales, tuned on other images."""


@functools.cache
def table(setting: Setting, task: Task, seed: int) -> Table:
    """Return the metrics of all methods."""
    test, tuning = (Experiment(setting, task, seed, part) for part in test_digits(setting.num_test))
    scales = {"PiGDM": tuning.tune_scale(pigdm, PIGDM_SCALES), "DPS": tuning.tune_scale(dps, DPS_SCALES)}
    first_d_flow, mean_d_flow = test.restore(d_flow_solver(setting), NUM_STARTS)
    first_pigdm, mean_pigdm = test.restore(pigdm(1.0), NUM_STARTS)
    first_tuned, mean_tuned = test.restore(pigdm(scales["PiGDM"]), NUM_STARTS)
    rows = {
        "Wiener": test.wiener(),
        "PiGDM": first_pigdm,
        "PiGDM tuned": first_tuned,
        "DPS tuned": test.restore(dps(scales["DPS"]), 1)[0],
        "OT-ODE": test.restore(GuidedSolver(PiGDM(), start=0.2), 1)[0],
        "RED-Diff": test.restore(REDDiff(), 1)[0],
        "D-Flow": first_d_flow,
        "D-Flow, random start": test.restore(d_flow_solver(setting, 0.0), 1)[0],
        "D-Flow, density": test.restore(d_flow_solver(setting, prior=GaussianPrior()), 1)[0],
        "mean of 4 D-Flow": mean_d_flow,
        "mean of 4 PiGDM": mean_pigdm,
        "mean of 4 PiGDM tuned": mean_tuned,
    }
    return Table(rows, scales)

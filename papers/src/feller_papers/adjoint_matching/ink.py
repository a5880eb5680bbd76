"""Digits with more ink: a linear reward of the pixels, within each class."""

import functools
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from feller.control.fine_tuning.memoryless_chain import adjoint_steps, roll_out
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.paths import Affine
from feller.paths.time_distributions import linear_grid
from feller.sampling import MemorylessEuler
from feller_papers.adjoint_matching.handwriting import (
    CLASSES,
    FLOW,
    PIXELS,
    DigitModel,
    Sampler,
    TuningBudget,
    digit_model,
    draw_samples,
    each_class,
    mean_nearest_distance,
    pairwise_distance,
)
from feller_papers.adjoint_matching.setting import Setting
from feller_papers.claims import Claim, mean_of, spread_of, verdict

REWARD_SCALE = 60.0


def ink(x: Float[Tensor, "n 64"], given: Cond) -> Float[Tensor, " n"]:
    """Return the mean of all pixels, black 0 and white 1."""
    return (x + 1).mean(1) / 2


@dataclass(frozen=True)
class SampleMetrics:
    """Metrics of samples."""

    ink: float
    accuracy: float
    """Fraction that the judge assigns to the given class."""
    pairwise_distance: float
    """Mean pairwise distance."""
    nearest_distance: float
    """Mean distance to the nearest real image."""

    def __str__(self) -> str:
        return f"{self.ink:.4f}, {self.accuracy:.3f}, {self.pairwise_distance:.2f}, {self.nearest_distance:.2f}"


def measure_samples(model: DigitModel, x: Float[Tensor, "n 64"], label: Int64[Tensor, " n"]) -> SampleMetrics:
    """Return the metrics of samples."""
    accuracy = torch.eq(model.judge(x).argmax(1), label).double().mean().item()
    return SampleMetrics(ink(x, {}).mean().item(), accuracy, pairwise_distance(x), mean_nearest_distance(x, model.real))


def sample_metrics(setting: Setting, network: nn.Module, seed: int) -> SampleMetrics:
    """Return the metrics of class-balanced samples of a network."""
    return measure_samples(
        digit_model(setting.base_steps), *draw_samples(network, each_class, setting.num_samples, seed)
    )


@functools.cache
def target_metrics(setting: Setting, sampler: Sampler = FLOW) -> tuple[float, float]:
    """Return the mean ink of the base model, and with importance weights within each class."""
    x, label = draw_samples(digit_model(setting.base_steps).base, each_class, setting.num_weighted, 0, sampler)
    amount, aims = ink(x, {}), []
    for number in range(CLASSES):
        some = amount[label == number]
        aims.append(((REWARD_SCALE * some).softmax(0) * some).sum().item())
    return amount.mean().item(), statistics.fmean(aims)


@functools.cache
def tuned_metrics(setting: Setting, budget: TuningBudget, seed: int) -> SampleMetrics:
    """Return the metrics of samples after adjoint matching."""
    return sample_metrics(
        setting, budget.tune(digit_model(setting.base_steps), ink, REWARD_SCALE, each_class, seed), seed
    )


def thicker(setting: Setting) -> Iterator[Claim]:
    """Return the claim that adjoint matching shifts the ink, and keeps labels and realism."""
    before, target = target_metrics(setting)
    all_metrics = [tuned_metrics(setting, setting.ink_budget, seed) for seed in setting.seeds]
    shares = [(metrics.ink - before) / (target - before) for metrics in all_metrics]
    base = sample_metrics(setting, digit_model(setting.base_steps).base, 0)
    kept = all(metrics.accuracy >= 0.97 and metrics.nearest_distance <= 2.2 for metrics in all_metrics)
    yield Claim(
        f"Digits tuned to more ink, {REWARD_SCALE:g} nats for all of it, each within its class: {setting.ink_budget}",
        "more reward without collapse; here 0.6 of the shift, 0.97 of the class, nearest real at most 2.2",
        f"{mean_of(shares, 3)} of the shift from {before:.4f} to {target:.4f}, that of {setting.num_weighted} samples"
        f" of the base by weight; ink, right class, distance, nearest real: {'; '.join(map(str, all_metrics))}; base"
        f" {base}",
        spread_of(shares),
        verdict(min(shares) >= 0.6 and kept),
    )


def possible(setting: Setting) -> Iterator[Claim]:
    """Return the claim about the shift by exact regression for a weak reward."""
    gain, error, variance = response(setting, 20)
    yield Claim(
        "A smooth reward that is weak can be met in 20 steps: what tuning leaves of the shift is not for their number,"
        " but is not learned yet",
        "not in the paper; 1 in continuous time",
        f"{gain / variance:.3f} of the shift that the tilt makes, by pairs of futures of {setting.num_rollouts}"
        f" roll-outs; standard error {error / variance:.3f}",
        "1 seed",
        verdict(gain / variance + 2 * error / variance >= 1 and error / variance <= 0.1),
    )


def response(setting: Setting, steps: int) -> tuple[float, float, float]:
    """Return the gain of exact regression per unit of a weak reward, its standard error, and the variance of ink.

    The squared mean adjoint at a state is estimated by the product of two independent roll-outs. A step gains its
    variance times that; the full tilt gains the variance within a class.
    """
    n = setting.num_rollouts
    label = each_class(n, Rng(0))
    given, given_twice = {"label": label}, {"label": label.repeat(2)}
    process, both = (
        Affine().process(digit_model(setting.base_steps).base, metrics) for metrics in (given, given_twice)
    )
    times, solver, draws = linear_grid(steps), MemorylessEuler(), Rng(0).fold_in("response")
    with torch.no_grad():
        chain = roll_out(process, draws.stream("source").normal((n, PIXELS)), times, solver, draws)
    gains = []
    for number, x in enumerate(chain.states[:-1]):
        later = times[number:]
        with torch.no_grad():
            futures = roll_out(both, x.repeat(2, 1), later, solver, draws.fold_in(number))
        slope = torch.full_like(futures.end, 1 / (2 * PIXELS))
        *_, first = adjoint_steps(both, futures, slope)
        gains.append(first.linear.variance * (first.adjoint[:n] * first.adjoint[n:]).sum(1))
    last = solver.linear_step(times[-2], 1.0).variance / (4 * PIXELS)  # whose adjoint is the slope of ink
    total = torch.stack(gains).sum(0) + last
    end = ink(chain.end, {})
    within = statistics.fmean(end[label == number].var().item() for number in range(CLASSES))
    return total.mean().item(), total.std().item() / n**0.5, within

"""Digits with thicker strokes: a smooth reward, linear in the pixels, for each class by itself."""

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
    Effort,
    Handwriting,
    Way,
    apart,
    drawn,
    each_class,
    handwriting,
    nearest,
)
from feller_papers.adjoint_matching.setting import Setting
from feller_papers.claims import Claim, mean_of, spread_of, verdict

STRENGTH = 60.0


def ink(x: Float[Tensor, "n 64"], given: Cond) -> Float[Tensor, " n"]:
    """Return the mean of all pixels, black 0 and white 1."""
    return (x + 1).mean(1) / 2


@dataclass(frozen=True)
class Look:
    """What samples look like."""

    ink: float
    right: float
    """Share that the judge sees as the class that was asked for."""
    apart: float
    """Mean distance of two samples."""
    near: float
    """Mean distance to the nearest real picture."""

    def __str__(self) -> str:
        return f"{self.ink:.4f}, {self.right:.3f}, {self.apart:.2f}, {self.near:.2f}"


def look(about: Handwriting, x: Float[Tensor, "n 64"], label: Int64[Tensor, " n"]) -> Look:
    """Measure samples."""
    right = torch.eq(about.judge(x).argmax(1), label).double().mean().item()
    return Look(ink(x, {}).mean().item(), right, apart(x), nearest(x, about.real))


def seen(setting: Setting, network: nn.Module, seed: int) -> Look:
    """Return what samples of a model look like, as many of each class."""
    return look(handwriting(setting.base), *drawn(network, each_class, setting.seen, seed))


@functools.cache
def aim(setting: Setting, way: Way = FLOW) -> tuple[float, float]:
    """Return the mean ink of the base, and of its samples weighed within each class: tuning leaves labels alone."""
    x, label = drawn(handwriting(setting.base).base, each_class, setting.weighed, 0, way)
    amount, aims = ink(x, {}), []
    for number in range(CLASSES):
        some = amount[label == number]
        aims.append(((STRENGTH * some).softmax(0) * some).sum().item())
    return amount.mean().item(), statistics.fmean(aims)


@functools.cache
def matched(setting: Setting, effort: Effort, seed: int) -> Look:
    """Return what samples look like after adjoint matching."""
    return seen(setting, effort.tune(handwriting(setting.base), ink, STRENGTH, each_class, seed), seed)


def thicker(setting: Setting) -> Iterator[Claim]:
    """Adjoint matching moves the ink as the tilted law has it, and neither labels nor realism."""
    before, target = aim(setting)
    found = [matched(setting, setting.inked, seed) for seed in setting.seeds]
    shares = [(one.ink - before) / (target - before) for one in found]
    base = seen(setting, handwriting(setting.base).base, 0)
    kept = all(one.right >= 0.97 and one.near <= 2.2 for one in found)
    yield Claim(
        f"Digits tuned to more ink, {STRENGTH:g} nats for all of it, each within its class: {setting.inked}",
        "more reward without collapse; here 0.6 of the shift, 0.97 of the class, nearest real at most 2.2",
        f"{mean_of(shares, 3)} of the shift from {before:.4f} to {target:.4f}, that of {setting.weighed} samples of the"
        f" base by weight; ink, right class, distance, nearest real: {'; '.join(map(str, found))}; base {base}",
        spread_of(shares),
        verdict(min(shares) >= 0.6 and kept),
    )


def possible(setting: Setting) -> Iterator[Claim]:
    """What a weak reward would move if the regression were exact."""
    gained, error, variance = response(setting, 20)
    yield Claim(
        "A smooth reward that is weak can be met in 20 steps: what tuning leaves of the shift is not for their number,"
        " but is not learned yet",
        "not in the paper; 1 in continuous time",
        f"{gained / variance:.3f} of the shift that the tilt makes, by pairs of futures of {setting.forked} roll-outs;"
        f" standard error {error / variance:.3f}",
        "1 seed",
        verdict(gained / variance + 2 * error / variance >= 1 and error / variance <= 0.1),
    )


def response(setting: Setting, steps: int) -> tuple[float, float, float]:
    """Return what the exact regression gains per unit of a weak reward, its standard error, and the variance of ink.

    Of each state the mean adjoint squared is that of two independent futures multiplied: a step gains its variance
    times that, and together they gain what the tilt does, the variance within a class, if their means can make it.
    """
    n = setting.forked
    label = each_class(n, Rng(0))
    given, twice = {"label": label}, {"label": label.repeat(2)}
    process, both = (Affine().process(handwriting(setting.base).base, one) for one in (given, twice))
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

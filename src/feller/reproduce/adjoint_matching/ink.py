"""Digits with thicker strokes: a smooth reward, linear in the pixels, for each class by itself."""

import functools
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from feller.reproduce.adjoint_matching.handwriting import (
    CLASSES,
    FLOW,
    Effort,
    Handwriting,
    Way,
    apart,
    drawn,
    each_class,
    handwriting,
    nearest,
)
from feller.reproduce.adjoint_matching.setting import Setting
from feller.reproduce.claims import Claim, mean_of, spread_of, verdict
from feller.tree import Given

STRENGTH = 60.0


def ink(x: Float[Tensor, "n 64"], given: Given) -> Float[Tensor, " n"]:
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

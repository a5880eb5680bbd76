"""What the account of watched rows costs, and how near it comes with one probe for each step."""

import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from feller.core.rng import Rng
from feller.privacy.dp_sgd.per_example_gradients import clipped_by_vmap
from feller.privacy.leakage.leakage_tracking import LeakageTracker, estimate_by_coordinate, estimate_by_probe
from feller_papers.claims import Claim, verdict
from feller_papers.reconstruction_bounds.pictures import digits, pictures
from feller_papers.reconstruction_bounds.private import (
    chosen,
    laid_out,
    large_network,
    loss,
    small_network,
    trained,
)
from feller_papers.reconstruction_bounds.setting import Plan, Setting

MOST, NEAR = 4.0, 0.10
"""Clipped gradients that a probe may cost; share by which the total of the median row may be off."""
REPEATS = 7


def _quickest(work: Callable[[], object]) -> float:
    """Return the least seconds of the processor that something takes."""
    times = []
    for _ in range(REPEATS + 1):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times[1:])


def evaluations(network: nn.Module, x: torch.Tensor, labels: torch.Tensor, plan: Plan) -> float:
    """Return what a look at some rows costs, in clipped gradients of the same rows."""
    watch = LeakageTracker(x, lambda network, step: lambda z: {"x": z, "label": labels}, rate=0.1, rng=Rng(0))
    look = _quickest(lambda: watch.update(loss, network, plan.clip, plan.sigma * plan.clip))
    plain = _quickest(lambda: clipped_by_vmap(loss, network, {"x": x, "label": labels}, plan.clip))
    return look / plain


def cost(setting: Setting) -> Iterator[Claim]:
    """Time of the account."""
    found = pictures(setting)
    small = setting.large is None or found.name == "digits"
    plan = setting.small if setting.large is None or small else setting.large
    found = digits() if small else found
    network = (small_network if small else large_network)(Rng(setting.seed))
    which = chosen(len(found.train.x), plan, setting.seed)
    ratio = evaluations(network, laid_out(found.train, found.side)[which], found.train.labels[which], plan)
    yield Claim(
        f"{found.name}: the account of a row and step costs at most {MOST:g} clipped gradients",
        "50 probes of which each costs as much; 3.8 measured elsewhere",
        f"{ratio:.2f}, of {len(which)} rows at once, of the processor's time",
        f"least of {REPEATS} times",
        verdict(ratio <= MOST),
    )


def totals(setting: Setting) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the total of each watched row by one probe for each step, and exactly, along one training."""
    found, plan = digits(), setting.small
    x, labels = laid_out(found.train, found.side), found.train.labels
    which, network = chosen(len(x), plan, setting.seed), small_network(Rng(setting.seed))
    its, rate = labels[which], plan.batch / len(x)
    probes, exact = (
        LeakageTracker(
            x[which],
            lambda network, step: lambda z: {"x": z, "label": its},
            rate=rate,
            rng=Rng(setting.seed).fold_in("account"),
            estimator=how,
        )
        for how in (estimate_by_probe, estimate_by_coordinate)
    )
    for _ in trained(network, x, labels, plan, setting.seed):
        for watch in (probes, exact):
            watch.update(loss, network, plan.clip, plan.sigma * plan.clip)
    return probes.leakage.eta2, exact.leakage.eta2


def nearness(setting: Setting) -> Iterator[Claim]:
    """Probes beside all coordinates."""
    probed, exact = totals(setting)
    off = (probed / exact - 1).abs()
    yield Claim(
        f"digits: one probe for each step tells eta^2 of the median row to {100 * NEAR:g} %",
        "without bias; 50 probes for each step",
        f"{100 * off.median().item():.2g} % off at the median, {100 * off.max().item():.2g} % at most, of all steps"
        " together, beside all 64 coordinates",
        f"1 seed, {len(off)} rows",
        verdict(off.median().item() <= NEAR),
    )

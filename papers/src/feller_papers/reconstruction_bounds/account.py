"""Claims about the cost and accuracy of leakage tracking with one probe per step."""

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
    large_network,
    loss,
    small_network,
    to_images,
    tracked_rows,
    trained,
)
from feller_papers.reconstruction_bounds.setting import Setting, TrainingPlan

MOST, NEAR = 4.0, 0.10
"""Largest cost of a probe, in clipped gradients; largest relative error of the median row."""
REPEATS = 7


def _min_cpu_time(function: Callable[[], object]) -> float:
    """Return the minimum CPU-seconds of a function."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times[1:])


def evaluations(network: nn.Module, x: torch.Tensor, labels: torch.Tensor, plan: TrainingPlan) -> float:
    """Return the cost of a tracking update, in clipped gradients of the same rows."""
    tracker = LeakageTracker(x, lambda network, step: lambda z: {"x": z, "label": labels}, rate=0.1, rng=Rng(0))
    update_seconds = _min_cpu_time(lambda: tracker.update(loss, network, plan.clip, plan.sigma * plan.clip))
    gradient_seconds = _min_cpu_time(lambda: clipped_by_vmap(loss, network, {"x": x, "label": labels}, plan.clip))
    return update_seconds / gradient_seconds


def cost(setting: Setting) -> Iterator[Claim]:
    """Return the claim about the cost of tracking."""
    data = pictures(setting)
    small = setting.large is None or data.name == "digits"
    plan = setting.small if setting.large is None or small else setting.large
    data = digits() if small else data
    network = (small_network if small else large_network)(Rng(setting.seed))
    rows = tracked_rows(len(data.train.x), plan, setting.seed)
    ratio = evaluations(network, to_images(data.train, data.side)[rows], data.train.labels[rows], plan)
    yield Claim(
        f"{data.name}: the account of a row and step costs at most {MOST:g} clipped gradients",
        "50 probes of which each costs as much; 3.8 measured elsewhere",
        f"{ratio:.2f}, of {len(rows)} rows at once, of the processor's time",
        f"least of {REPEATS} times",
        verdict(ratio <= MOST),
    )


def totals(setting: Setting) -> tuple[torch.Tensor, torch.Tensor]:
    """Return eta^2 of each tracked row, by one probe per step and exactly, in one training."""
    data, plan = digits(), setting.small
    x, labels = to_images(data.train, data.side), data.train.labels
    rows, network = tracked_rows(len(x), plan, setting.seed), small_network(Rng(setting.seed))
    row_labels, rate = labels[rows], plan.batch / len(x)
    probes, exact = (
        LeakageTracker(
            x[rows],
            lambda network, step: lambda z: {"x": z, "label": row_labels},
            rate=rate,
            rng=Rng(setting.seed).fold_in("account"),
            estimator=estimator,
        )
        for estimator in (estimate_by_probe, estimate_by_coordinate)
    )
    for _ in trained(network, x, labels, plan, setting.seed):
        for tracker in (probes, exact):
            tracker.update(loss, network, plan.clip, plan.sigma * plan.clip)
    return probes.leakage.eta2, exact.leakage.eta2


def nearness(setting: Setting) -> Iterator[Claim]:
    """Return the claim about the error of probes."""
    probed, exact = totals(setting)
    errors = (probed / exact - 1).abs()
    yield Claim(
        f"digits: one probe for each step tells eta^2 of the median row to {100 * NEAR:g} %",
        "without bias; 50 probes for each step",
        f"{100 * errors.median().item():.2g} % off at the median, {100 * errors.max().item():.2g} % at most, of all"
        " steps together, beside all 64 coordinates",
        f"1 seed, {len(errors)} rows",
        verdict(errors.median().item() <= NEAR),
    )

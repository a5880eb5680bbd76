"""Leakage tracking, which does not change training, and its clip factors."""

import copy
from functools import partial

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import gelu

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks.network_config import seeded_init
from feller.privacy.dp_sgd.clip_norm import AdaptiveClipNorm, FixedClipNorm
from feller.privacy.dp_sgd.per_example_clipping import clip_factors
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.leakage.fisher_information import FisherLeakage
from feller.privacy.leakage.gradient_sensitivity import exact_sensitivity, probe_sensitivity, rademacher_directions
from feller.privacy.leakage.leakage_tracking import (
    SMOOTH_CLIP_OVERSHOOT,
    LeakageTracker,
    TrackedGradient,
    estimate_by_coordinate,
    estimate_by_probe,
    hard_clip,
    smooth_clip,
)
from feller.privacy.noise.grid_noise import SeededNoise
from tests.errors import refuses
from tests.oracle import F64, f64
from tests.privacy.layers_here import normal, shaken

X, Y = normal(20, 6), normal(20, 2, seed=5)
MINE = X[:4]


def loss(network: nn.Module, example: dict[str, Tensor]) -> Tensor:
    return F.mse_loss(network(example["x"]), example["y"], reduction="none").sum(1)


def build(network: nn.Module, step: int):
    return lambda z: {"x": z, "y": Y[: len(z)]}


def network() -> nn.Module:
    with seeded_init(Rng(0)):
        return shaken(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)))


def private(sigma: float = 0.8) -> DPSGD:
    return DPSGD(sigma=sigma, clip=FixedClipNorm(0.6), noise=SeededNoise(0))


def steps(gradient, net: nn.Module, count: int) -> list[nn.Module]:
    """Return the networks before each step."""
    seen = []
    for step in range(count):
        seen.append(copy.deepcopy(net))
        net.zero_grad()
        gradient(loss, net, [{"x": X[step::3], "y": Y[step::3]}], 5.0)
        with torch.no_grad():
            for weight in net.parameters():
                weight -= 0.1 * weight.grad
    return seen


def test_tracking_does_not_change_training() -> None:
    plain, tracked = network(), network()
    steps(private(), plain, 4)
    tracker = LeakageTracker(MINE, build, rate=0.25, rng=Rng(1))
    before = torch.get_rng_state()
    steps(TrackedGradient(inner=private(), tracker=tracker), tracked, 4)
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(plain.parameters(), tracked.parameters(), strict=True):
        assert torch.equal(a, b)
    assert tracker.leakage.steps == 4


@pytest.mark.parametrize("how", [estimate_by_probe, estimate_by_coordinate])
def test_leakage_is_the_sum_of_steps(how) -> None:
    tracker, net = LeakageTracker(MINE, build, rate=0.25, rng=Rng(1), estimator=how), network()
    before = steps(TrackedGradient(inner=private(), tracker=tracker), net, 3)
    total = FisherLeakage.zeros(4, 6)
    for step, each in enumerate(before):
        one, way = build(each, step), partial(hard_clip, clip=0.6)
        if how is estimate_by_coordinate:
            pull = exact_sensitivity(loss, each, one, MINE, way)
        else:
            pull = probe_sensitivity(
                loss, each, one, MINE, way, rademacher_directions(MINE, Rng(1).stream("probes", step))
            )
        total = total.add_step(pull.fisher_trace(0.25, 0.8 * 0.6))
    assert tracker.leakage.eta2 == pytest.approx(total.eta2, rel=1e-12)


def test_every_third_step() -> None:
    tracker, whole = (
        LeakageTracker(MINE, build, rate=0.25, rng=Rng(1), estimator=estimate_by_coordinate, every=k) for k in (3, 1)
    )
    net = network()
    for one in (tracker, whole):
        steps(TrackedGradient(inner=private(), tracker=one), copy.deepcopy(net), 6)
    assert tracker.leakage.steps == 2
    assert tracker.leakage.eta2 == pytest.approx(whole.leakage.eta2, rel=0.3)


def test_restore() -> None:
    whole, first, second = (LeakageTracker(MINE, build, rate=0.25, rng=Rng(1)) for _ in range(3))
    net = network()
    for tracker in (whole, first):
        steps(TrackedGradient(inner=private(), tracker=tracker), copy.deepcopy(net), 1)
    second.restore(first.leakage, first.steps)
    for tracker in (whole, second):
        steps(TrackedGradient(inner=private(), tracker=tracker), copy.deepcopy(net), 1)
    assert torch.equal(second.leakage.traces, whole.leakage.traces)
    assert second.steps == whole.steps == 2


def test_coordinate_mask_and_adaptive_clip() -> None:
    which = torch.tensor([True, False, True, False, False, False])
    clip = AdaptiveClipNorm(0.5, count_sigma=2.0)
    tracker = LeakageTracker(
        MINE, build, rate=0.25, rng=Rng(1), estimator=estimate_by_coordinate, coordinate_mask=which
    )
    net = network()
    told = exact_sensitivity(loss, net, build(net, 0), MINE, partial(hard_clip, clip=0.5), which)
    expected = told.fisher_trace(0.25, clip.sum_sigma(0.8) * 0.5) / 2
    steps(TrackedGradient(inner=DPSGD(sigma=0.8, clip=clip, noise=SeededNoise(0)), tracker=tracker), net, 1)
    assert tracker.leakage.eta2 == pytest.approx(expected, rel=1e-12)
    assert tracker.leakage.dim == 2


def test_invalid_trackers() -> None:
    tracker = LeakageTracker(MINE, build, rate=0.25, rng=Rng(1))
    with refuses(UsageError):
        TrackedGradient(inner=private(0.0), tracker=tracker)
    for wrong in (0.0, 1.5):
        with refuses(UsageError, argument="rate"):
            LeakageTracker(MINE, build, rate=wrong, rng=Rng(1))
    with refuses(UsageError, found="0"):
        LeakageTracker(MINE, build, rate=0.25, rng=Rng(1), every=0)
    assert tracker.leakage.mse_bound().dtype == F64


def test_smooth_clip_overshoot() -> None:
    """1.11522 clip norms, at a length of 1.5487, rounded up."""
    found = minimize_scalar(lambda r: -r / (1 + gelu(f64(r - 1)).item()), bounds=(1.0, 3.0), method="bounded")
    assert found.x == pytest.approx(1.5487, abs=1e-4)
    assert -found.fun <= SMOOTH_CLIP_OVERSHOOT <= -found.fun + 1e-5
    assert round(SMOOTH_CLIP_OVERSHOOT, 5) == 1.11522
    lengths = torch.linspace(0, 200, 400_001, dtype=F64)
    assert (lengths * smooth_clip(lengths, 2.0)).max() <= 2 * SMOOTH_CLIP_OVERSHOOT


@pytest.mark.parametrize("way", [hard_clip, smooth_clip])
def test_gradients_of_clips_are_finite(way) -> None:
    norms = f64(0.0, 1e-300, 1e-3, 2.0, 5.0, 1e9).requires_grad_()
    found = way(norms, 2.0)
    (slopes,) = torch.autograd.grad(found.sum(), norms)
    assert slopes.isfinite().all()
    assert torch.autograd.gradcheck(lambda x: way(x, 2.0), f64(0.5, 1.9, 2.3, 7.0).requires_grad_())


def test_hard_clip_is_clip_factors() -> None:
    norms = f64(0.0, 0.5, 2.0, 2.1, 1e4)
    assert torch.equal(hard_clip(norms, 2.0), clip_factors(norms, 2.0))

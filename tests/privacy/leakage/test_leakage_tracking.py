"""The account of what private steps tell about some rows: it changes nothing, and adds up what each step told."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks.network_config import seeded_init
from feller.privacy.dp_sgd.clip_norm import AdaptiveClipNorm, FixedClipNorm
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.leakage.fisher_information import FisherLeakage
from feller.privacy.leakage.gradient_sensitivity import exact_sensitivity, probe_sensitivity, rademacher_directions
from feller.privacy.leakage.leakage_tracking import (
    LeakageTracker,
    TrackedGradient,
    estimate_by_coordinate,
    estimate_by_probe,
    hard_clip,
)
from feller.privacy.noise.grid_noise import SeededNoise
from tests.errors import refuses
from tests.oracle import F64
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


def test_training_goes_as_it_would() -> None:
    """To the last bit, noise and all."""
    plain, watched = network(), network()
    steps(private(), plain, 4)
    watch = LeakageTracker(MINE, build, rate=0.25, rng=Rng(1))
    before = torch.get_rng_state()
    steps(TrackedGradient(inner=private(), tracker=watch), watched, 4)
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(a, b)
    assert watch.leakage.steps == 4


@pytest.mark.parametrize("how", [estimate_by_probe, estimate_by_coordinate])
def test_steps_add_up(how) -> None:
    """At the weights before each, of every row whether it is in the batch or not."""
    watch, net = LeakageTracker(MINE, build, rate=0.25, rng=Rng(1), estimator=how), network()
    before = steps(TrackedGradient(inner=private(), tracker=watch), net, 3)
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
    assert watch.leakage.eta2 == pytest.approx(total.eta2, rel=1e-12)


def test_some_steps_stand_for_others() -> None:
    watch, whole = (
        LeakageTracker(MINE, build, rate=0.25, rng=Rng(1), estimator=estimate_by_coordinate, every=k) for k in (3, 1)
    )
    net = network()
    for one in (watch, whole):
        steps(TrackedGradient(inner=private(), tracker=one), copy.deepcopy(net), 6)
    assert watch.leakage.steps == 2
    assert watch.leakage.eta2 == pytest.approx(whole.leakage.eta2, rel=0.3)


def test_a_resumed_account_goes_on() -> None:
    whole, first, second = (LeakageTracker(MINE, build, rate=0.25, rng=Rng(1)) for _ in range(3))
    net = network()
    for watch in (whole, first):
        steps(TrackedGradient(inner=private(), tracker=watch), copy.deepcopy(net), 1)
    second.restore(first.leakage, first.steps)
    for watch in (whole, second):
        steps(TrackedGradient(inner=private(), tracker=watch), copy.deepcopy(net), 1)
    assert torch.equal(second.leakage.traces, whole.leakage.traces)
    assert second.steps == whole.steps == 2


def test_a_block_and_a_clip_that_moves() -> None:
    which = torch.tensor([True, False, True, False, False, False])
    clip = AdaptiveClipNorm(0.5, count_sigma=2.0)
    watch = LeakageTracker(MINE, build, rate=0.25, rng=Rng(1), estimator=estimate_by_coordinate, coordinate_mask=which)
    net = network()
    told = exact_sensitivity(loss, net, build(net, 0), MINE, partial(hard_clip, clip=0.5), which)
    expected = told.fisher_trace(0.25, clip.sum_sigma(0.8) * 0.5) / 2
    steps(TrackedGradient(inner=DPSGD(sigma=0.8, clip=clip, noise=SeededNoise(0)), tracker=watch), net, 1)
    assert watch.leakage.eta2 == pytest.approx(expected, rel=1e-12)
    assert watch.leakage.dim == 2


def test_what_cannot_be_watched() -> None:
    watch = LeakageTracker(MINE, build, rate=0.25, rng=Rng(1))
    with pytest.raises(UsageError, match="gradient with noise"):
        TrackedGradient(inner=private(0.0), tracker=watch)
    for wrong in (0.0, 1.5):
        with refuses(UsageError, argument="rate"):
            LeakageTracker(MINE, build, rate=wrong, rng=Rng(1))
    with pytest.raises(UsageError, match="every"):
        LeakageTracker(MINE, build, rate=0.25, rng=Rng(1), every=0)
    assert watch.leakage.mse_bound().dtype == F64

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
from feller.privacy.dp_sgd.clip_norm import Adaptive, Fixed
from feller.privacy.dp_sgd.private_gradient import Private
from feller.privacy.leakage.fisher_information import Leakage
from feller.privacy.leakage.leakage_tracking import Watch, Watched, by_coordinate, by_probe, hard_clip
from feller.privacy.leakage.probes import coordinate_by_coordinate, probed, signs
from feller.privacy.noise.grid_noise import Repeatable
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


def private(sigma: float = 0.8) -> Private:
    return Private(sigma=sigma, clip=Fixed(0.6), noise=Repeatable(0))


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
    watch = Watch(MINE, build, rate=0.25, draws=Rng(1))
    before = torch.get_rng_state()
    steps(Watched(inner=private(), watch=watch), watched, 4)
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(a, b)
    assert watch.leakage.steps == 4


@pytest.mark.parametrize("how", [by_probe, by_coordinate])
def test_steps_add_up(how) -> None:
    """At the weights before each, of every row whether it is in the batch or not."""
    watch, net = Watch(MINE, build, rate=0.25, draws=Rng(1), how=how), network()
    before = steps(Watched(inner=private(), watch=watch), net, 3)
    total = Leakage.none(4, 6)
    for step, each in enumerate(before):
        one, way = build(each, step), partial(hard_clip, clip=0.6)
        if how is by_coordinate:
            pull = coordinate_by_coordinate(loss, each, one, MINE, way)
        else:
            pull = probed(loss, each, one, MINE, way, signs(MINE, Rng(1).stream("probes", step)))
        total = total.plus(pull.trace(0.25, 0.8 * 0.6))
    assert watch.leakage.eta2 == pytest.approx(total.eta2, rel=1e-12)


def test_some_steps_stand_for_others() -> None:
    watch, whole = (Watch(MINE, build, rate=0.25, draws=Rng(1), how=by_coordinate, every=k) for k in (3, 1))
    net = network()
    for one in (watch, whole):
        steps(Watched(inner=private(), watch=one), copy.deepcopy(net), 6)
    assert watch.leakage.steps == 2
    assert watch.leakage.eta2 == pytest.approx(whole.leakage.eta2, rel=0.3)


def test_a_resumed_account_goes_on() -> None:
    whole, first, second = (Watch(MINE, build, rate=0.25, draws=Rng(1)) for _ in range(3))
    net = network()
    for watch in (whole, first):
        steps(Watched(inner=private(), watch=watch), copy.deepcopy(net), 1)
    second.restore(first.leakage, first.steps)
    for watch in (whole, second):
        steps(Watched(inner=private(), watch=watch), copy.deepcopy(net), 1)
    assert torch.equal(second.leakage.traces, whole.leakage.traces)
    assert second.steps == whole.steps == 2


def test_a_block_and_a_clip_that_moves() -> None:
    which = torch.tensor([True, False, True, False, False, False])
    clip = Adaptive(0.5, count_sigma=2.0)
    watch = Watch(MINE, build, rate=0.25, draws=Rng(1), how=by_coordinate, which=which)
    net = network()
    told = coordinate_by_coordinate(loss, net, build(net, 0), MINE, partial(hard_clip, clip=0.5), which)
    expected = told.trace(0.25, clip.sigma(0.8) * 0.5) / 2
    steps(Watched(inner=Private(sigma=0.8, clip=clip, noise=Repeatable(0)), watch=watch), net, 1)
    assert watch.leakage.eta2 == pytest.approx(expected, rel=1e-12)
    assert watch.leakage.coordinates == 2


def test_what_cannot_be_watched() -> None:
    watch = Watch(MINE, build, rate=0.25, draws=Rng(1))
    with pytest.raises(UsageError, match="without noise"):
        Watched(inner=private(0.0), watch=watch)
    for wrong in (0.0, 1.5):
        with refuses(UsageError, argument="rate"):
            Watch(MINE, build, rate=wrong, draws=Rng(1))
    with pytest.raises(UsageError, match="every"):
        Watch(MINE, build, rate=0.25, draws=Rng(1), every=0)
    assert watch.leakage.bound().dtype == F64

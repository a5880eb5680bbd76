"""Modules that store values of rows."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.privacy.dp_sgd.clip_norm import FixedClipNorm
from feller.privacy.dp_sgd.ghost_clipping import clipped_by_ghost
from feller.privacy.dp_sgd.per_example_gradients import (
    check_no_batch_mixing,
    clipped_by_loop,
    clipped_by_vmap,
    per_sample_gradients,
)
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.dp_sgd.stateful_modules import forbid_row_state
from feller.privacy.leakage.row_gradients import RowGradients, TangentBatch
from feller.privacy.noise.grid_noise import SeededNoise
from tests.errors import refuses
from tests.privacy.layers_here import F64, Placed, answer_loss, normal, symbols


class Running(nn.Module):
    """A running mean in a buffer, in place or by a new tensor, of what comes in."""

    mean: Tensor

    def __init__(self, inside: bool = True) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4, dtype=F64))
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        if self.inside:
            with torch.no_grad():
                self.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
        else:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x


class Late(nn.Module):
    """A buffer that is empty before the first batch."""

    first: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("first", None)

    def forward(self, x: Tensor) -> Tensor:
        if self.first is None:
            self.first = x.detach().mean(0)
        return x


class Begun(nn.Module):
    """A trained weight that the first batch sets, as in ActNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.begun = nn.Parameter(torch.ones(4, dtype=F64)), False

    def forward(self, x: Tensor) -> Tensor:
        if not self.begun:
            self.begun = True
            with torch.no_grad():
                self.scale.copy_(x.std(0))
        return self.scale * x


class Plain(nn.Module):
    """A running mean in an attribute that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.zeros(4, dtype=F64)

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x - self.mean


class Counting(nn.Module):
    calls: Tensor
    places: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("places", None)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.places is None:
            self.places = torch.arange(x.shape[-1])
        return x + self.places


def network(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), layer, nn.Tanh(), nn.Linear(4, 2)).double()


def by_slopes(loss: Callable, network: nn.Module, example: dict[str, Tensor], clip: float) -> Tensor:
    x = example["x"]
    return RowGradients(loss, network).products(TangentBatch.from_rows(lambda z: {"x": z}, x, torch.ones_like(x)))


def by_private(loss: Callable, network: nn.Module, example: dict[str, Tensor], clip: float) -> Tensor:
    return DPSGD(sigma=5.0, clip=FixedClipNorm(clip), noise=SeededNoise(0))(loss, network, [example], 6.0)


WAYS = [clipped_by_ghost, clipped_by_vmap, clipped_by_loop, per_sample_gradients, by_slopes, by_private]
KEEPERS = {
    "running": lambda: Running(),
    "anew": lambda: Running(inside=False),
    "late": Late,
    "instance": lambda: nn.InstanceNorm1d(4, track_running_stats=True),
    "begun": Begun,
    "plain": Plain,
    "observer": lambda: torch.ao.quantization.MovingAverageMinMaxObserver(),
}


class Seen(Exception):
    """The network saw a row."""


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", KEEPERS)
def test_stateful_modules_are_refused_before_they_see_rows(name: str, way: Callable) -> None:
    """The loss raises `Seen` on real rows, which are larger than probes."""
    net = network(KEEPERS[name]())
    before = copy.deepcopy(net.state_dict())

    def loss(net: nn.Module, example: dict[str, Tensor]) -> Tensor:
        if example["x"].detach().amax() > 2:
            raise Seen
        return answer_loss(net, example)

    with refuses(UsageError):
        way(loss, net, {"x": normal(6, 4) + 100}, 1.0)
    after = net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("way", WAYS[:4] + WAYS[5:], ids=lambda way: way.__name__)
def test_state_independent_of_rows_is_allowed(way: Callable) -> None:
    net, plain = network(Counting()), network(nn.Identity())
    with torch.no_grad():
        for one, other in zip(net.parameters(), plain.parameters(), strict=True):
            other.copy_(one)
    way(answer_loss, net, {"x": normal(6, 4)}, 1.0)
    assert net[1].calls > 0
    assert net[1].places.tolist() == [0, 1, 2, 3]


def test_instance_norm_is_refused_in_training_mode_only() -> None:
    for layer in (nn.InstanceNorm1d(4, track_running_stats=True), nn.InstanceNorm2d(4, track_running_stats=True)):
        with refuses(UsageError):
            check_no_batch_mixing(nn.Sequential(layer))
        check_no_batch_mixing(nn.Sequential(layer).eval())
    check_no_batch_mixing(nn.Sequential(nn.InstanceNorm1d(4)))


def test_probes_with_token_inputs() -> None:
    """Random rows of symbols are 0 and 1, also where a table has one entry alone."""
    net = Placed()
    net.norm = nn.Sequential(net.norm, RunningMax())
    with refuses(UsageError):
        clipped_by_loop(answer_loss, net.double(), {"x": symbols(7, 6, 5)}, 1.0)
    one = nn.Sequential(nn.Embedding(1, 3), nn.Linear(3, 2)).double()
    assert len(clipped_by_ghost(answer_loss, one, {"x": torch.zeros(4, dtype=torch.long)}, 1.0).norms) == 4


class RunningMax(nn.Module):
    """Keeps the largest number that came by."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("largest", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.largest.copy_(torch.maximum(self.largest, x.detach().amax()))
        return x


def test_state_is_restored_after_a_late_refusal() -> None:
    """A layer that keeps large numbers alone, and a loss that takes no random rows: refused after the pass."""

    class Picky(Running):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.detach().abs().max() > 10 else x

    def strict(net: nn.Module, example: dict[str, Tensor]) -> Tensor:
        if (example["x"] < 2).any():
            raise ValueError("expected larger rows")
        return answer_loss(net, example)

    rows = {"x": 100 + normal(6, 4)}
    for loss, layer in ((answer_loss, Picky()), (strict, Running()), (strict, Running(inside=False))):
        net = nn.Sequential(layer, nn.Linear(4, 2)).double()
        with refuses(UsageError):
            clipped_by_ghost(loss, net, rows, 1.0)
        assert net[0].mean.tolist() == [0.0] * 4


def test_probing_leaves_weights_hooks_and_rng_unchanged() -> None:
    net, calls = network(nn.Identity()), []
    state, before = torch.get_rng_state(), copy.deepcopy(net.state_dict())

    def loss(net: nn.Module, example: dict[str, Tensor]) -> Tensor:
        calls.append(len(example["x"]))
        return answer_loss(net, {"x": example["x"] + torch.rand(())})

    for _ in range(2):
        with forbid_row_state(loss, net, {"x": normal(6, 4)}):
            pass
    assert calls == [2] * 3
    net.eval()
    with forbid_row_state(loss, net, {"x": normal(6, 4)}):
        pass
    assert calls == [2] * 6
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert not any(module._forward_pre_hooks for module in net.modules())

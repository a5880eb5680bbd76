"""LoRA: initial equality, rank, merging, per-example gradients."""

import pytest
import torch
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks.blocks.ema import EMA, UPDATES_KEY
from feller.networks.blocks.lora import LoRA
from feller.networks.image.unet import UNet
from feller.networks.mlp import MLP
from feller.training.optimizer import TrainConfig, make_optimizer, optimizer_tensors, restore_optimizer
from tests.errors import refuses
from tests.oracle import close

KINDS = {"mlp": (MLP(width=8, depth=2), (3,)), "unet": (UNet(channels=4, heads=2), (1, 8, 8))}


def network(kind: str) -> nn.Module:
    """Return a network with nonzero weights."""
    architecture, shape = KINDS[kind]
    made = architecture.build(shape, {"label": 3}, Rng(0))
    for number, weight in enumerate(made.parameters()):
        weight.data += 0.1 * Rng(1).stream("weight", number).normal(weight.shape)
    return made


def inputs(kind: str):
    draw, shape = Rng(2).stream("state"), KINDS[kind][1]
    return draw.normal((5, *shape)), draw.uniform((5,)), {"label": torch.tensor([0, 1, 2, 3, 0])}


def moved(wrapped: LoRA) -> LoRA:
    """Make the second factors nonzero."""
    for number, weight in enumerate(wrapped.lora_B.parameters()):
        weight.data += Rng(3).stream("weight", number).normal(weight.shape)
    return wrapped


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_lora_equals_the_network(kind: str) -> None:
    plain, wrapped = network(kind), LoRA(network(kind), 2, Rng(0))
    assert torch.equal(wrapped(*inputs(kind)), plain(*inputs(kind)))
    assert wrapped.null_values == {"label": 3}
    assert not torch.allclose(moved(wrapped)(*inputs(kind)), plain(*inputs(kind)), atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_weights_equal_the_lora(kind: str) -> None:
    wrapped, plain = moved(LoRA(network(kind), 2, Rng(0))), network(kind)
    plain.load_state_dict(wrapped.merged_state_dict(wrapped.state_dict()))
    torch.testing.assert_close(plain(*inputs(kind)), wrapped(*inputs(kind)), rtol=1e-6, atol=1e-6)
    average = EMA(wrapped)
    averaged = {name: value for name, value in average.state_dict().items() if name != UPDATES_KEY}
    assert wrapped.merged_state_dict(averaged).keys() == plain.state_dict().keys()


@pytest.mark.parametrize("kind", KINDS)
def test_changes_have_the_given_rank(kind: str) -> None:
    wrapped, before = moved(LoRA(network(kind), 2, Rng(0))), network(kind).state_dict()
    changed = 0
    for name, value in wrapped.merged_state_dict(wrapped.state_dict()).items():
        change = value - before[name]
        if value.ndim < 2:
            assert not change.any()
        else:
            sizes = torch.linalg.svdvals(change.flatten(1).double())
            wanted = min(2, *change.flatten(1).shape)
            assert sizes[wanted - 1] > 1e-3
            assert (sizes[wanted:] < 1e-5 * sizes[0]).all()
            changed += 1
    assert changed == len(wrapped.lora_A)


def test_rank_is_at_most_the_side() -> None:
    wrapped = LoRA(network("mlp"), 100, Rng(0))
    assert wrapped.lora_A["embed/weight"].shape == (3, 3)
    assert wrapped.lora_B["embed/weight"].shape == (8, 3)
    with refuses(UsageError, argument="rank", found="0"):
        LoRA(network("mlp"), 0, Rng(0))


def test_only_low_rank_matrices_are_trained() -> None:
    wrapped = LoRA(network("mlp"), 2, Rng(0))
    before = {name: weight.clone() for name, weight in wrapped.network.named_parameters()}
    optimiser = make_optimizer(wrapped, TrainConfig(lr=0.1))
    for _ in range(2):  # at first the second matrices alone have a gradient
        optimiser.zero_grad()
        wrapped(*inputs("mlp")).square().sum().backward()
        optimiser.step()
    assert all(weight.grad is None for weight in wrapped.network.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in wrapped.network.named_parameters())
    for side in (wrapped.lora_A, wrapped.lora_B):
        assert all(weight.grad.abs().max() > 0 for weight in side.parameters())


def test_optimizer_state_round_trips() -> None:
    wrapped = LoRA(network("mlp"), 2, Rng(0))
    optimiser = make_optimizer(wrapped, TrainConfig())
    wrapped(*inputs("mlp")).square().sum().backward()
    optimiser.step()
    kept = {name: value.clone() for name, value in optimizer_tensors(optimiser).items()}
    fresh = make_optimizer(wrapped, TrainConfig())
    restore_optimizer(fresh, kept)
    assert all(torch.equal(value, kept[name]) for name, value in optimizer_tensors(fresh).items())
    assert len(kept) == 3 * len(wrapped.lora_A) * 2


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_per_example(kind: str) -> None:
    wrapped = moved(LoRA(network(kind), 2, Rng(0)))
    weights = {name: weight.detach() for name, weight in wrapped.named_parameters() if weight.requires_grad}
    x, t, given = inputs(kind)

    def loss(weights, x, t, label):
        return torch.func.functional_call(wrapped, weights, (x[None], t[None], {"label": label[None]})).square().sum()

    each = torch.vmap(torch.func.grad(loss), (None, 0, 0, 0))(weights, x, t, given["label"])
    wrapped(x, t, given).square().sum().backward()
    for name, weight in wrapped.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(each[name].sum(0), weight.grad, rtol=1e-4, atol=1e-4)


def test_weights_come_from_the_seed() -> None:
    one, same, other = (LoRA(network("mlp"), 2, Rng(seed)).lora_A["embed/weight"] for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_tied_weights_stay_tied_after_merging() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.leave.weight = self.enter.weight

        def forward(self, x: Tensor, t: Tensor, given: object) -> Tensor:
            return self.leave(self.enter(x))

    torch.manual_seed(0)
    wrapped = LoRA(Tied(), 1, Rng(0))
    for part in wrapped.lora_B.values():
        nn.init.normal_(part)
    x, alone = torch.randn(5, 3), Tied()
    alone.load_state_dict(wrapped.merged_state_dict(wrapped.state_dict()))
    close(alone(x, x[:, 0], {}), wrapped(x, x[:, 0], {}).tolist(), 1e-5)

"""Parameters, FLOPs and saved bytes of a training step, against closed forms and against the CPU."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from feller.core.rng import Rng
from feller.networks.image.dit import DiT
from feller.networks.image.unet import UNet
from feller.networks.network_config import count_parameters, meta_init
from feller.training.objective import Objective
from feller.training.optimizer import TrainConfig
from feller.training.parallelize import checkpoint_blocks
from feller.training.step_cost import count_flops, measure_step, static_bytes, to_device


@dataclass(frozen=True)
class SquaredOutput(Objective):
    """Sum of the squared outputs; the network takes x, or x, t and conditions."""

    def draw(self, batch, rng, network=None):
        return batch

    def loss(self, network, example):
        inputs = (example["x"], example["t"], {}) if "t" in example else (example["x"],)
        return network(*inputs).square().flatten(1).sum(1)


class Blocks(nn.Module):
    def __init__(self, width, count):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(count))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_closed_form_of_an_mlp(device):
    """Every layer takes 2 in out FLOPs forward and twice as many backward, the first without a gradient of its input.

    Kept are the input, the hidden layer (of which ReLU and the second layer keep the same tensor) and the output.
    """
    network = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).to(device)
    cost = measure_step(SquaredOutput(), network, {"x": torch.zeros(4, 5, device=device)})
    assert cost.parameters == sum(weight.numel() for weight in network.parameters()) == 5 * 7 + 7 + 7 * 3 + 3
    assert cost.forward_flops == 4 * 2 * (5 * 7 + 7 * 3)
    assert cost.flops == 4 * 2 * (2 * 5 * 7 + 3 * 7 * 3)
    assert cost.saved.plain == cost.saved.checkpointed == 4 * 4 * (5 + 7 + 3)
    assert all(weight.grad is None for weight in network.parameters())


def test_closed_form_of_bf16():
    """Products keep bf16 copies of input and weights, each made once; the hidden layer and the output are bf16."""
    network = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).to("meta")
    x = torch.zeros(4, 5, device="meta")
    assert measure_step(SquaredOutput(), network, {"x": x}, bf16=True).saved.plain == 2 * (4 * (5 + 7 + 3) + 7 * 3)


def test_checkpointed_blocks():
    """Kept are the input and the output of each of 3 blocks, and the recomputed output of one block."""
    network = Blocks(8, 3)
    x = torch.zeros(4, 8)
    saved = measure_step(SquaredOutput(), network, {"x": x}).saved
    assert (saved.plain, saved.checkpointed) == (4 * 4 * 8 * 4, 4 * 4 * 8 * 5)
    assert "forward" not in vars(network.blocks[0])


@pytest.mark.parametrize(
    "config", [UNet(channels=8, blocks=1, attention=(True,)), DiT(width=16, depth=2, heads=2)], ids=["unet", "dit"]
)
def test_meta_equals_cpu(config):
    network = config.build((3, 16, 16), {}, Rng(0))
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1
    example = {"x": torch.zeros(2, 3, 16, 16), "t": torch.full((2,), 0.5)}
    on_cpu = measure_step(SquaredOutput(), network, example)
    with meta_init():
        other = config.build((3, 16, 16), {}, Rng(0))
    assert all(weight.is_meta for weight in other.parameters())
    on_meta = measure_step(SquaredOutput(), other, to_device(example, "meta"))
    assert on_meta == on_cpu
    checkpoint_blocks(network)
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.setdefault(tensor.untyped_storage()._cdata, tensor), lambda tensor: tensor
    ):
        loss = SquaredOutput().loss(network, example).sum()
    weights = {weight.untyped_storage()._cdata for weight in network.parameters()}
    outside = sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in weights)
    loss.backward()
    assert outside < on_meta.saved.checkpointed < on_meta.saved.plain
    assert on_meta.saved.checkpointed - outside < on_meta.saved.plain - outside


def test_published_flops_of_dit():
    """DiT-L/2 on 4 x 32 x 32: 458 million weights, 80.71 billion multiply-adds (arXiv 2212.09748, table 4)."""
    with meta_init():
        network = DiT(patch=2, width=1024, depth=24, heads=16).build((4, 32, 32), {"label": 1000}, Rng(0)).to("meta")
    x, t, label = (torch.zeros(shape, device="meta") for shape in ((1, 4, 32, 32), (1,), (1,)))
    assert count_parameters(network) == pytest.approx(458e6, rel=0.01)
    assert count_flops(lambda: network(x, t, {"label": label.long()})) / 2 == pytest.approx(80.71e9, rel=0.01)


def test_static_bytes():
    network = nn.Linear(5, 7, device="meta")
    n = 4 * (5 * 7 + 7)
    expected = {"weights": n, "gradients": n, "optimizer": 2 * n, "ema": n}
    assert static_bytes(network, TrainConfig(steps=1)) == expected
    assert static_bytes(network, TrainConfig(steps=1, optimizer="sgd"))["optimizer"] == n
    # Means of the rows [7, 1] and columns [1, 5] of the weight; the bias [7] keeps all its entries.
    assert static_bytes(network, TrainConfig(steps=1, optimizer="adafactor"))["optimizer"] == 4 * (7 + 5 + 7)

"""Autoencoding loss and codebook updates."""

from typing import Any

import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.networks import FSQ, ConvTokenizer, VectorQuantizerEMA
from feller.spaces import Euclidean
from feller.training.objectives.autoencoding import AutoencodingLoss
from tests.oracle import F64, close

RULE = AutoencodingLoss(Euclidean((1, 2, 2)))


class Halves(torch.nn.Module):
    """Reads half of each number, and adds the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Rng]] = []

    def update_codebook(self, x: Tensor, rng: Rng) -> None:
        self.seen.append((x, rng))

    def forward(self, x: Tensor, t: Tensor, given: Any) -> dict[str, Tensor]:
        return {"state": x / 2, "apart": x[:, 0, 0, 0]}


def test_loss_is_squared_error_plus_commitment() -> None:
    x, network = torch.tensor([[[[2.0, 4.0], [0.0, 0.0]]], [[[6.0, 0.0], [0.0, 2.0]]]], dtype=F64), Halves()
    example = RULE.draw({"x_1": x, "given": {"label": torch.zeros(2)}}, Rng(0), network)
    assert example["given"] == {}
    close(RULE.loss(network, example), ((1 + 4) / 4 + 2, (9 + 1) / 4 + 6), 1e-12)
    assert len(network.seen) == 1
    assert network.seen[0][0] is x
    assert network.seen[0][1].global_batch_size is None


def test_codebook_updates_know_the_global_batch() -> None:
    network = Halves()
    RULE.draw({"x_1": torch.zeros(2, 1, 2, 2)}, Rng(0, 3, 7), network)
    assert (network.seen[0][1].first_example, network.seen[0][1].global_batch_size) == (3, 7)


def test_codebook_is_updated_in_draw_only() -> None:
    network = ConvTokenizer(2, 8, 0, VectorQuantizerEMA(num_codes=5, dim=2)).build((1, 4, 4), {}, Rng(0))
    batch = {"x_1": Rng(0).stream("x").normal((6, 1, 4, 4))}
    example = RULE.draw(batch, Rng(0), network)
    after = {name: value.clone() for name, value in network.named_buffers()}
    assert after["codebook.cluster_size"].min() > 0
    RULE.loss(network, example)
    assert all(torch.equal(value, after[name]) for name, value in network.named_buffers())
    again = ConvTokenizer(2, 8, 0, VectorQuantizerEMA(num_codes=5, dim=2)).build((1, 4, 4), {}, Rng(0))
    RULE.draw(batch, Rng(0), again)
    assert all(torch.equal(value, after[name]) for name, value in again.named_buffers())

    assert not hasattr(FSQ().build(), "cluster_size")

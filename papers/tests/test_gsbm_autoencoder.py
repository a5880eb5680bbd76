"""The autoencoder: codes on a sphere, seeds, and that it learns what has few dimensions."""

import math

import pytest
import torch
from tests.oracle import close

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller_papers.gsbm.autoencoder import Autoencoder, on_sphere


def test_codes_lie_on_a_sphere() -> None:
    network = Autoencoder(width=8, numbers=5).build((1, 4, 3), Rng(0))
    x = Rng(0).stream("x").normal((6, 1, 4, 3))
    z = network.encode(x.flatten(1))
    close(z.norm(dim=1), 6 * [math.sqrt(5)], 1e-5)
    assert network(x).shape == x.shape
    close(network(x).flatten(1), network.decode(z).tolist(), 1e-6)
    noise = Rng(0).stream("noise").normal((6, 5))
    close(network(x, noise).flatten(1), network.decode(on_sphere(z + noise)).tolist(), 1e-6)
    again = Autoencoder(width=8, numbers=5).build((1, 4, 3), Rng(0))
    assert torch.equal(again(x), network(x))


def test_it_learns_a_circle_in_many_dimensions() -> None:
    turn = 2 * math.pi * torch.linspace(0, 1, 256)
    plane = torch.linalg.qr(Rng(0).stream("plane").normal((30, 2)))[0]
    x = torch.stack([turn.cos(), turn.sin()], 1) @ plane.T
    network = Autoencoder(width=32, numbers=2).build((30,), Rng(0))
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(300):
        optimiser.zero_grad()
        (network(x) - x).square().sum(1).mean().backward()
        optimiser.step()
    assert (network(x) - x).square().sum(1).mean() < 0.01


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="numbers: expected"):
        Autoencoder(numbers=1)

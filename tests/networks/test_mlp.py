"""Residual MLP."""

import torch
from torch import nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks import MLP, count_parameters
from feller.networks.blocks.conditioning import fourier_features
from tests.errors import refuses
from tests.networks.checks import perturb_weights


def test_forward_pass_formula() -> None:
    network = perturb_weights(MLP(width=8, depth=2, frequencies=3).build((2,), {"label": 4}, Rng(0)), 0.3)
    draw = Rng(1).stream("batch")
    x_t, t = draw.normal((5, 2), torch.float64), draw.uniform((5,), torch.float64)
    given = {"label": draw.randint(5, (5,))}

    def centred(h: torch.Tensor) -> torch.Tensor:
        return (h - h.mean(1, keepdim=True)) / (h.var(1, keepdim=True, correction=0) + 1e-5).sqrt()

    h = network.embed(torch.cat([x_t, fourier_features(x_t[:, 0], 3), fourier_features(x_t[:, 1], 3)], 1))
    for block in network.blocks:
        modulation, first, second = (part for part in block.children() if isinstance(part, nn.Linear))
        numbers = modulation(network.conditioning(t, given))
        h = h + second(F.silu(first(centred(h) * (1 + numbers[:, :8]) + numbers[:, 8:])))
    torch.testing.assert_close(network(x_t, t, given), network.head(F.silu(centred(h))))


def test_parameter_count() -> None:
    network = MLP(width=256, depth=4).build((2,), {}, Rng(0))
    conditioning = (18 * 64 + 64) + (64 * 64 + 64)
    block = (64 * 512 + 512) + 2 * (256 * 256 + 256)
    assert count_parameters(network) == conditioning + (2 * 256 + 256) + 4 * block + (256 * 2 + 2)


def test_periodic_features() -> None:
    """The features are sin and cos of 1, 2, 4 times the angle, and a turn changes nothing."""
    turn = 2 * torch.pi
    network = perturb_weights(MLP(width=8, depth=1, frequencies=3, period=turn).build((2,), {}, Rng(0)), 0.3)
    draw = Rng(1).stream("batch")
    x_t, t = turn * draw.uniform((5, 2), torch.float64), draw.uniform((5,), torch.float64)
    folds = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    waves = [torch.cat([(angle[:, None] * folds).sin(), (angle[:, None] * folds).cos()], 1) for angle in x_t.T]
    seen = []
    network.embed.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    out = network(x_t, t, {})
    torch.testing.assert_close(seen[0], torch.cat(waves, 1))
    torch.testing.assert_close(network(x_t + turn * torch.tensor([1, -2], dtype=torch.float64), t, {}), out)


def test_a_period_needs_frequencies() -> None:
    for settings in ({"period": 1.0}, {"period": -1.0, "frequencies": 2}):
        with refuses(UsageError):
            MLP(**settings)


def test_binned_outputs_are_logits_per_entry() -> None:
    x_t, t = torch.randn(5, 2, 3), torch.rand(5)
    network = MLP(width=8, depth=1, num_bins=7).build((2, 3), {}, Rng(0))
    answer = network(x_t, t, {})
    assert answer.shape == (5, 2, 3, 7)
    assert (answer == 0).all()
    nn.init.normal_(network.head.bias)
    torch.testing.assert_close(network(x_t, t, {})[0], network.head.bias.view(2, 3, 7))
    assert MLP(width=8, depth=1).build((2, 3), {}, Rng(0))(x_t, t, {}).shape == x_t.shape
    with refuses(UsageError):
        MLP(num_bins=-1)

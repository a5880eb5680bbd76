"""Token architectures: logits, zero at first, arrays of a fixed shape; `test_network_config.py` has the rest."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks import (
    MLP,
    CausalTransformer,
    LanguageTransformer,
    NetworkConfig,
    TextDiT,
    TokenAdapter,
    TokenMLP,
    UNet,
    count_parameters,
)
from tests.errors import refuses
from tests.networks.checks import check_learning, perturb_weights

K = 5
SMALL = {
    "text": (TextDiT(K, width=16, depth=2, heads=2), (9,)),
    "language": (LanguageTransformer(K, width=16, depth=2, heads=2), (9,)),
    "decoder": (CausalTransformer(K, width=16, depth=2, heads=2), (9,)),
    "token mlp": (TokenMLP(K, has_mask=True, embed_dim=3, width=24, depth=2), (2, 3)),
    "embedded mlp": (TokenAdapter(MLP(width=16, depth=2), K, has_mask=True, embed_dim=3), (4,)),
    "embedded mlp of one token": (TokenAdapter(MLP(width=16, depth=2), K, embed_dim=3), ()),
    "embedded unet": (TokenAdapter(UNet(channels=8, multipliers=(1, 2), blocks=1, heads=2), K, embed_dim=4), (2, 5, 4)),
}
every = pytest.mark.parametrize(("architecture", "shape"), SMALL.values(), ids=SMALL)


def build(architecture: NetworkConfig, shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    return architecture.build(shape, {"label": 3}, Rng(seed))


def random_network(architecture: NetworkConfig, shape: tuple[int, ...]) -> nn.Module:
    return perturb_weights(build(architecture, shape))


def batch(architecture: NetworkConfig, shape: tuple[int, ...], n: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    draw = Rng(2).stream("batch")
    x_t = draw.randint(K + getattr(architecture, "has_mask", False), (n, *shape))
    return x_t, draw.uniform((n,), torch.float64), draw.randint(4, (n,))


@every
@pytest.mark.parametrize("n", [0, 3])
def test_logits_of_every_token(architecture: NetworkConfig, shape: tuple[int, ...], n: int) -> None:
    x_t, t, label = batch(architecture, shape, n)
    network = build(architecture, shape)
    logits = network(x_t, t.float(), {"label": label})
    assert logits.shape == (n, *shape, K)
    assert logits.dtype == torch.float32
    assert network.double()(x_t, t, {"label": label}).dtype == torch.float64


@every
def test_a_new_network_answers_zero_and_learns_in_all_its_weights(
    architecture: NetworkConfig, shape: tuple[int, ...]
) -> None:
    x_t, t, label = batch(architecture, shape, 16)
    label[:4] = torch.arange(4)
    known = x_t % 2 == 0
    given = {"label": label, "known": known} if isinstance(architecture, TextDiT) else {"label": label}
    network = build(architecture, shape).double()
    assert not network(x_t, t, given).any()
    target = (x_t.roll(1, -1) + label.reshape(-1, *[1] * len(shape)) if shape else x_t + label) % K
    check_learning(network, lambda: F.cross_entropy(network(x_t, t, given).flatten(0, -2), target.flatten()), 5)
    now = network(x_t, t, given)
    others = [network(x_t, t, given | {"label": (label + 1) % 4})]
    others += [] if isinstance(architecture, CausalTransformer | LanguageTransformer) else [network(x_t, 1 - t, given)]
    for other in others:
        assert ((other - now).abs().flatten(1).amax(1) > 1e-7).all()


@pytest.mark.parametrize("architecture", [TextDiT(3), CausalTransformer(3)])
def test_text_networks_refuse_images(architecture: NetworkConfig) -> None:
    with refuses(UsageError):
        architecture.build((1, 4, 4), {}, Rng(0))


@pytest.mark.parametrize("architecture", [TokenMLP(3), TokenAdapter(MLP(), 3)])
def test_array_networks_refuse_dicts(architecture: NetworkConfig) -> None:
    with refuses(UsageError):
        architecture.build({"a": (2,)}, {}, Rng(0))


def test_parameter_count_of_the_reference_network() -> None:
    """64 tokens of 17 levels and a mask, ten classes: about 1.52 million."""
    network = TokenMLP(17, has_mask=True).build((1, 8, 8), {"label": 10}, Rng(0))
    vector = (18 * 384 + 384) + 11 * 384
    layers = 18 * 8 + (64 * 8 * 384 + 384) + 6 * (384 * 384 + 384) + (384 * 64 * 17 + 64 * 17)
    assert count_parameters(network) == vector + layers
    assert abs(count_parameters(network) / 1.52e6 - 1) < 0.02


def test_token_embeddings_become_channels() -> None:
    network = random_network(TokenAdapter(MLP(width=8, depth=1), K, embed_dim=3), (2, 4, 3))
    network.inner = nn.Module()
    seen = []

    def answer(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        seen.append(x.shape)
        return x

    network.inner.forward = answer
    x_t, t, label = batch(SMALL["embedded mlp"][0], (2, 4, 3), 2)
    x_t = x_t.clamp(max=K - 1)
    features = network.embed(x_t)
    torch.testing.assert_close(
        network(x_t, t, {"label": label}), features @ network.head.weight.mT + network.skip_head(features)
    )
    assert seen == [(2, 6, 4, 3)]


@pytest.mark.parametrize("name", ["text", "token mlp", "embedded mlp"])
def test_fits_a_fixed_map(name: str) -> None:
    """A map that needs the token, its neighbour and the label, from log 5 = 1.61 nats down to a tenth of it."""
    architecture, shape = SMALL[name]
    network = build(architecture, shape)
    x_t, t, label = batch(architecture, shape, 16)
    target = (x_t + x_t.roll(1, -1) + label.reshape(-1, *[1] * len(shape))) % K
    optimiser = torch.optim.Adam(network.parameters(), 2e-2)
    for _ in range(120):
        optimiser.zero_grad()
        loss = F.cross_entropy(network(x_t, t.float(), {"label": label}).flatten(0, -2), target.flatten())
        loss.backward()
        optimiser.step()
    assert loss < 0.16

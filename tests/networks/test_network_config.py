"""Properties of every network architecture."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import grad, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.networks import (
    MLP,
    CausalTransformer,
    DiT,
    LanguageTransformer,
    NetworkConfig,
    PatchTransformer,
    TextDiT,
    TokenAdapter,
    TokenMLP,
    UNet,
    UNetND,
    count_parameters,
)
from tests.errors import refuses
from tests.networks.checks import check_gradients, check_learning, check_record, check_seed, perturb_weights
from tests.networks.test_token_networks import SMALL as TOKENS
from tests.networks.test_token_networks import batch as token_batch

SMALL = {
    "mlp": (MLP(width=16, depth=2), (3,)),
    "mlp of images with frequencies": (MLP(width=10, depth=1, frequencies=2), (2, 3, 2)),
    "plain": (UNet(channels=12, multipliers=(1,)), (1, 4, 4)),
    "unet": (UNet(channels=8, multipliers=(1, 2, 2), blocks=1, heads=2), (2, 9, 5)),
    "transformer": (DiT(patch=3, width=16, depth=2, heads=2), (2, 5, 7)),
    "series": (UNetND(channels=8, multipliers=(1, 2, 2), heads=2), (13, 2)),
    "patches": (PatchTransformer(patch=3, width=16, depth=1, heads=2), (7, 5, 2)),
    "fields": (UNetND(channels=8, multipliers=(1, 2), attention=(False, True), heads=2), (5, 6, 2)),
    "volumes": (UNetND(channels=8, multipliers=(1, 2), attention=(False,)), (3, 4, 5, 1)),
}
every = pytest.mark.parametrize(("architecture", "shape"), SMALL.values(), ids=SMALL)
ALL = {**SMALL, **TOKENS}
of_tokens_too = pytest.mark.parametrize(("architecture", "shape"), ALL.values(), ids=ALL)


def build(architecture: NetworkConfig, shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    return architecture.build(shape, {"label": 3}, Rng(seed))


def random_network(architecture: NetworkConfig, shape: tuple[int, ...]) -> nn.Module:
    return perturb_weights(build(architecture, shape))


def batch(shape: tuple[int, ...], n: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    draw = Rng(2).stream("batch")
    return draw.normal((n, *shape), dtype), draw.uniform((n,), dtype), draw.randint(4, (n,))


def inputs(architecture: NetworkConfig, shape: tuple[int, ...], n: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    return token_batch(architecture, shape, n) if (architecture, shape) in TOKENS.values() else batch(shape, n)


@settings(deadline=None, max_examples=12, derandomize=True)
@given(
    architecture=st.sampled_from([architecture for architecture, shape in SMALL.values() if len(shape) == 3]),
    colours=st.integers(1, 3),
    height=st.integers(1, 11),
    width=st.integers(1, 11),
    n=st.integers(0, 3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_images_of_any_size(
    architecture: NetworkConfig, colours: int, height: int, width: int, n: int, dtype: torch.dtype
) -> None:
    shape = (colours, height, width)
    x_t, t, label = batch(shape, n, dtype)
    prediction = build(architecture, shape).to(dtype)(x_t, t, {"label": label})
    assert prediction.shape == x_t.shape
    assert prediction.dtype == dtype


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3)])
def test_vectors_of_any_shape(shape: tuple[int, ...]) -> None:
    x_t, t, label = batch(shape)
    assert build(MLP(8, 1, 2), shape).double()(x_t, t, {"label": label}).shape == x_t.shape


@of_tokens_too
def test_device_and_dtype_follow_the_inputs(architecture: NetworkConfig, shape: tuple[int, ...]) -> None:
    x_t, t, label = inputs(architecture, shape)
    network = build(architecture, shape).double()
    answer = network(x_t, t, {"label": label})
    assert answer.dtype == torch.float64
    assert network(x_t, t.float(), {"label": label}).dtype == torch.float64  # a solver's own time
    away = network.to("meta")(x_t.to("meta"), t.to("meta"), {"label": label.to("meta")})
    assert away.shape == answer.shape
    assert away.device.type == "meta"


@every
def test_a_new_network_predicts_zero_and_learns_in_all_its_weights(
    architecture: NetworkConfig, shape: tuple[int, ...]
) -> None:
    x_t, t, label = batch(shape, 8)
    label[:4] = torch.arange(4)
    network = build(architecture, shape).double()
    assert not network(x_t, t, {"label": label}).any()
    wanted = x_t * t.reshape(-1, *[1] * len(shape))
    check_learning(network, lambda: (network(x_t, t, {"label": label}) - wanted).square().mean())
    changed = network(x_t, 1 - t, {"label": label}), network(x_t, t, {"label": (label + 1) % 4})
    for other in changed:
        assert ((other - network(x_t, t, {"label": label})).abs().flatten(1).amax(1) > 1e-6).all()


@every
def test_the_null_label_has_its_own_embedding(architecture: NetworkConfig, shape: tuple[int, ...]) -> None:
    network = random_network(architecture, shape)
    assert network.null_values == {"label": 3}
    x_t, t, _ = batch(shape, 1)
    answers = [network(x_t, t, {"label": torch.tensor([k])}) for k in range(4)]
    for k in range(3):
        assert (answers[3] - answers[k]).abs().max() > 1e-6
    answers[3].square().sum().backward()
    rows = next(weight for name, weight in network.named_parameters() if "embeddings" in name).grad
    assert rows is not None
    assert rows[3].any()
    assert not rows[:3].any()
    with pytest.raises(IndexError):
        network(x_t, t, {"label": torch.tensor([4])})


@of_tokens_too
def test_gradients_per_example(architecture: NetworkConfig, shape: tuple[int, ...]) -> None:
    """Also of rows with padding, where a network knows of it."""
    x_t, t, label = inputs(architecture, shape, 3)
    valid = torch.arange(shape[0] if shape else 1) < torch.tensor([[9], [2], [1]])

    def loss(network: nn.Module, x_t: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return (network(x_t, t, given) - 1).square().mean()

    given = {"label": label, "valid": valid}
    check_gradients(random_network(architecture, shape), loss, x_t, t, given, rtol=1e-9, atol=1e-12)


@every
def test_derivatives_of_the_state(architecture: NetworkConfig, shape: tuple[int, ...]) -> None:
    """Forward mode against central differences, and second derivatives against those of the first."""
    network = random_network(architecture, shape)
    x_t, t, label = batch(shape, 2)
    along = Rng(3).stream("along").normal(x_t.shape, torch.float64)

    def predict(x: Tensor) -> Tensor:
        return network(x, t, {"label": label})

    def slope(x: Tensor) -> Tensor:
        return grad(lambda x: predict(x).square().sum())(x)

    h = 1e-5
    with sdpa_kernel(SDPBackend.MATH):
        forward = jvp(predict, (x_t,), (along,))[1]
        second = grad(lambda x: (slope(x) * along).sum())(x_t)
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(forward, (predict(x_t + h * along) - predict(x_t - h * along)) / (2 * h), **close)
    torch.testing.assert_close(second, (slope(x_t + h * along) - slope(x_t - h * along)) / (2 * h), **close)


@of_tokens_too
def test_rows_are_independent(architecture: NetworkConfig, shape: tuple[int, ...]) -> None:
    network = random_network(architecture, shape)
    x_t, t, label = inputs(architecture, shape, 5)
    prediction = network(x_t, t, {"label": label})
    order = torch.tensor([3, 0, 4, 1, 2])
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(network(x_t[order], t[order], {"label": label[order]}), prediction[order], **close)
    x_t = x_t.clone()
    x_t[1] = (x_t[1] + 1) % 5
    changed = network(x_t, t, {"label": label})
    torch.testing.assert_close(changed[[0, 2, 3, 4]], prediction[[0, 2, 3, 4]], **close)
    assert (changed[1] - prediction[1]).abs().max() > 1e-3


@every
def test_every_entry_depends_on_itself(architecture: NetworkConfig, shape: tuple[int, ...]) -> None:
    network = random_network(architecture, shape)
    x_t, t, label = batch(shape, 1)
    x_t.requires_grad_()
    prediction = network(x_t, t, {"label": label})
    for place in [(0,) + (0,) * len(shape), (0, *(n - 1 for n in shape))]:
        (slope,) = torch.autograd.grad(prediction[place], x_t, retain_graph=True)
        assert slope[place].abs() > 1e-6


@of_tokens_too
def test_weights_come_from_the_seed(architecture: NetworkConfig, shape: tuple[int, ...]) -> None:
    check_seed(lambda seed: build(architecture, shape, seed))


@every
def test_the_order_of_conditions_does_not_matter(architecture: NetworkConfig, shape: tuple[int, ...]) -> None:
    one = architecture.build(shape, {"label": 3, "type": 2}, Rng(0)).state_dict()
    two = architecture.build(shape, {"type": 2, "label": 3}, Rng(0)).state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@of_tokens_too
def test_records_round_trip(architecture: NetworkConfig, shape: tuple[int, ...]) -> None:
    check_record(architecture)


def test_records_with_invalid_settings_are_refused() -> None:
    with pytest.raises(InputError):
        from_dict(NetworkConfig, to_dict(DiT()) | {"heads": 3})


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (MLP, {"width": 0}),
        (MLP, {"frequencies": -1}),
        (UNet, {"multipliers": ()}),
        (UNet, {"attention": ()}),
        (UNet, {"channels": 0}),
        (UNet, {"channels": 9, "attention": (True,)}),
        (DiT, {"width": 30, "heads": 2}),
        (DiT, {"heads": 3}),
        (DiT, {"patch": 0}),
        (TextDiT, {"vocab_size": 0}),
        (TextDiT, {"vocab_size": 3, "width": 12, "heads": 4}),
        (LanguageTransformer, {"vocab_size": 3, "reach": -1}),
        (LanguageTransformer, {"vocab_size": 3, "width": 10, "heads": 2}),
        (CausalTransformer, {"vocab_size": 3, "depth": 0}),
        (CausalTransformer, {"vocab_size": 3, "width": 10, "heads": 2}),
        (TokenMLP, {"vocab_size": 3, "width": 0}),
        (TokenAdapter, {"inner": MLP(), "vocab_size": 3, "embed_dim": 0}),
    ],
)
def test_settings_out_of_range_are_refused(kind: type[NetworkConfig], settings: dict) -> None:
    with refuses(UsageError):
        kind(**settings)


@pytest.mark.parametrize("architecture", [UNet(), DiT(), UNetND(), PatchTransformer()])
def test_image_networks_refuse_vectors(architecture: NetworkConfig) -> None:
    with refuses(UsageError):
        architecture.build((2,), {}, Rng(0))


def test_count_parameters_counts_trainable_weights() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert count_parameters(network) == 3 * 4 + 4 + 2 * 4
    network[1].requires_grad_(False)
    assert count_parameters(network) == 3 * 4 + 4


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [
        (MLP(width=64, depth=2), (2,)),
        (UNet(channels=8, multipliers=(1, 2), blocks=1, heads=2), (1, 6, 6)),
        (DiT(width=32, depth=1), (1, 6, 6)),
    ],
)
def test_fits_a_fixed_map(architecture: NetworkConfig, shape: tuple[int, ...]) -> None:
    """A map that needs the state, the time and the label; its variance is 1.1 to 1.3 and 2% of it may remain."""
    network = build(architecture, shape)
    x_t, t, label = batch(shape, 32, torch.float32)
    spread = (-1, *[1] * len(shape))
    wanted = x_t.flip(-1) * t.reshape(spread) + label.reshape(spread) - 1.5
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        error = (network(x_t, t, {"label": label}) - wanted).square().mean()
        error.backward()
        optimiser.step()
    assert error < 0.02 * wanted.var()

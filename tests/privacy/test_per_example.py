"""Per-example gradients: ghost clipping and `vmap` against a loop."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.networks import (
    GPT,
    MLP,
    BlockAttention,
    CausalTransformer,
    DiT,
    LanguageTransformer,
    TextDiT,
    UNet,
    UNetND,
)
from feller.networks.blocks.lora import LoRA
from feller.privacy.dp_sgd.ghost_clipping import clipped_by_ghost
from feller.privacy.dp_sgd.grad_samplers import (
    GradSampler,
    LayerTensors,
    grad_sampler_of,
    outer_norm_sq,
    register_grad_sampler,
)
from feller.privacy.dp_sgd.per_example_clipping import UnsupportedError, clip_factors
from feller.privacy.dp_sgd.per_example_gradients import clipped_by_loop, clipped_by_vmap
from feller.privacy.dp_sgd.self_check import self_check
from tests.errors import refuses
from tests.oracle import close
from tests.privacy.layers_here import F64, Placed, Scaled, Tied, answer_loss, normal, shaken, symbols, tell_apart

PICTURE, LINE, TEXT = normal(5, 4, 6, 7), normal(5, 4, 9), symbols(7, 5, 5)


def frozen(layer: nn.Module, name: str) -> nn.Module:
    getattr(layer, name).requires_grad_(False)
    return layer


LAYERS = {
    "linear of vectors": (lambda: nn.Linear(4, 3), normal(5, 4)),
    "linear of few places": (lambda: nn.Linear(40, 30), normal(5, 6, 40)),
    "linear of many places": (lambda: nn.Linear(4, 3), normal(5, 2, 8, 4)),
    "linear without bias": (lambda: nn.Linear(4, 3, bias=False), normal(5, 6, 4)),
    "linear, bias alone": (lambda: frozen(nn.Linear(4, 3), "weight"), normal(5, 6, 4)),
    "linear, weight alone": (lambda: frozen(nn.Linear(4, 3), "bias"), normal(5, 6, 4)),
    "table": (lambda: nn.Embedding(7, 3), TEXT),
    "table of one symbol each": (lambda: nn.Embedding(7, 3), TEXT[:, 0]),
    "table with padding": (lambda: nn.Embedding(7, 3, padding_idx=2), TEXT),
    "layer norm": (lambda: nn.LayerNorm(4), normal(5, 6, 4)),
    "layer norm of two axes": (lambda: nn.LayerNorm((6, 4)), normal(5, 3, 6, 4)),
    "layer norm without bias": (lambda: nn.LayerNorm(4, bias=False), normal(5, 4)),
    "RMS norm": (lambda: nn.RMSNorm(4), normal(5, 6, 4)),
    "group norm": (lambda: nn.GroupNorm(2, 4), PICTURE),
    "group norm of vectors": (lambda: nn.GroupNorm(2, 4), normal(5, 4)),
    "convolution": (lambda: nn.Conv2d(4, 6, 3, padding=1), PICTURE),
    "convolution with all settings": (
        lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(1, 2), groups=2),
        PICTURE,
    ),
    "convolution, stride that leaves a rest": (lambda: nn.Conv2d(4, 3, 3, stride=2), PICTURE),
    "convolution of its own channel": (lambda: nn.Conv2d(4, 4, 3, groups=4, bias=False), PICTURE),
    "convolution round about": (lambda: nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular"), PICTURE),
    "convolution, same": (lambda: nn.Conv1d(4, 3, 4, padding="same"), LINE),
    "convolution, one axis": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), LINE),
    "convolution, valid": (lambda: nn.Conv1d(4, 6, 3, padding="valid"), LINE),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (F64, 1e-10)])
def test_clipped_sum_of_each_layer_matches_loop(name: str, dtype: torch.dtype, tolerance: float) -> None:
    make, x = LAYERS[name]
    layer = shaken(make()).to(dtype)
    example = {"x": x.to(dtype) if x.is_floating_point() else x}
    clip = clipped_by_loop(answer_loss, layer, example, math.inf).norms.median().item()
    slow = clipped_by_loop(answer_loss, layer, example, clip)
    assert 0 < (slow.norms > clip).sum() < 5
    assert tell_apart(clipped_by_ghost(answer_loss, layer, example, clip), slow) < tolerance
    assert tell_apart(clipped_by_vmap(answer_loss, layer, example, clip), slow) < tolerance


@pytest.mark.parametrize("network", [Placed, Tied], ids=["one layer twice, in place, expanded", "tied weights"])
def test_shared_weights_are_summed_before_the_norm(network: type[nn.Module]) -> None:
    network, example = shaken(network()), {"x": TEXT}
    clip = clipped_by_loop(answer_loss, network, example, math.inf).norms.median().item()
    slow = clipped_by_loop(answer_loss, network, example, clip)
    assert tell_apart(clipped_by_ghost(answer_loss, network, example, clip), slow) < 1e-10
    assert tell_apart(clipped_by_vmap(answer_loss, network, example, clip), slow) < 1e-10


def test_outer_norm_sq() -> None:
    for t, p, d in ((3, 40, 50), (60, 4, 5), (1, 4, 5)):
        slopes, x = normal(4, t, p), normal(4, t, d, seed=5)
        close(outer_norm_sq(slopes, x), torch.einsum("btp,btd->bpd", slopes, x).square().sum((1, 2)), 1e-8)


def networks() -> dict[str, tuple]:
    given = {"label": symbols(4, 4)}
    build = {"label": 3}
    picture, text = normal(4, 3, 7, 6), symbols(6, 4, 9)
    seen = {"valid": torch.arange(9).expand(4, 9) < torch.tensor([[9], [4], [9], [1]])}
    return {
        "MLP": (MLP(width=16, depth=2).build((5,), build, Rng(0)), normal(4, 5), given, True),
        "UNet": (UNet(channels=8, multipliers=(1, 2), heads=2).build((3, 7, 6), build, Rng(0)), picture, given, True),
        "Transformer": (DiT(width=16, depth=2, heads=2).build((3, 7, 6), build, Rng(0)), picture, given, True),
        "UNetND": (
            UNetND(channels=8, multipliers=(1, 2), attention=(False, True), heads=2).build((9, 2), build, Rng(0)),
            normal(4, 9, 2),
            given | seen,
            False,
        ),
        "TextTransformer": (
            TextDiT(6, has_mask=False, width=16, depth=2, heads=2).build((9,), build, Rng(0)),
            text,
            given | seen,
            False,
        ),
        "LanguageTransformer": (
            LanguageTransformer(5, width=16, depth=2, heads=2).build((9,), build, Rng(0)),
            text,
            given | seen,
            False,
        ),
        "BlockTransformer": (
            LanguageTransformer(5, BlockAttention(4), width=16, depth=2, heads=2).build((9,), build, Rng(0)),
            text,
            given | {"clean": text.clamp(max=4)},
            False,
        ),
        "Decoder": (CausalTransformer(6, width=16, depth=2, heads=2).build((9,), build, Rng(0)), text, given, False),
        "PlainDecoder": (
            GPT(DocumentVocabulary(3, 2, 2), width=16, depth=2, heads=2, context=9).build((9,), {}, Rng(0)),
            text,
            {"sample": torch.arange(9).expand(4, 9) // 5},
            False,
        ),
        "LowRank": (LoRA(MLP(width=16, depth=1).build((5,), build, Rng(0)), 2, Rng(1)), normal(4, 5), given, 0),
    }


def network_loss(network: nn.Module, example: dict) -> Tensor:
    answer = network(example["x"], example["t"], example["given"])
    return (answer * answer.cos()).flatten(1).sum(1)


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [pytest.param(torch.float32, 1e-5, marks=pytest.mark.slow), (F64, 1e-10)]
)
def test_clipped_sum_of_networks_matches_loop(name: str, dtype: torch.dtype, tolerance: float) -> None:
    network, x, given, fast = networks()[name]
    network = shaken(network).to(dtype)
    t = Rng(4).stream("t").uniform((len(x),), dtype)
    example = {"x": x.to(dtype) if x.is_floating_point() else x, "t": t, "given": given}
    clip = clipped_by_loop(network_loss, network, example, math.inf).norms.median().item()
    slow = clipped_by_loop(network_loss, network, example, clip)
    assert tell_apart(clipped_by_vmap(network_loss, network, example, clip), slow) < tolerance
    if fast:
        assert tell_apart(clipped_by_ghost(network_loss, network, example, clip), slow) < tolerance
    else:
        with pytest.raises(UnsupportedError):
            clipped_by_ghost(network_loss, network, example, clip)
    verdict = self_check(network_loss, network, example)
    assert verdict.ghost_works == bool(fast)
    assert verdict.error < 10 * tolerance


AUTOCAST = {
    **dict.fromkeys(("TextTransformer", "Decoder", "PlainDecoder"), (clipped_by_loop,)),
    **dict.fromkeys(("UNet", "Transformer"), (clipped_by_loop, clipped_by_ghost)),
    "MLP": (clipped_by_loop, clipped_by_vmap, clipped_by_ghost),
    "LowRank": (clipped_by_loop, clipped_by_vmap),
}
"""Methods that support each network in bfloat16."""


@pytest.mark.parametrize(("name", "method"), [(name, method) for name in AUTOCAST for method in AUTOCAST[name]])
def test_no_clipped_gradient_exceeds_the_clip_under_autocast(name: str, method) -> None:
    """Norms and sums are of the same float32 values, so gradients rounded by bfloat16 are clipped exactly, too."""
    network, x, given, _ = networks()[name]
    network, x = shaken(network).float(), x.float() if x.is_floating_point() else x

    def loss(network: nn.Module, example: dict) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network_loss(network, example).float()

    for i in range(len(x)):
        row = {
            "x": x[i : i + 1],
            "t": torch.tensor([0.3]),
            "given": {key: value[i : i + 1] for key, value in given.items()},
        }
        norm = method(loss, network, row, math.inf).norms.item()
        for clip in (0.01 * norm, 0.9 * norm, 2 * norm):
            clipped = method(loss, network, row, clip)
            total = torch.cat([part.double().flatten() for part in clipped.sums.values()]).norm().item()
            assert total <= min(clip, norm) * (1 + 1e-6)
            assert total >= 0.99 * min(clip, norm)


class OneLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)


class Outside(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.layer(x), self.layer.weight)


class BehindALayer(nn.Module):
    """A bare use of a weight that lies below the call of another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.linear(x, self.first.weight))


class TimeFirst(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(0, 1)).transpose(0, 1)


class Keyword(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(input=x)


@pytest.mark.parametrize(
    ("network", "x"),
    [
        (Scaled, normal(3, 4)),
        (Outside, normal(3, 4)),
        (BehindALayer, normal(3, 4)),
        (TimeFirst, normal(3, 5, 4)),
        (Keyword, normal(3, 4)),
        (lambda: Placed(expanded=False), TEXT[:3]),
        (lambda: nn.Bilinear(4, 4, 2), None),
        (lambda: nn.Embedding(7, 3, scale_grad_by_freq=True), None),
    ],
)
def test_ghost_clipping_refuses_what_it_cannot_compute(network, x: Tensor | None) -> None:
    network = shaken(network())
    with pytest.raises(UnsupportedError):
        clipped_by_ghost(answer_loss, network, {"x": normal(3, 4) if x is None else x}, 1.0)
    if x is not None:
        slow = clipped_by_loop(answer_loss, network, {"x": x}, 1.0)
        assert tell_apart(clipped_by_vmap(answer_loss, network, {"x": x}, 1.0), slow) < 1e-10


def test_ghost_clipping_refuses_second_derivatives() -> None:
    def slope_loss(network: nn.Module, example: dict[str, Tensor]) -> Tensor:
        x = example["x"].requires_grad_()
        slope = torch.autograd.grad(network(x).square().sum(), x, create_graph=True)[0]
        return slope.square().sum(1)

    network, example = shaken(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))), {"x": normal(3, 4)}
    with pytest.raises(UnsupportedError):
        clipped_by_ghost(slope_loss, network, example, 1.0)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = Halving()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(self.scale * x)


class Halving(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2 if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("clipped", "network"),
    [
        (clipped_by_vmap, nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))),
        (clipped_by_loop, nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4))),
        (clipped_by_vmap, shaken(Branches())),
    ],
)
def test_batch_norm_dropout_and_branches_are_refused(clipped, network: nn.Module) -> None:
    with refuses(UsageError):
        clipped(answer_loss, network, {"x": normal(3, 4)}, 1.0)


def test_self_check_finds_losses_that_mix_rows() -> None:
    def relative(network: nn.Module, example: dict[str, Tensor]) -> Tensor:
        answer = network(example["x"])
        return (answer - answer.mean(0)).square().sum(1)

    def turned(network: nn.Module, example: dict[str, Tensor]) -> Tensor:
        return network(example["x"].flip(0)).square().sum(1)

    for loss in (relative, turned):
        with refuses(UsageError):
            self_check(loss, nn.Linear(4, 3).double(), {"x": normal(3, 4)})


class PlaceHeads(nn.Module):
    """Each place of a row has a matrix of its own: a layer that tells by itself."""

    def __init__(self, wrong: float = 1.0) -> None:
        super().__init__()
        self.heads, self.wrong = nn.Parameter(torch.zeros(5, 3, 4)), wrong

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bmd,mkd->bmk", x, self.heads)

    def norm_sq(self, inputs: Tensor, slopes: Tensor) -> Tensor:
        return self.wrong * (inputs.square().sum(2) * slopes.square().sum(2)).sum(1)

    def weighted_sum(self, inputs: Tensor, slopes: Tensor, factors: Tensor) -> dict[str, Tensor]:
        return {"heads": torch.einsum("bmd,bmk,b->mkd", inputs, slopes, factors)}


class Thrice(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.enter, self.layer = nn.Linear(4, 4), layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.enter(x)) + self.layer(x) + self.layer(x.sin())


@pytest.mark.parametrize("wrap", [lambda layer: nn.Sequential(nn.Linear(4, 4), layer), Thrice])
def test_layer_with_its_own_norm_and_sum(wrap) -> None:
    network, example = shaken(wrap(PlaceHeads())), {"x": normal(4, 5, 4)}
    slow = clipped_by_loop(answer_loss, network, example, 3.0)
    assert tell_apart(clipped_by_ghost(answer_loss, network, example, 3.0), slow) < 1e-10


def test_self_check_finds_a_wrong_norm() -> None:
    network = nn.Sequential(nn.Linear(4, 4), PlaceHeads(wrong=1.1)).double()
    with refuses(UsageError):
        self_check(answer_loss, network, {"x": normal(3, 5, 4)})


def test_register_grad_sampler() -> None:
    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.by

    class OfShift(GradSampler):
        def weighted_sum(self, layer: Shift, call: LayerTensors, factors: Tensor) -> dict[str, Tensor]:
            return {"by": factors @ call.backprops}

    assert grad_sampler_of(Shift()) is None
    register_grad_sampler(Shift, OfShift())
    network, example = shaken(nn.Sequential(nn.Linear(4, 4), Shift())), {"x": normal(4, 4)}
    slow = clipped_by_loop(answer_loss, network, example, 1.0)
    assert tell_apart(clipped_by_ghost(answer_loss, network, example, 1.0), slow) < 1e-10


def test_clip_factors() -> None:
    norms = torch.tensor([0.0, 0.5, 2.0, math.inf, 1e-40], dtype=F64)
    assert clip_factors(norms, 1.0).tolist() == [1, 1, 0.5, 0, 1]
    assert clip_factors(norms[:3], math.inf).tolist() == [1, 1, 1]

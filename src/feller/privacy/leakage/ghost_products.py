"""Inner products of per-row gradients and their tangents from activations and output gradients (ghost products).

A linear layer's gradient is a sum of outer products s x^T over its calls and positions, and its tangent a sum of ds x^T
+ s dx^T. Inner products of both reduce to small Gram matrices, so gradients are not materialised. Source for norms: Bu,
Wang, Zha and Karypis 2022, arXiv 2210.00038; the tangents are new here. Each network is verified once against exact
gradients, on two rows of a copy with shifted weights.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from feller.core.pytree import num_examples
from feller.privacy.dp_sgd.grad_samplers import flatten_positions
from feller.privacy.dp_sgd.per_example_clipping import LossModule, UnsupportedError, check_losses
from feller.privacy.dp_sgd.self_check import shifted
from feller.privacy.dp_sgd.stateful_modules import forbid_row_state
from feller.privacy.leakage.row_gradients import CHUNK_SIZE, RowGradients, TangentBatch, batch_dot, replace_floats

MIN_ENTRIES = 2**21
"""Total gradient entries (rows x weights) below which exact per-row gradients are used."""
TOLERANCE = 1e-3
"""Relative tolerance of the verification, in float32."""
MAX_POSITIONS = 64
"""Maximum number of positions of a row per layer; with more, materialised gradients take less memory."""

_is_verified: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Network -> True if its products passed the verification."""


@dataclass(frozen=True)
class LayerTangents:
    """Inputs and output gradients of linear layers, gradients of all other weights, and tangents of all three."""

    layer_names: list[str]
    """Layer name of each call."""
    primal: tuple[list[Tensor], list[Tensor], list[Tensor]]
    """Gradients of the other weights, output gradients and inputs, each with a batch axis."""
    tangent: tuple[list[Tensor], list[Tensor], list[Tensor]]


class _BatchLoss(LossModule):
    def forward(self, example: dict[str, Any], b: int) -> Tensor:
        return check_losses(self.loss(self.network, example), b).sum()


def fast_products(row_gradients: RowGradients, tangents: TangentBatch) -> Float[Tensor, "3 b"]:
    """Return |g|^2, g . dg and |dg|^2 of each row's gradient g and tangent dg, by Gram matrices where faster."""
    layers, rows = _plain_linear_layers(row_gradients.module), num_examples(tangents.example)
    if not layers or (_other_weights(row_gradients, layers) and row_gradients.size * rows < MIN_ENTRIES):
        return row_gradients.products(tangents)
    if row_gradients.network not in _is_verified:
        _is_verified[row_gradients.network] = _matches_exact(row_gradients, tangents.select(slice(0, 2)))
    if not _is_verified[row_gradients.network]:
        return row_gradients.products(tangents)
    portion = max(1, CHUNK_SIZE // (row_gradients.size // 8 + 1))
    try:
        parts = [
            _layer_products(row_gradients, tangents.select(slice(start, start + portion)))
            for start in range(0, rows, portion)
        ]
    except UnsupportedError:
        return row_gradients.products(tangents)
    return torch.cat(parts, 1)


def _matches_exact(row_gradients: RowGradients, tangents: TangentBatch) -> bool:
    """Return True if the products agree with exact gradients, for shifted weights (no exact zeros)."""
    other = RowGradients(row_gradients.module.loss, shifted(row_gradients.network))
    try:
        found = _layer_products(other, tangents)
    except UnsupportedError:
        return False
    exact = other.products(tangents)
    finite = exact.isfinite().all(0)
    apart = (found - exact)[:, finite].abs().amax(1) if finite.any() else torch.ones(3)
    return bool((apart <= TOLERANCE * exact[:, finite].abs().sum(1)).all())


def _plain_linear_layers(whole: nn.Module) -> dict[str, nn.Linear]:
    """Return the `nn.Linear` layers with trainable weights that are not shared with another module."""
    users = Counter(id(weight) for _, weight in whole.named_parameters(remove_duplicate=False))
    return {
        name: layer
        for name, layer in whole.named_modules()
        if type(layer) is nn.Linear and all(each.requires_grad and users[id(each)] == 1 for each in layer.parameters())
    }


def _other_weights(row_gradients: RowGradients, layers: dict[str, nn.Linear]) -> dict[str, Tensor]:
    own = {f"{name}.{key}" for name in layers for key in ("weight", "bias")}
    return {name: value for name, value in row_gradients.weights.items() if name not in own}


@contextmanager
def _shift_outputs(layers: dict[str, nn.Linear], by: list[Tensor], calls: list[tuple[str, Tensor]]) -> Iterator[None]:
    """Record the input of each layer call, and add a tensor to its output."""

    def hook(name: str) -> Any:
        def after(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not args or (by and len(calls) == len(by)):
                raise UnsupportedError(f"{name} is called with keyword arguments, or more often than when traced")
            calls.append((name, args[0]))
            return output + by[len(calls) - 1] if by else output

        return after

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.enter_context(layer.register_forward_hook(hook(name)))
        yield


def _layer_products(row_gradients: RowGradients, tangents: TangentBatch) -> Float[Tensor, "3 b"]:
    layers = _plain_linear_layers(row_gradients.module)
    others = _other_weights(row_gradients, layers)
    with (
        forbid_row_state(row_gradients.module.loss, row_gradients.network, tangents.example),
        sdpa_kernel(SDPBackend.MATH),
    ):
        layer_tangents = (
            _per_row_tangents(row_gradients, tangents, layers, others)
            if others
            else _batch_tangents(row_gradients, tangents, layers)
        )
    (gradients, _, _), (changes, _, _) = layer_tangents.primal, layer_tangents.tangent
    total = torch.zeros(
        3, num_examples(tangents.example), dtype=torch.float64, device=layer_tangents.primal[1][0].device
    )
    if others:
        total += torch.stack(
            [batch_dot(gradients, gradients), batch_dot(gradients, changes), batch_dot(changes, changes)]
        )
    for name in set(layer_tangents.layer_names):
        call_index = [i for i, each in enumerate(layer_tangents.layer_names) if each == name]
        tables = (
            layer_tangents.primal[1],
            layer_tangents.tangent[1],
            layer_tangents.primal[2],
            layer_tangents.tangent[2],
        )
        s, ds, x, dx = (torch.cat([flatten_positions(table[i]) for i in call_index], 1) for table in tables)
        total += _products(s, ds, x, dx, 0.0 if layers[name].bias is None else 1.0)
    return total


def _per_row_tangents(
    row_gradients: RowGradients, tangents: TangentBatch, layers: dict[str, nn.Linear], others: dict[str, Tensor]
) -> LayerTangents:
    """Compute the tangents row by row (vmap), together with gradients of the other weights."""
    names, zeros = _trace_calls(row_gradients.module, row_gradients.weights, (tangents.example_at(0),), layers)
    _check_places(names, zeros, layers)
    held = {name: value for name, value in row_gradients.weights.items() if name not in others}

    def one(example: Any, numbers: list[Tensor], changes: list[Tensor]) -> Any:
        def layer_gradients(*numbers: Tensor) -> Any:
            def loss(others: dict[str, Tensor], by: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
                calls: list[tuple[str, Tensor]] = []
                with _shift_outputs(layers, by, calls):
                    value = functional_call(
                        row_gradients.module, {**held, **others}, (replace_floats(example, numbers),)
                    )
                return value, [x for _, x in calls]

            (gradients, out), went = grad(loss, (0, 1), has_aux=True)(others, zeros)
            return list(gradients.values()), out, went

        return jvp(layer_gradients, tuple(numbers), tuple(changes))

    return LayerTangents(names, *torch.vmap(one)(tangents.example, tangents.floats, tangents.tangents))


def _batch_tangents(row_gradients: RowGradients, tangents: TangentBatch, layers: dict[str, nn.Linear]) -> LayerTangents:
    """Compute the tangents of all rows in one pass, from the summed loss."""
    whole, b = _BatchLoss(row_gradients.module.loss, row_gradients.network), num_examples(tangents.example)
    names, zeros = _trace_calls(whole, row_gradients.weights, (tangents.example, b), layers)
    if any(zero.ndim < 2 or len(zero) != b for zero in zeros):
        raise UnsupportedError("the first axis of a layer's input is not the batch axis")
    _check_places(names, [zero[:1] for zero in zeros], layers)

    def layer_gradients(*numbers: Tensor) -> Any:
        def loss(by: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            calls: list[tuple[str, Tensor]] = []
            with _shift_outputs(layers, by, calls):
                value = functional_call(whole, row_gradients.weights, (replace_floats(tangents.example, numbers), b))
            return value, [x for _, x in calls]

        out, went = grad(loss, has_aux=True)(zeros)
        return [], out, went

    found: Any = jvp(layer_gradients, tuple(tangents.floats), tuple(tangents.tangents))
    return LayerTangents(names, *found)


def _trace_calls(
    whole: nn.Module, values: dict[str, Tensor], args: tuple[Any, ...], layers: dict[str, nn.Linear]
) -> tuple[list[str], list[Tensor]]:
    """Return the layer name and a zero tensor in the output shape of each call."""
    calls: list[tuple[str, Tensor]] = []
    with torch.no_grad(), _shift_outputs(layers, [], calls):
        functional_call(whole, values, args)
    if not calls:
        raise UnsupportedError("no linear layer is called")
    return [name for name, _ in calls], [x.new_zeros(*x.shape[:-1], layers[name].out_features) for name, x in calls]


def _check_places(names: list[str], zeros: list[Tensor], layers: dict[str, nn.Linear]) -> None:
    places: dict[str, int] = defaultdict(int)
    for name, zero in zip(names, zeros, strict=True):
        places[name] += zero.numel() // layers[name].out_features
    if max(places.values()) > MAX_POSITIONS:
        raise UnsupportedError(f"a layer has more than {MAX_POSITIONS} positions per row")


def _products(
    s: Float[Tensor, "b t o"],
    ds: Float[Tensor, "b t o"],
    x: Float[Tensor, "b t i"],
    dx: Float[Tensor, "b t i"],
    constant: float,
) -> Float[Tensor, "3 b"]:
    """Return the products for g = sum s x^T and dg = sum ds x^T + s dx^T; `constant` is 1 for a bias, else 0."""
    ss, sd, dd = s @ s.mT, s @ ds.mT, ds @ ds.mT
    xx, xd, dxdx = x @ x.mT + constant, x @ dx.mT, dx @ dx.mT
    squares, mixed = ss * xx, sd * xx + ss * xd
    changes = dd * xx + 2 * sd.mT * xd + ss * dxdx
    return torch.stack([each.double().sum((1, 2)) for each in (squares, mixed, changes)])

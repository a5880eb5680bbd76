"""Computation of inner products of per-row gradients and tangents from layer inputs and output gradients.

The products are called ghost products. A tangent is the derivative of a row's gradient along a direction in the row's
values.

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
"""Total gradient entries (rows x weights) below which exact gradients are used instead of ghost products."""
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
    primal: tuple[list[Tensor], list[Tensor], list[Tensor]]
    """Gradients of the other weights, output gradients and inputs, each with a batch axis."""
    tangent: tuple[list[Tensor], list[Tensor], list[Tensor]]


class _BatchLoss(LossModule):
    def forward(self, example: dict[str, Any], b: int) -> Tensor:
        return check_losses(self.loss(self.network, example), b).sum()


def fast_products(row_gradients: RowGradients, tangents: TangentBatch) -> Float[Tensor, "3 b"]:
    """Return |g|^2, g . dg and |dg|^2 of each row's gradient g and its tangent dg.

    `row_gradients` holds the network and the loss. `tangents` holds the examples of the rows, and their derivatives
    along the direction of the tangent. Gram matrices are used where they are faster than materialised gradients.
    """
    layers, num_rows = _plain_linear_layers(row_gradients.module), num_examples(tangents.example)
    if not layers or (_other_weights(row_gradients, layers) and row_gradients.size * num_rows < MIN_ENTRIES):
        return row_gradients.products(tangents)
    if row_gradients.network not in _is_verified:
        _is_verified[row_gradients.network] = _matches_exact(row_gradients, tangents.select(slice(0, 2)))
    if not _is_verified[row_gradients.network]:
        return row_gradients.products(tangents)
    chunk_size = max(1, CHUNK_SIZE // (row_gradients.size // 8 + 1))
    try:
        chunks = [
            _layer_products(row_gradients, tangents.select(slice(start, start + chunk_size)))
            for start in range(0, num_rows, chunk_size)
        ]
    except UnsupportedError:
        return row_gradients.products(tangents)
    return torch.cat(chunks, 1)


def _matches_exact(row_gradients: RowGradients, tangents: TangentBatch) -> bool:
    """Return True if the fast products agree with those of exact gradients.

    Both are computed for shifted weights, because zero weights would hide errors.
    """
    shifted_gradients = RowGradients(row_gradients.module.loss, shifted(row_gradients.network))
    try:
        products = _layer_products(shifted_gradients, tangents)
    except UnsupportedError:
        return False
    exact = shifted_gradients.products(tangents)
    is_finite = exact.isfinite().all(0)
    errors = (products - exact)[:, is_finite].abs().amax(1) if is_finite.any() else torch.ones(3)
    return bool((errors <= TOLERANCE * exact[:, is_finite].abs().sum(1)).all())


def _plain_linear_layers(module: nn.Module) -> dict[str, nn.Linear]:
    """Return the `nn.Linear` layers with trainable weights that are not shared with another module."""
    use_counts = Counter(id(weight) for _, weight in module.named_parameters(remove_duplicate=False))
    return {
        name: layer
        for name, layer in module.named_modules()
        if type(layer) is nn.Linear
        and all(parameter.requires_grad and use_counts[id(parameter)] == 1 for parameter in layer.parameters())
    }


def _other_weights(row_gradients: RowGradients, layers: dict[str, nn.Linear]) -> dict[str, Tensor]:
    layer_weights = {f"{name}.{key}" for name in layers for key in ("weight", "bias")}
    return {name: value for name, value in row_gradients.weights.items() if name not in layer_weights}


@contextmanager
def _shift_outputs(
    layers: dict[str, nn.Linear], shifts: list[Tensor], calls: list[tuple[str, Tensor]]
) -> Iterator[None]:
    """Context in which each call of a layer records its input in `calls` and adds a tensor of `shifts` to its output.

    The gradient with respect to a shift is the gradient of the layer's output.
    """

    def make_hook(name: str) -> Any:
        def add_shift(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not args or (shifts and len(calls) == len(shifts)):
                raise UnsupportedError(f"{name} is called with keyword arguments, or more often than when traced")
            calls.append((name, args[0]))
            return output + shifts[len(calls) - 1] if shifts else output

        return add_shift

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.enter_context(layer.register_forward_hook(make_hook(name)))
        yield


def _layer_products(row_gradients: RowGradients, tangents: TangentBatch) -> Float[Tensor, "3 b"]:
    layers = _plain_linear_layers(row_gradients.module)
    other_weights = _other_weights(row_gradients, layers)
    with (
        forbid_row_state(row_gradients.module.loss, row_gradients.network, tangents.example),
        sdpa_kernel(SDPBackend.MATH),
    ):
        layer_tangents = (
            _per_row_tangents(row_gradients, tangents, layers, other_weights)
            if other_weights
            else _batch_tangents(row_gradients, tangents, layers)
        )
    (gradients, _, _), (jvps, _, _) = layer_tangents.primal, layer_tangents.tangent
    total = torch.zeros(
        3, num_examples(tangents.example), dtype=torch.float64, device=layer_tangents.primal[1][0].device
    )
    if other_weights:
        total += torch.stack([batch_dot(gradients, gradients), batch_dot(gradients, jvps), batch_dot(jvps, jvps)])
    for name in set(layer_tangents.layer_names):
        call_index = [i for i, call_name in enumerate(layer_tangents.layer_names) if call_name == name]
        tensor_lists = (
            layer_tangents.primal[1],
            layer_tangents.tangent[1],
            layer_tangents.primal[2],
            layer_tangents.tangent[2],
        )
        s, ds, x, dx = (torch.cat([flatten_positions(tensors[i]) for i in call_index], 1) for tensors in tensor_lists)
        total += _products(s, ds, x, dx, 0.0 if layers[name].bias is None else 1.0)
    return total


def _per_row_tangents(
    row_gradients: RowGradients, tangents: TangentBatch, layers: dict[str, nn.Linear], other_weights: dict[str, Tensor]
) -> LayerTangents:
    """Return layer inputs, gradients and their tangents, computed for each row by `vmap`.

    This supports trainable weights outside the linear layers, `other_weights`.
    """
    names, zeros = _trace_calls(row_gradients.module, row_gradients.weights, (tangents.example_at(0),), layers)
    _check_places(names, zeros, layers)
    layer_weights = {name: value for name, value in row_gradients.weights.items() if name not in other_weights}

    def row_tangents(example: Any, floats: list[Tensor], float_tangents: list[Tensor]) -> Any:
        def layer_gradients(*floats: Tensor) -> Any:
            def loss(other_weights: dict[str, Tensor], shifts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
                calls: list[tuple[str, Tensor]] = []
                with _shift_outputs(layers, shifts, calls):
                    row_loss = functional_call(
                        row_gradients.module, {**layer_weights, **other_weights}, (replace_floats(example, floats),)
                    )
                return row_loss, [x for _, x in calls]

            (gradients, output_grads), inputs = grad(loss, (0, 1), has_aux=True)(other_weights, zeros)
            return list(gradients.values()), output_grads, inputs

        return jvp(layer_gradients, tuple(floats), tuple(float_tangents))

    return LayerTangents(names, *torch.vmap(row_tangents)(tangents.example, tangents.floats, tangents.tangents))


def _batch_tangents(row_gradients: RowGradients, tangents: TangentBatch, layers: dict[str, nn.Linear]) -> LayerTangents:
    """Return layer inputs, output gradients and their tangents of all rows, from one pass through the summed loss."""
    module, b = _BatchLoss(row_gradients.module.loss, row_gradients.network), num_examples(tangents.example)
    names, zeros = _trace_calls(module, row_gradients.weights, (tangents.example, b), layers)
    if any(zero.ndim < 2 or len(zero) != b for zero in zeros):
        raise UnsupportedError("the first axis of a layer's input is not the batch axis")
    _check_places(names, [zero[:1] for zero in zeros], layers)

    def layer_gradients(*floats: Tensor) -> Any:
        def loss(shifts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            calls: list[tuple[str, Tensor]] = []
            with _shift_outputs(layers, shifts, calls):
                batch_loss = functional_call(
                    module, row_gradients.weights, (replace_floats(tangents.example, floats), b)
                )
            return batch_loss, [x for _, x in calls]

        output_grads, inputs = grad(loss, has_aux=True)(zeros)
        return [], output_grads, inputs

    jvp_result: Any = jvp(layer_gradients, tuple(tangents.floats), tuple(tangents.tangents))
    return LayerTangents(names, *jvp_result)


def _trace_calls(
    module: nn.Module, values: dict[str, Tensor], args: tuple[Any, ...], layers: dict[str, nn.Linear]
) -> tuple[list[str], list[Tensor]]:
    """Call the module once; return, for each call of a linear layer, its name and a zero tensor of its output shape."""
    calls: list[tuple[str, Tensor]] = []
    with torch.no_grad(), _shift_outputs(layers, [], calls):
        functional_call(module, values, args)
    if not calls:
        raise UnsupportedError("no linear layer is called")
    return [name for name, _ in calls], [x.new_zeros(*x.shape[:-1], layers[name].out_features) for name, x in calls]


def _check_places(names: list[str], zeros: list[Tensor], layers: dict[str, nn.Linear]) -> None:
    num_positions: dict[str, int] = defaultdict(int)
    for name, zero in zip(names, zeros, strict=True):
        num_positions[name] += zero.numel() // layers[name].out_features
    if max(num_positions.values()) > MAX_POSITIONS:
        raise UnsupportedError(f"a layer has more than {MAX_POSITIONS} positions per row")


def _products(
    s: Float[Tensor, "b t o"],
    ds: Float[Tensor, "b t o"],
    x: Float[Tensor, "b t i"],
    dx: Float[Tensor, "b t i"],
    constant: float,
) -> Float[Tensor, "3 b"]:
    """Return |g|^2, g . dg and |dg|^2 for each row, with weight gradient g = sum_t s_t x_t^T of a linear layer.

    x is the layer's input and s its output gradient, dx and ds are their tangents, and dg = sum_t ds_t x_t^T + s_t
    dx_t^T. `constant` is 1 if the layer has a bias, else 0.
    """
    ss, sd, dd = s @ s.mT, s @ ds.mT, ds @ ds.mT
    xx, xd, dxdx = x @ x.mT + constant, x @ dx.mT, dx @ dx.mT
    g_g, g_dg = ss * xx, sd * xx + ss * xd
    dg_dg = dd * xx + 2 * sd.mT * xd + ss * dxdx
    return torch.stack([product.double().sum((1, 2)) for product in (g_g, g_dg, dg_dg)])

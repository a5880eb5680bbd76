"""Cost of a training step without running it: parameters, FLOPs and activation bytes, counted on the meta device."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from feller.core.pytree import num_examples, tree_map
from feller.networks.blocks.ema import EMA
from feller.networks.network_config import count_parameters
from feller.training.objective import Example, Objective
from feller.training.optimizer import TrainConfig, optimizer_state_bytes
from feller.training.parallelize import checkpointable_blocks

LOW_PRECISION_OPS = frozenset(
    (
        *("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        *("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm", "einsum"),
        "scaled_dot_product_attention",
    )
)
"""Names of the operations that autocast computes in bf16 on CUDA devices."""
FLOAT32_OPS = frozenset(
    (
        *("layer_norm", "group_norm", "rms_norm", "softmax", "log_softmax", "softplus", "norm", "cosine_similarity"),
        *("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "kl_div", "cdist"),
        *("exp", "expm1", "log", "log10", "log2", "log1p", "pow", "__pow__", "__rpow__", "rsqrt", "reciprocal"),
        *("sum", "prod", "cumsum", "cumprod"),
    )
)
"""Names of the operations that autocast computes in float32 on CUDA devices.

Source: PyTorch documentation, "Autocast Op Reference".
"""


@dataclass(frozen=True)
class SavedBytes:
    """Bytes that the forward pass keeps for the backward pass, parameters excluded."""

    plain: int
    """Without gradient checkpointing."""
    checkpointed: int
    """With gradient checkpointing of blocks: inputs of the blocks, all that is kept outside of blocks, and the
    activations of the largest block, which is recomputed."""


@dataclass(frozen=True)
class StepCost:
    """Cost of the forward and backward pass of one batch."""

    parameters: int
    """Number of trainable parameters."""
    examples: int
    """Number of examples in the batch."""
    forward_flops: int
    """Floating-point operations of the forward pass; a multiplication and an addition count as two."""
    flops: int
    """Floating-point operations of the forward and the backward pass."""
    saved: SavedBytes


def measure_step(objective: Objective, network: nn.Module, example: Example, *, bf16: bool = False) -> StepCost:
    """Return the cost of one training step, without its random draws and its optimizer step.

    The network and the example are on one device. On the meta device, nothing is computed: only shapes are propagated,
    so the size of the network does not matter.

    Args:
        objective: Training objective.
        network: Network to train.
        example: Training examples, as drawn by the objective.
        bf16: True to count as if under bf16 autocast of a CUDA device, where matrix products and convolutions are in
            bf16, and norms, softmax and losses in float32. Only for the meta device.

    Raises:
        RuntimeError: If the loss depends on values of tensors and not only on their shapes, on the meta device.
    """
    tally = _Tally(network)
    counter = FlopCounterMode(display=False, custom_mapping=dict(_ATTENTION_FLOPS))
    with _blocks_observed(network, tally), _OnMeta(bf16=bf16), counter:
        with saved_tensors_hooks(tally.pack, lambda saved: saved):
            loss = objective.loss(network, example).sum()
        forward_flops = counter.get_total_flops()
        saved = tally.saved_bytes()
        loss.backward()
    for weight in network.parameters():
        weight.grad = None
    examples = num_examples(example)
    return StepCost(count_parameters(network), examples, forward_flops, counter.get_total_flops(), saved)


@torch.no_grad()
def count_flops(call: Callable[[], Any]) -> int:
    """Return the FLOPs of a call without gradients; on meta tensors, nothing is computed."""
    with _OnMeta(bf16=False), FlopCounterMode(display=False, custom_mapping=dict(_ATTENTION_FLOPS)) as counter:
        call()
    return counter.get_total_flops()


def to_device(example: Any, device: torch.device | str) -> Any:
    """Return a tree of tensors, such as a training example, on another device, such as meta."""
    return tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, example)


def static_bytes(network: nn.Module, config: TrainConfig) -> dict[str, int]:
    """Return the bytes that do not depend on the batch: weights, gradients, state of the optimizer, and EMA."""
    weights = sum(weight.nbytes for weight in (*network.parameters(), *network.buffers()))
    gradients = sum(weight.nbytes for weight in network.parameters() if weight.requires_grad)
    ema = EMA(network, config.ema_decay)
    averages = sum(weight.nbytes for weight in (*ema.weights.values(), *ema.buffers.values()))
    moments = optimizer_state_bytes(network, config)
    return {"weights": weights, "gradients": gradients, "optimizer": moments, "ema": averages}


class _Tally:
    """Storages that autograd saves, outside of blocks and in each block; parameters and buffers do not count."""

    def __init__(self, network: nn.Module) -> None:
        self._excluded = {_key(weight) for weight in (*network.parameters(), *network.buffers())}
        self._kept: dict[int, torch.UntypedStorage] = {}  # references, so that no key is used twice
        self._all: set[int] = set()
        self._outside: set[int] = set()
        self._recomputed: list[set[int]] = []
        self._block: set[int] | None = None

    def pack(self, saved: Tensor) -> Tensor:
        """Record a tensor that autograd saves."""
        self._add(saved, self._outside if self._block is None else self._block)
        return saved

    def call(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the forward function of a block; its inputs are kept outside of it, as checkpointing does."""
        inputs = {_key(value): value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)}
        for value in inputs.values():
            self._add(value, self._outside, is_saved=False)
        self._block = set()
        try:
            return forward(*args, **kwargs)
        finally:
            self._recomputed.append(self._block - inputs.keys())
            self._block = None

    def saved_bytes(self) -> SavedBytes:
        """Return the recorded bytes."""
        largest = max(map(self._bytes, self._recomputed), default=0)
        return SavedBytes(self._bytes(self._all), self._bytes(self._outside) + largest)

    def _add(self, tensor: Tensor, group: set[int], *, is_saved: bool = True) -> None:
        key = _key(tensor)
        if key in self._excluded:
            return
        self._kept[key] = tensor.untyped_storage()
        group.add(key)
        if is_saved:
            self._all.add(key)

    def _bytes(self, keys: set[int]) -> int:
        return sum(self._kept[key].nbytes() for key in keys)


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextlib.contextmanager
def _blocks_observed(network: nn.Module, tally: _Tally) -> Iterator[None]:
    """Context in which the blocks of a network, as gradient checkpointing finds them, report to a tally."""
    blocks = [*checkpointable_blocks(network)]
    for block in blocks:
        block.forward = partial(tally.call, block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


class _OnMeta(TorchFunctionMode):
    """Mode in which meta tensors behave like those of a GPU: fused attention, and autocast if `bf16` is set."""

    def __init__(self, *, bf16: bool) -> None:
        super().__init__()
        self._bf16 = bf16
        self._casts: dict[int, tuple[Tensor, Tensor]] = {}  # autocast converts each weight once

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        dtype = torch.bfloat16 if name in LOW_PRECISION_OPS else torch.float32 if name in FLOAT32_OPS else None
        if self._bf16 and dtype is not None:
            args, kwargs = tree_cast((args, kwargs), partial(self._cast, dtype=dtype))
        fused = _fused_attention(*args, **kwargs) if func is F.scaled_dot_product_attention else None
        return func(*args, **kwargs) if fused is None else fused

    def _cast(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        if not tensor.is_floating_point() or tensor.dtype in (dtype, torch.float64):
            return tensor
        if not (tensor.is_leaf and tensor.requires_grad):
            return tensor.to(dtype)
        if id(tensor) not in self._casts:
            self._casts[id(tensor)] = tensor, tensor.to(dtype)
        return self._casts[id(tensor)][1]


def tree_cast(value: Any, cast: Callable[[Tensor], Tensor]) -> Any:
    """Return nested lists, tuples and dicts of arguments with a function applied to all their tensors."""
    if isinstance(value, Tensor):
        return cast(value)
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(tree_cast(entry, cast) for entry in value)
    return {name: tree_cast(entry, cast) for name, entry in value.items()} if isinstance(value, dict) else value


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    """Call the fused attention of the CPU on meta tensors: like that of GPUs, it keeps no matrix of all pairs.

    The result is None where fused attention does not apply.
    """
    has_shapes = query.ndim == key.ndim == value.ndim == 4 and query.shape[1] == key.shape[1]
    is_learned = attn_mask is not None and attn_mask.requires_grad
    if not query.is_meta or not has_shapes or is_learned or dropout_p or enable_gqa:
        return None
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return attend(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]


def _attention_flops(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward_flops(grad: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


_ATTENTION_FLOPS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}
"""FLOPs of the fused attention of the CPU, which torch does not count; the same as for GPUs."""

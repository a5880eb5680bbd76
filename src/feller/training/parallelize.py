"""Application of FSDP2, torch.compile, layout and checkpointing to a network, in place; state-dict keys are kept."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from feller.core.errors import UsageError
from feller.core.precision import autocast_dtype
from feller.networks.network_config import NetworkConfig
from feller.training.engine import Engine
from feller.training.loop import TrainState
from feller.training.objective import ObjectiveConfig
from feller.training.optimizer import TrainConfig, make_optimizer


def check_parallelize(
    config: TrainConfig, objective: ObjectiveConfig, architecture: NetworkConfig, engine: Engine
) -> None:
    """Raise an error if the fit does not support the requested FSDP, compilation or gradient checkpointing.

    It is called before files are written.

    Raises:
        UsageError: If the objective, network, optimizer or batch size does not support a requested option.
    """
    is_wrapped = config.compile or config.fsdp or config.gradient_checkpointing
    if objective.needs_plain_network and is_wrapped:
        raise UsageError(
            "this objective differentiates the network inside its loss, which excludes FSDP, compilation and"
            " gradient checkpointing",
            remedy="Remove --train.fsdp, --train.compile and --train.gradient-checkpointing",
        )
    engine.check_precision(config.precision)
    if config.compile:
        check_compiler(engine.device)
    updates_codebook = getattr(getattr(architecture, "quantizer", None), "updates_from_batch", False)
    if updates_codebook and (config.fsdp or config.gradient_checkpointing):
        raise UsageError(
            "a codebook updated by moving averages needs each batch whole and exactly once",
            remedy="Remove --train.fsdp and --train.gradient-checkpointing, or use --recipe image-tokenizer",
        )
    if not config.fsdp:
        return
    if config.channels_last:
        raise UsageError("FSDP shards rows of weights, which excludes a layout", remedy="Remove --train.channels-last")
    if config.optimizer == "adafactor":
        raise UsageError("adafactor keeps row and column means, which cannot be sharded", remedy="Use adamw")
    check_even_batches(config, engine)


def parallelize(train_state: TrainState, config: TrainConfig, engine: Engine) -> None:
    """Apply layout, gradient checkpointing, FSDP and compilation to a train state in place, after loading it.

    Raises:
        UsageError: If compilation does not work on this machine, or the network has no blocks or 2-d convolutions for a
            requested option.
    """
    if config.channels_last:
        use_channels_last(train_state)
    if config.gradient_checkpointing:
        checkpoint_blocks(train_state.network)
    if config.fsdp and engine.world_size > 1:
        apply_fsdp(train_state, config, engine)
    if config.compile:
        compile_network(train_state.network)


def use_channels_last(train_state: TrainState) -> None:
    """Store weights of 2-d convolutions in channels-last layout, and their averages and optimizer state likewise.

    Fused optimizers need the same layout of a weight, its gradient and its state.

    Raises:
        UsageError: If the network has no 2-d convolution.
    """
    network, optimizer = train_state.network, train_state.optimizer
    kernels = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
    if not kernels:
        raise UsageError(f"{type(network).__name__} has no 2-d convolutions", remedy="Remove --train.channels-last")
    for kernel in kernels:
        if kernel.shape[1] > 1 and kernel[0, 0].numel() > 1:  # otherwise both layouts are the same
            kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)
    weights = dict(network.named_parameters())
    averages = train_state.ema.weights
    train_state.ema.bind_tensors({name: _laid_out_as(average, weights[name]) for name, average in averages.items()})
    for weight, entries in optimizer.state.items():
        optimizer.state[weight] = {name: _laid_out_as(value, weight) for name, value in entries.items()}


def _laid_out_as(value: Any, weight: Tensor) -> Any:
    """Return a tensor in the memory layout of a weight of the same shape; other values are unchanged."""
    is_same = isinstance(value, Tensor) and value.shape == weight.shape
    return torch.empty_like(weight, dtype=value.dtype).copy_(value) if is_same else value


def checkpoint_blocks(network: nn.Module) -> None:
    """Apply gradient checkpointing to the blocks of a network, which are the items of its outermost module lists.

    Source: Chen et al. 2016, arXiv 1604.06174.

    Raises:
        UsageError: If the network has no module list.
    """
    blocks = [*checkpointable_blocks(network)]
    if not blocks:
        raise UsageError(
            f"{type(network).__name__} has no list of blocks to checkpoint",
            remedy="Remove --train.gradient-checkpointing",
        )
    for block in blocks:
        block.forward = partial(_checkpointed, block.forward)


def checkpointable_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of a network that gradient checkpointing recomputes: items of its outermost module lists."""
    for child in module.children():
        is_block = isinstance(module, nn.ModuleList) and not isinstance(child, nn.ModuleList)
        yield from (child,) if is_block else checkpointable_blocks(child)


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a block, with gradient checkpointing if gradients are enabled."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)


def check_even_batches(config: TrainConfig, engine: Engine) -> None:
    """Check that all ranks get the same number of micro-batches, since sharded ranks synchronise in every micro-batch.

    Raises:
        UsageError: If the batch size does not divide evenly, or is smaller than the number of ranks.
    """
    if config.batch_size % engine.world_size and config.micro_batch is not None:
        raise UsageError(
            f"FSDP with micro-batches needs a batch size divisible by the number of processes, {engine.world_size}",
            found=config.batch_size,
            remedy=f"Use --train.batch-size {max(1, config.batch_size // engine.world_size) * engine.world_size}",
        )
    if config.batch_size < engine.world_size:
        raise UsageError(
            f"FSDP needs at least one example per process, for {engine.world_size} processes",
            found=f"a batch size of {config.batch_size}",
            remedy="Raise --train.batch-size",
        )


def apply_fsdp(train_state: TrainState, config: TrainConfig, engine: Engine) -> None:
    """Shard weights, EMA and optimizer state over all ranks with FSDP2, block by block.

    Below float32, weights are gathered in the precision of autocast, while shards, gradient reduction, EMA and
    optimizer state stay in float32.

    Source: Zhao et al. 2023, "PyTorch FSDP", arXiv 2304.11277; `torch.distributed.fsdp.fully_shard`.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    from torch.distributed.tensor import distribute_tensor

    # The warning is about in-place changes of outputs, which feller does not make.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    network, previous = train_state.network, train_state.optimizer
    old_states = [dict(previous.state[weight]) for group in previous.param_groups for weight in group["params"]]
    ema_weights = dict(train_state.ema.weights)
    mesh = init_device_mesh(engine.device.type, (engine.world_size,))
    dtype = autocast_dtype(config.precision, engine.device)
    # Inputs are not cast: times and states stay in float32, and autocast converts them for each operation.
    policy = (
        MixedPrecisionPolicy()
        if dtype is None
        else MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    )
    for child in network.children():
        for block in child if isinstance(child, nn.ModuleList) else ():
            fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(network, mesh=mesh, mp_policy=policy)

    def shard_like(full: Tensor, like: Tensor) -> Tensor:
        return distribute_tensor(full, mesh, like.placements, src_data_rank=None)  # pyrefly: ignore

    optimizer = make_optimizer(network, config)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight, entries in zip(weights, old_states, strict=True):
        if entries:
            optimizer.state[weight] = {
                name: value if name == "step" else shard_like(value, weight) for name, value in entries.items()
            }
    shards = {name: shard_like(ema_weights[name], weight) for name, weight in network.named_parameters()}
    train_state.ema.bind_tensors(shards)
    train_state.optimizer, train_state.is_sharded = optimizer, True


def compile_network(network: nn.Module) -> None:
    """Compile the forward pass of a network in place, at its first call.

    Raises:
        UsageError: If compilation does not work on this machine.
    """
    check_compiler(next(network.parameters()).device)
    network.compile()


def check_compiler(device: torch.device) -> None:
    """Compile a trivial function, to report a missing compiler before training starts.

    Raises:
        UsageError: If compilation fails.
    """
    try:
        torch.compile(torch.sin)(torch.zeros(8, device=device))
    except Exception as error:  # compiler backends may raise anything
        lines = str(error).strip().splitlines()
        raise UsageError(
            "torch.compile does not work on this machine; it needs a C++ compiler (g++) and the Python headers:"
            f" {lines[0] if lines else type(error).__name__}",
            remedy="Install both, or disable compilation",
        ) from error

"""Sharding, compilation and gradient checkpointing of a network; its names stay those of the plain one."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from feller.core.errors import UsageError
from feller.networks.network_config import NetworkConfig
from feller.training.engine import Engine
from feller.training.loop import TrainState
from feller.training.objective import ObjectiveConfig
from feller.training.optimizer import TrainConfig, make_optimizer


def check_parallelize(
    config: TrainConfig, objective: ObjectiveConfig, architecture: NetworkConfig, engine: Engine
) -> None:
    """Refuse what cannot be sharded or compiled, before anything is written."""
    changed = config.compile or config.fsdp or config.gradient_checkpointing
    if objective.needs_plain_network and changed:
        raise UsageError(
            "maximum likelihood differentiates the network inside a simulation, where it can neither be sharded nor"
            " compiled nor checkpointed",
            remedy="Leave --train.fsdp, --train.compile and --train.gradient-checkpointing out",
        )
    engine.check_precision(config.precision)
    if config.compile:
        check_compiler(engine.device)
    follows = getattr(getattr(architecture, "quantizer", None), "updates_from_batch", False)
    if follows and (config.fsdp or config.gradient_checkpointing):
        raise UsageError(
            "a codebook that follows the batches must see each of them once and whole",
            remedy="Leave --train.fsdp and --train.gradient-checkpointing out, or take --recipe image-tokenizer",
        )
    if not config.fsdp:
        return
    if config.optimizer == "adafactor":
        raise UsageError("adafactor keeps means of whole rows and columns, which are not sharded", remedy="Take adamw")
    check_even_batches(config, engine)


def parallelize(train_state: TrainState, config: TrainConfig, engine: Engine) -> None:
    """Checkpoint, shard and compile what is trained where that is asked for, in place; after its state was loaded.

    Raises:
        UsageError: If nothing can be compiled here.
    """
    if config.gradient_checkpointing:
        checkpoint_blocks(train_state.network)
    if config.fsdp and engine.world_size > 1:
        apply_fsdp(train_state, config, engine)
    if config.compile:
        compile_network(train_state.network)


def checkpoint_blocks(network: nn.Module) -> None:
    """Let the blocks of a network keep no activations: they are computed again on the way back.

    Blocks are the members of its lists of modules, the outermost ones. Source: Chen et al. 2016, arXiv 1604.06174.

    Raises:
        UsageError: If the network has none.
    """
    blocks = [*_blocks(network)]
    if not blocks:
        raise UsageError(f"{type(network).__name__} has no list of blocks to checkpoint", remedy="Leave it out")
    for block in blocks:
        block.forward = partial(_checkpointed, block.forward)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        inner = isinstance(module, nn.ModuleList) and not isinstance(child, nn.ModuleList)
        yield from (child,) if inner else _blocks(child)


def _checkpointed(forward: Callable[..., Any], *inputs: Any, **others: Any) -> Any:
    """Call a block; its activations are kept where no gradient is asked for, for then there are none."""
    if not torch.is_grad_enabled():
        return forward(*inputs, **others)
    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **others)


def check_even_batches(config: TrainConfig, engine: Engine) -> None:
    """Refuse micro-batches that are not as many in every process: sharded ones wait for each other in each of them."""
    if config.batch_size % engine.world_size and config.micro_batch is not None:
        raise UsageError(
            f"a sharded training with micro-batches needs a batch that {engine.world_size} processes can share evenly",
            found=config.batch_size,
            remedy=f"Take --train.batch-size {max(1, config.batch_size // engine.world_size) * engine.world_size}",
        )
    if config.batch_size < engine.world_size:
        raise UsageError(
            f"a sharded training needs an example for each of {engine.world_size} processes",
            found=f"batches of {config.batch_size}",
            remedy="Raise --train.batch-size",
        )


def apply_fsdp(train_state: TrainState, config: TrainConfig, engine: Engine) -> None:
    """Let each process keep a part of each weight, of its average and of the optimiser's memory: FSDP2.

    The blocks of a network are put together one after the other, the rest of it as a whole. Source: Zhao et al. 2023,
    "PyTorch FSDP", arXiv 2304.11277, in its second form, `torch.distributed.fsdp.fully_shard`.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import distribute_tensor

    # Nothing of ours changes what a network returned in place, which is what torch warns of.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    network, before = train_state.network, train_state.optimizer
    memory = [dict(before.state[weight]) for group in before.param_groups for weight in group["params"]]
    averaged = dict(train_state.ema.weights)
    mesh = init_device_mesh(engine.device.type, (engine.world_size,))
    for part in network.children():
        for block in part if isinstance(part, nn.ModuleList) else ():
            fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)

    def shard_like(full: Tensor, like: Tensor) -> Tensor:
        return distribute_tensor(full, mesh, like.placements, src_data_rank=None)  # pyrefly: ignore

    optimizer = make_optimizer(network, config)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight, entries in zip(weights, memory, strict=True):
        if entries:
            optimizer.state[weight] = {
                name: value if name == "step" else shard_like(value, weight) for name, value in entries.items()
            }
    shares = {name: shard_like(averaged[name], weight) for name, weight in network.named_parameters()}
    train_state.ema.bind_tensors(shares)
    train_state.optimizer, train_state.is_sharded = optimizer, True


def compile_network(network: nn.Module) -> None:
    """Compile the calls of a network in place, each when it first happens; it stays the same module.

    Raises:
        UsageError: If nothing can be compiled here.
    """
    check_compiler(next(network.parameters()).device)
    network.compile()


def check_compiler(device: torch.device) -> None:
    """Compile next to nothing, so that what is missing is told before hours of work.

    Raises:
        UsageError: If that fails.
    """
    try:
        torch.compile(torch.sin)(torch.zeros(8, device=device))
    except Exception as error:  # whatever the compiler's parts may raise
        why = str(error).strip().splitlines()
        raise UsageError(
            "networks cannot be compiled here, which takes a C++ compiler (g++) with the headers of Python:"
            f" {why[0] if why else type(error).__name__}",
            remedy="Install them, or leave the compilation out",
        ) from error

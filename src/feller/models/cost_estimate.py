"""Estimate of the memory and time of training with a recipe, from the shapes of its network alone."""

import time
from dataclasses import dataclass, replace
from typing import Any

import torch

from feller.core.errors import UsageError
from feller.core.pytree import tree_map
from feller.core.rng import Rng
from feller.data.batches import batch_loader
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.models.recipes.recipe import Recipe
from feller.models.spec import ModelSpec
from feller.networks.unwrapping import null_values
from feller.training.objective import TrainingContext
from feller.training.step_cost import StepCost, count_flops, measure_step, static_bytes, to_device

GIB = 2**30
UTILISATION = 0.3
"""Assumed fraction of the peak speed of a device. A U-Net of 36 million weights reached about 0.2 on a TPU v3-8 (Ho et
al. 2020, arXiv 2006.11239, appendix B: 10.6 hours), large transformers reach 0.3 to 0.5, and small networks less."""
FEW = 2
"""Number of examples of the smaller of the two measured batches."""


@dataclass(frozen=True)
class Device:
    """Device with its peak speed and memory."""

    name: str
    flops: float
    """Peak FLOP/s of matrix products in bf16 without sparsity; fp16 for the T4, which has no bf16."""
    gib: float | None = None
    """Memory in GiB; None if unknown."""


DEVICES = (
    Device("T4", 65e12, 15.0),
    Device("L4", 121e12, 22.0),
    Device("A100", 312e12, 80.0),
    Device("H100", 989e12, 80.0),
)
"""Devices of the estimates. Source: data sheets of NVIDIA; dense speed, and memory that a program can use."""


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Bytes that the forward pass keeps for the backward pass: `fixed` per batch, and `per_example`."""

    fixed: float
    per_example: float

    def total(self, batch_size: int) -> float:
        """Return the bytes of a batch."""
        return self.fixed + self.per_example * batch_size

    def max_examples(self, available: float) -> int:
        """Return the number of examples whose activations fit in a number of bytes."""
        return max(0, int((available - self.fixed) / self.per_example)) if self.per_example else 0


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """Memory and time of training with a recipe, estimated from shapes."""

    parameters: int
    """Number of trainable parameters."""
    batch_size: int
    """Examples per step."""
    micro_batch: int
    """Examples per forward pass."""
    examples: int | None
    """Number of training examples; None if unknown."""
    flops_per_example: float
    """FLOPs of the forward and backward pass of a training example."""
    checkpointed_flops_per_example: float
    """The same with gradient checkpointing, which computes the forward pass twice."""
    static: dict[str, int]
    """Bytes of weights, gradients, optimizer state and EMA."""
    gradient_checkpointing: bool
    """True if the recipe uses gradient checkpointing."""
    activations: dict[str, Activations]
    """Activations by precision (fp32 or bf16), and with gradient checkpointing (fp32_checkpointed and so on)."""

    @property
    def static_bytes(self) -> int:
        """Sum of the bytes of weights, gradients, optimizer state and EMA."""
        return sum(self.static.values())

    @property
    def recipe_flops(self) -> float:
        """FLOPs of a training example with the gradient checkpointing of the recipe."""
        return self.checkpointed_flops_per_example if self.gradient_checkpointing else self.flops_per_example

    def step_seconds(self, flops: float, utilisation: float = UTILISATION) -> float:
        """Return the duration of a step on a device with a peak speed of `flops` FLOP/s."""
        return self.recipe_flops * self.batch_size / (flops * utilisation)

    def hours(self, examples: float, flops: float, utilisation: float = UTILISATION) -> float:
        """Return the hours of training on a number of examples, repetitions included, on a device."""
        return self.recipe_flops * examples / (flops * utilisation) / 3600

    def max_micro_batch(self, device: Device, kind: str) -> int | None:
        """Return the largest micro-batch that fits on a device; `kind` is a key of `activations`."""
        if device.gib is None:
            return None
        return min(self.batch_size, self.activations[kind].max_examples(device.gib * GIB - self.static_bytes))

    def as_dict(self, devices: tuple[Device, ...] = DEVICES) -> dict[str, Any]:
        """Return the estimate as JSON data, with sizes in GiB."""
        epoch = float(1_000_000 if self.examples is None else self.examples)
        return {
            "parameters": self.parameters,
            "batch_size": self.batch_size,
            "micro_batch": self.micro_batch,
            "gradient_checkpointing": self.gradient_checkpointing,
            "examples": self.examples,
            "flops_per_example": self.flops_per_example,
            "checkpointed_flops_per_example": self.checkpointed_flops_per_example,
            **{f"{name}_gib": size / GIB for name, size in self.static.items()},
            "static_gib": self.static_bytes / GIB,
            "activations_gib": {name: size.total(self.micro_batch) / GIB for name, size in self.activations.items()},
            "utilisation": UTILISATION,
            "devices": {
                device.name: {
                    "flops": device.flops,
                    "memory_gib": device.gib,
                    "step_seconds": self.step_seconds(device.flops),
                    "hours_per_million" if self.examples is None else "hours_per_epoch": self.hours(
                        epoch, device.flops
                    ),
                    "max_micro_batch": {name: self.max_micro_batch(device, name) for name in self.activations},
                }
                for device in devices
            },
        }


def estimate_cost(recipe: Recipe, data: Dataset) -> CostEstimate:
    """Return the memory and time of training with a recipe on data like these, without training.

    The network is built on the meta device, where tensors have shapes but no values. Temporary buffers, the context of
    the device (about 0.5 GiB on CUDA) and fragmentation come on top of the memory.

    Args:
        recipe: Recipe of the fit.
        data: Data of the right shape; a few examples suffice.

    Raises:
        UsageError: If the recipe has no training steps, or its loss depends on the values of the data.
    """
    config = recipe.train
    if recipe.objective.is_one_shot:
        raise UsageError("a recipe that is trained in steps", "a recipe that is fitted in closed form")
    spec = recipe.model_spec(data)
    network = spec.build_on_meta()
    objective = recipe.objective.build(TrainingContext(data=data, null=null_values(network)))
    few = data.subset(torch.arange(2 * FEW) % len(data))
    batch = batch_loader(few, len(few), Rng(0))(0, slice(None))
    example = to_device(objective.draw(batch, Rng(0), network), "meta")

    def measure(n: int, *, bf16: bool) -> StepCost:
        return measure_step(objective, network, tree_map(lambda leaf: leaf[:n].clone(), example), bf16=bf16)

    try:
        costs = {bf16: (measure(FEW, bf16=bf16), measure(2 * FEW, bf16=bf16)) for bf16 in (False, True)}
    except (RuntimeError, NotImplementedError) as error:
        raise UsageError(
            "a loss that depends on shapes only",
            f"one that depends on values ({str(error).splitlines()[0][:80]})",
            "Measure it with a short fit",
        ) from error
    high = costs[False][1]
    activations = {}
    for name, (fewer, more) in (("fp32", costs[False]), ("bf16", costs[True])):
        activations[name] = _activations(fewer.saved.plain, more.saved.plain)
        activations[f"{name}_checkpointed"] = _activations(fewer.saved.checkpointed, more.saved.checkpointed)
    return CostEstimate(
        parameters=high.parameters,
        batch_size=config.batch_size,
        micro_batch=min(config.micro_batch or config.batch_size, config.batch_size),
        gradient_checkpointing=config.gradient_checkpointing,
        examples=data.total,
        flops_per_example=high.flops / len(few),
        checkpointed_flops_per_example=(high.flops + high.forward_flops) / len(few),
        static=static_bytes(network, config),
        activations=activations,
    )


def network_flops(spec: ModelSpec) -> int:
    """Return the FLOPs of one call of a model's network for one example without conditions.

    A training step takes three times as many per example, or four times with gradient checkpointing.
    """
    network = spec.build_on_meta()
    x, t = (to_device(leaf, "meta") for leaf in (spec.space.sample_base(1, Rng(0).stream("shape")), torch.zeros(1)))
    cond = {name: spec.null_condition(name, 1).to("meta") for name in spec.condition_names}
    return count_flops(lambda: network(x, t, cond))


def _activations(fewer: int, more: int) -> Activations:
    """Return the activations of a batch from those of FEW and of twice as many examples."""
    slope = (more - fewer) / FEW
    return Activations(fixed=fewer - slope * FEW, per_example=slope)


def images_of_shape(channels: int, height: int, width: int) -> Dataset:
    """Return black images of a shape, for an estimate without data."""
    return Dataset(torch.zeros(2, channels, height, width, dtype=torch.uint8), {}, Images(height, width, channels))


def measured_device() -> Device:
    """Return the device of this process with its speed of matrix products: of the table if it is there, or measured.

    A product of two matrices of 1,024 rows in float32 is measured on the CPU, and of 4,096 rows in bf16 on a GPU.
    """
    has_gpu = torch.cuda.is_available()
    name = torch.cuda.get_device_name(0) if has_gpu else "this CPU"
    gib = torch.cuda.get_device_properties(0).total_memory / GIB if has_gpu else None
    known = next((device for device in DEVICES if device.name in name.split() or f"-{device.name}" in name), None)
    if known is not None:
        return replace(known, name=name, gib=gib)
    n, dtype = (4096, torch.bfloat16) if has_gpu else (1024, torch.float32)
    a = torch.ones(n, n, device="cuda" if has_gpu else "cpu", dtype=dtype)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        (a @ a)[0, 0].item()
        seconds.append(time.perf_counter() - start)
    return Device(name, 2 * n**3 / min(seconds), gib)

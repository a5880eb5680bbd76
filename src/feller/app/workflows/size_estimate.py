"""Memory and time of a model size on common devices, estimated without training: `feller doctor --size`."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from feller.app.modalities.registration import find_recipe
from feller.core.errors import UsageError
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.evaluation.number_format import format_brief, format_duration
from feller.models.cost_estimate import DEVICES, estimate_cost, images_of_shape, measured_device
from feller.models.recipes.registry import RAW_DATA_TYPES

DEFAULT_SHAPE = "3x64x64"
"""Shape of the images of an estimate without data."""
MAX_SIDE = 4096
"""Largest side of the images of an estimate, in pixels."""


def estimate_size(size: str, data: str | None, shape: str | None, recipe: str | None) -> dict[str, Any]:
    """Return the memory and time of training a model of a size as JSON data.

    Args:
        size: Size of the model.
        data: File, folder or example with the data; None for images of `shape`.
        shape: Channels, height and width of images, such as 3x256x256; None for the default, or the shape of `data`.
        recipe: Name of the recipe; None for the default of the data.

    Raises:
        UsageError: If an argument is wrong, or the training of the recipe cannot be estimated.
        InputError: If the data cannot be read.
    """
    if data is not None and shape is not None:
        raise UsageError("either data or a shape", "both", "Leave one out", argument="shape")
    kind = RAW_DATA_TYPES.get(recipe or "")
    dataset = _images(shape or DEFAULT_SHAPE) if data is None else read(data, kind=kind)
    name, chosen = find_recipe(recipe or "auto", dataset, size)
    estimate = estimate_cost(chosen, dataset)
    described = data or f"images of {shape or DEFAULT_SHAPE} (channels x height x width)"
    estimate = estimate if data is not None else replace(estimate, examples=None)
    return {"size": size, "recipe": name, "data": described, **estimate.as_dict((*DEVICES, measured_device()))}


def _images(shape: str) -> Dataset:
    match = re.fullmatch(r"([13])[x,]([1-9]\d{0,3})[x,]([1-9]\d{0,3})", shape)
    channels, height, width = map(int, match.groups()) if match else (0, 0, 0)
    if match is None or max(height, width) > MAX_SIDE:
        expected = f"1 or 3 channels, height and width of images, at most {MAX_SIDE}, such as 3x256x256"
        raise UsageError(expected, shape, "For other data, give a file", argument="shape")
    return images_of_shape(channels, height, width)


def estimate_lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield lines of text that show the result of `estimate_size`."""
    batch = found["batch_size"]
    yield (
        f"model        size {found['size']} of the recipe {found['recipe']} for {found['data']}:"
        f" {found['parameters']:,} parameters"
    )
    parts = ", ".join(f"{name} {format_brief(found[f'{name}_gib'])}" for name in STATIC)
    yield f"memory       {format_brief(found['static_gib'])} GiB: {parts}"
    sizes = (f"{name.replace('_', ' ')} {format_brief(gib)}" for name, gib in found["activations_gib"].items())
    yield f"activations  GiB for {found['micro_batch']:,} examples at once (--train.micro-batch): {', '.join(sizes)}"
    plain, checkpointed = found["flops_per_example"], found["checkpointed_flops_per_example"]
    yield (f"training     {_scaled(plain)}FLOP per example, {_scaled(checkpointed)}FLOP with gradient checkpointing")
    uses = "with" if found["gradient_checkpointing"] else "without"
    yield f"batches of {batch:,} {uses} gradient checkpointing, at {found['utilisation']:.0%} of a device's peak speed:"
    per = "an epoch" if found["examples"] is not None else "a million examples"
    for name, device in found["devices"].items():
        hours = device.get("hours_per_epoch", device.get("hours_per_million"))
        yield (
            f"{name:<12} {_scaled(device['flops'])}FLOP/s: {format_duration(device['step_seconds'])} per step,"
            f" {_hours(hours)} for {per}{_fit_text(device, batch)}"
        )
    yield "temporary buffers and the memory that the device itself needs come on top; small networks reach less speed"


STATIC = ("weights", "gradients", "optimizer", "ema")
"""Parts of the memory that do not depend on the batch size."""


def _fit_text(device: dict[str, Any], batch: int) -> str:
    """Return what fits into the memory of a device in bf16; empty if its memory is unknown."""
    plain, checkpointed = (device["max_micro_batch"][name] for name in ("bf16", "bf16_checkpointed"))
    if plain is None:
        return ""
    gib = f"{device['memory_gib']:.0f} GiB"
    if plain >= batch:
        return f"; fits into {gib} in bf16"
    if not checkpointed:
        return f"; does not fit into {gib}"
    options = [f"--train.micro-batch {plain}"] if plain else []
    micro = f" --train.micro-batch {checkpointed}" if checkpointed < batch else ""
    return f"; fits into {gib} in bf16 with {' or '.join([*options, f'--train.gradient-checkpointing{micro}'])}"


def _hours(hours: float) -> str:
    return format_duration(3600 * hours) if hours < 100 else f"{hours:,.0f} h"


def _scaled(value: float) -> str:
    """Return a number with an SI prefix, before a unit."""
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value / 1e3:.3g} k"

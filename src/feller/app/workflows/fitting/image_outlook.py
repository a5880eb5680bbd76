"""Training that good images need, by published models of their size, and epochs in a training budget."""

import functools
import math
from dataclasses import dataclass

from feller.app.modalities.registration import default_recipe, find_recipe
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Modality
from feller.evaluation.number_format import format_brief
from feller.models.cost_estimate import DEVICES, UTILISATION, images_of_shape, measured_device, network_flops
from feller.models.recipes.recipe import SIZES, Recipe
from feller.models.spec import ModelSpec
from feller.networks.network_config import count_parameters
from feller.training.optimizer import TrainConfig

TRAINING_FACTOR = 3
"""FLOPs of a training example relative to those of a network call: the backward pass takes twice as many."""


@dataclass(frozen=True)
class PublishedTraining:
    """Training of a published model with a good FID on photographs."""

    side: int
    """Side of its images in pixels."""
    examples: float
    """Examples seen in training, repetitions included."""
    parameters: float
    source: str


PUBLISHED = (
    PublishedTraining(32, 800e3 * 128, 36e6, "DDPM on CIFAR-10, FID 3.2, arXiv 2006.11239"),
    PublishedTraining(64, 200e6, 62e6, "EDM on FFHQ, FID 2.4, arXiv 2206.00364"),
    PublishedTraining(256, 2.4e6 * 64, 114e6, "DDPM on LSUN bedrooms, FID 6.4, arXiv 2006.11239"),
    PublishedTraining(512, 3e6 * 256, 675e6, "DiT on latents of ImageNet, FID 3.0, arXiv 2212.09748"),
)
"""Published training by the side of the images. Rule of thumb: images of a size need about as many examples, seen by a
network of about as many parameters, as the published model of the next larger side."""
MIN_SIDE = 16
"""Shorter side in pixels of images from which the rule of thumb is shown; smaller ones are no photographs."""


def published_training(height: int, width: int) -> PublishedTraining:
    """Return the published training with the next larger side, or with the largest."""
    return next((row for row in PUBLISHED if row.side >= max(height, width)), PUBLISHED[-1])


def required_training(modality: Modality, total: int) -> str:
    """Return what good images of the size of a modality need: examples, epochs, size, and hours on devices.

    `total` is the number of training examples. The text is empty for other data than images, and for tiny images.
    """
    images = modality.view(Images)
    if images is None or min(images.height, images.width) < MIN_SIDE or not total:
        return ""
    row = published_training(images.height, images.width)
    published, epochs = f"{row.examples / 1e6:,.0f} million examples seen ({row.source})", row.examples / total
    if images.channels == 1:
        return f"colour photographs of this size need about {published}, here {_epochs(epochs)}; gray images need fewer"
    size, parameters, flops, batch_size = recommended_size(images.height, images.width)
    hours = row.examples * TRAINING_FACTOR * flops / 3600 / UTILISATION
    listed = ", ".join(f"{_hours(hours / device.flops)} on one {device.name}" for device in reversed(DEVICES))
    return (
        f"good photographs of this size need about {published}: here {_epochs(epochs)},"
        f" or {row.examples / batch_size:,.0f} steps of --size {size} ({parameters / 1e6:.3g} million parameters),"
        f" about {listed}"
    )


@functools.cache
def recommended_size(height: int, width: int) -> tuple[str, int, int, int]:
    """Return the size of models of photographs whose number of parameters is nearest to the published one.

    Returns:
        The size, the number of parameters, the FLOPs of a network call per example, and the batch size.
    """
    data, target = images_of_shape(3, height, width), published_training(height, width).parameters
    found: list[tuple[float, str, int, Recipe]] = []
    for size in SIZES:
        recipe = find_recipe(default_recipe(data, size), data, size)[1]
        count = count_parameters(recipe.model_spec(data).build_on_meta())
        found.append((abs(math.log(count / target)), size, count, recipe))
        if count > target:
            break
    _, size, count, recipe = min(found, key=lambda entry: entry[0])
    return size, count, network_flops(recipe.model_spec(data)), recipe.train.batch_size


def epochs_in_budget(spec: ModelSpec, config: TrainConfig, data: Dataset, step: int = 0, seconds: float = 0.0) -> str:
    """Return how many epochs a budget amounts to; for a budget of minutes, as estimated from the speed of this device.

    `step` and `seconds` are those already trained. The text is empty for other data than images.
    """
    if spec.modality.view(Images) is None or not data.total:
        return ""
    per_step = config.batch_size / data.total
    done = f", {format_brief(step * per_step)} of them already seen" if step else ""
    if config.steps is not None:
        return f"this budget: {config.steps:,} steps are {_epochs(config.steps * per_step)}{done}"
    if config.minutes is None:
        return ""
    if step and seconds:
        steps, pace = 60 * config.minutes * step / seconds, "at the pace so far"
    else:
        device = measured_device()
        factor = TRAINING_FACTOR + config.gradient_checkpointing
        step_flops = factor * network_flops(spec) * config.batch_size
        steps = 60 * config.minutes * device.flops * UTILISATION / step_flops
        pace = f"estimated, at {UTILISATION:.0%} of the peak speed of {device.name}"
    return f"this budget: {format_brief(config.minutes)} minutes are about {_epochs(steps * per_step)} ({pace}){done}"


def epochs_trained(modality: Modality, total: int, steps: int, batch_size: int) -> str:
    """Return how many epochs a model of images was trained for; empty for other data, and without training."""
    if modality.view(Images) is None or not total or not steps:
        return ""
    return f"trained on {steps * batch_size:,} examples in {steps:,} steps: {_epochs(steps * batch_size / total)}"


def _epochs(number: float) -> str:
    return f"{format_brief(number)} epoch{'' if number == 1 else 's'}"


def _hours(hours: float) -> str:
    return f"{hours:,.0f} h" if hours >= 1 else f"{60 * hours:.0f} min"

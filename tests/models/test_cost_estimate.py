"""Estimates of memory and time of training with a recipe."""

import pytest
import torch

from feller.app.modalities.registration import find_recipe
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.batches import batch_loader
from feller.data.loading.dataset_reader import read
from feller.models.cost_estimate import Device, estimate_cost, images_of_shape
from feller.networks.unwrapping import null_values
from feller.training.objective import TrainingContext
from feller.training.step_cost import measure_step
from tests.errors import refuses


def test_estimate_equals_a_step_on_the_cpu():
    """Saved bytes and FLOPs of a batch of 8, extrapolated from 2 and 4 examples on meta, equal those of the CPU."""
    digits = read("example:digits")
    _, recipe = find_recipe("images", digits, "tiny")
    estimate = estimate_cost(recipe, digits)
    network = recipe.model_spec(digits).build(Rng(0))
    objective = recipe.objective.build(TrainingContext(null=null_values(network)))
    example = objective.draw(batch_loader(digits.subset(torch.arange(8)), 8, Rng(0))(0, slice(None)), Rng(0), network)
    measured = measure_step(objective, network, example)
    assert estimate.parameters == measured.parameters
    assert estimate.flops_per_example * 8 == measured.flops
    assert estimate.activations["fp32"].total(8) == measured.saved.plain
    assert estimate.activations["fp32_checkpointed"].total(8) == measured.saved.checkpointed
    assert estimate.static_bytes == 5 * 4 * measured.parameters
    assert estimate.examples == len(digits)


def test_time_and_micro_batch():
    data = images_of_shape(3, 32, 32)
    estimate = estimate_cost(find_recipe("images", data, "tiny")[1], data)
    flops = estimate.flops_per_example
    assert estimate.step_seconds(flops, 0.5) == 2 * estimate.batch_size
    assert estimate.hours(1800.0, flops, 0.5) == 1
    activations = estimate.activations["fp32"]
    room = estimate.static_bytes + activations.total(5) + 1
    assert estimate.max_micro_batch(Device("", 1.0, room / 2**30), "fp32") == 5
    assert estimate.max_micro_batch(Device("", 1.0, estimate.static_bytes / 2**30), "fp32") == 0
    assert estimate.max_micro_batch(Device("", 1.0), "fp32") is None


@pytest.mark.parametrize("name", ["adult", "perovskites"])
def test_other_data(name):
    data = read(f"example:{name}")
    estimate = estimate_cost(find_recipe("auto", data, "tiny")[1], data)
    assert estimate.parameters == sum(
        weight.numel() for weight in find_recipe("auto", data, "tiny")[1].model_spec(data).build(Rng(0)).parameters()
    )
    assert 3 * estimate.parameters < estimate.flops_per_example
    assert all(size.per_example > 0 for size in estimate.activations.values())


def test_closed_form_recipes_are_refused(tmp_path):
    data = read("example:adult")
    with refuses(UsageError):
        estimate_cost(find_recipe("table-marginals", data, "tiny")[1], data)

"""Drawing of training examples with augmentation, and with the random numbers of dropout."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from feller.core.errors import UsageError
from feller.core.pytree import leaves, num_examples
from feller.core.rng import Rng
from feller.networks.training_inputs import AUGMENTATION, DROPOUT, count_inputs
from feller.training.augmentation import NUM_FEATURES, Augmentation
from feller.training.objective import Batch, Example, Objective


@dataclass(frozen=True)
class ExampleSource:
    """Objective whose training examples are augmented, and carry the inputs that the network takes in training only."""

    objective: Objective
    augmentation: Augmentation
    num_features: int
    """Number of features of an augmentation that the network takes."""
    num_dropped: int
    """Number of features that dropout can drop."""

    def at(self, progress: float) -> "ExampleSource":
        """Return the source of a step, by the spent fraction of the training budget."""
        objective = self.objective.at(progress)
        return self if objective is self.objective else replace(self, objective=objective)

    def draw(self, batch: Batch, rng: Rng, network: nn.Module) -> Example:
        """Sample training examples from a batch; augmentation and dropout depend on seed, step and example only."""
        features = None
        if self.augmentation.is_on:
            batch, features = self.augmentation(batch, rng)
        example = self.objective.draw(batch, rng, network)
        if not self.num_features and not self.num_dropped:
            return example
        n, device, inputs = num_examples(example), next(leaves(example)).device, {}
        if self.num_features:
            inputs[AUGMENTATION] = torch.zeros(n, self.num_features, device=device) if features is None else features
        if self.num_dropped:
            inputs[DROPOUT] = rng.stream("dropout").uniform((n, self.num_dropped), device=device)
        return {**example, "given": {**example["given"], **inputs}}


def example_source(objective: Objective, augmentation: Augmentation, network: nn.Module) -> ExampleSource:
    """Return the source of training examples; only flow matching has augmentation and dropout.

    Raises:
        UsageError: If images are augmented, but the objective or the network is not told.
    """
    is_supported = objective.flow_matching is not None
    num_features = count_inputs(network, AUGMENTATION) if is_supported else 0
    if augmentation.is_on and num_features != NUM_FEATURES:
        raise UsageError(
            argument="augmentation",
            expected="flow matching with a network that is told the augmentation, so that samples do not show it",
            found=f"{type(objective).__name__} with {type(network).__name__}",
            remedy=f"Use --recipe photographs or images-dit, or --architecture.augmentation-features {NUM_FEATURES}",
        )
    return ExampleSource(objective, augmentation, num_features, count_inputs(network, DROPOUT) if is_supported else 0)

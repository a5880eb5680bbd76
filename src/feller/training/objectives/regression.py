"""Supervised training of regressors and classifiers."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import check_number
from feller.core.pytree import State, leaves, num_examples, tree_map
from feller.core.rng import RandomStream, Rng
from feller.data.modality import Target
from feller.spaces import Space
from feller.training.objective import Batch, Example, SelfContainedObjective


@dataclass(frozen=True)
class Regression(SelfContainedObjective):
    """Mean squared error of a standardised numeric target, or cross-entropy of a class target."""

    cond_dropout = 0.0
    family: ClassVar[str] = "regressor"
    target: Target
    """Target that the model predicts: real-valued properties or a class label."""
    space: Space
    """Space of the states."""
    noise_std: float = 0.0
    """Standard deviation of noise added to real-valued inputs, so that predictions are also accurate near the data, for
    example on samples of a generative model."""

    def __post_init__(self) -> None:
        check_number("noise_std", self.noise_std, ge=0)

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        x, target_spec = batch["x_1"], self.target
        float_leaf = next((leaf for leaf in leaves(x) if leaf.is_floating_point()), torch.empty(0))
        target_values = batch["target"]
        if target_spec.classes:
            target = target_values[:, 0].long()
        else:
            target = (
                (target_values - target_values.new_tensor(target_spec.means))
                / target_values.new_tensor(target_spec.scales)
            ).to(float_leaf.dtype)
        time = torch.zeros(num_examples(x), dtype=float_leaf.dtype, device=target.device)
        x_t = _add_noise(x, self.noise_std, rng.stream("noise")) if self.noise_std else x
        return {"x_t": x_t, "t": time, "target": target, "given": batch.get("given", {})}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        output, target = network(example["x_t"], example["t"], example["given"]), example["target"]
        if self.target.classes:
            return F.cross_entropy(output, target, reduction="none")
        return (output - target).square().mean(1)


def _add_noise(x: State, noise_std: float, rng: RandomStream) -> State:
    """Add Gaussian noise to real-valued leaves."""

    def perturb(leaf: Tensor) -> Tensor:
        return leaf + noise_std * rng.normal(leaf.shape, leaf.dtype, leaf.device) if leaf.is_floating_point() else leaf

    return tree_map(perturb, x)

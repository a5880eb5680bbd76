"""Training of a network that tells numbers about data, or their class."""

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
from feller.training.objective import Batch, Example, PlainObjective


@dataclass(frozen=True)
class Regression(PlainObjective):
    """Squared error of numbers in their deviations, the mean over the target's, or the cross-entropy of a class."""

    cond_dropout = 0.0
    family: ClassVar[str] = "regressor"
    target: Target
    """What is told."""
    space: Space
    """Where the states live."""
    noise: float = 0.0
    """Deviation of what is added to the real numbers of a state, in its units: samples of a model are a little off the
    data, and so must the network's answers be right there."""

    def __post_init__(self) -> None:
        check_number("noise", self.noise, ge=0)

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Draw the noise."""
        x, about = batch["x_1"], self.target
        real = next((leaf for leaf in leaves(x) if leaf.is_floating_point()), torch.empty(0))
        wanted = batch["target"]
        if about.classes:
            target = wanted[:, 0].long()
        else:
            target = ((wanted - wanted.new_tensor(about.means)) / wanted.new_tensor(about.scales)).to(real.dtype)
        time = torch.zeros(num_examples(x), dtype=real.dtype, device=target.device)
        x_t = _blurred(x, self.noise, rng.stream("noise")) if self.noise else x
        return {"x_t": x_t, "t": time, "target": target, "given": batch.get("given", {})}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Compare answer and truth."""
        answer, target = network(example["x_t"], example["t"], example["given"]), example["target"]
        if self.target.classes:
            return F.cross_entropy(answer, target, reduction="none")
        return (answer - target).square().mean(1)


def _blurred(x: State, noise: float, draw: RandomStream) -> State:
    """Add noise to the leaves that are real numbers."""

    def one(leaf: Tensor) -> Tensor:
        return leaf + noise * draw.normal(leaf.shape, leaf.dtype, leaf.device) if leaf.is_floating_point() else leaf

    return tree_map(one, x)

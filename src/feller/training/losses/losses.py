"""One number per example, from one per entry."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.masking import blank, mean_over_entries
from feller.core.pytree import State, branch, pad_right


def check_alike(prediction: Tensor, target: Tensor) -> None:
    """Refuse an answer and a target that differ in shape: torch would compare each entry with several.

    Raises:
        UsageError: Then.
    """
    if prediction.shape != target.shape:
        raise UsageError(
            f"the network answers with {list(prediction.shape)} and the target is {list(target.shape)}; a path's"
            " target must have the shape of what the network answers with"
        )


class Loss(abc.ABC):
    """One number per entry, then per example. Implement one method to add one."""

    @abc.abstractmethod
    def entries(self, prediction: Tensor, target: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the loss of each entry, [b, ...]."""

    def __call__(
        self, prediction: State, target: State, x_t: State, t: State, valid: Tensor | None = None
    ) -> Float[Tensor, " b"]:
        """Return the mean over the valid entries of each example; what padding holds reaches no gradient either."""
        if valid is not None:
            prediction, target, x_t = (blank(leaf, valid) for leaf in (prediction, target, x_t))
        return mean_over_entries(self.entries(prediction, target, x_t, t), valid)


@dataclass(frozen=True)
class Weighted(Loss):
    """Another loss times a weight w(t)."""

    loss: Loss
    weight: Callable[[Tensor], Tensor]
    """Times [b] -> weights [b]."""

    def entries(self, prediction: Tensor, target: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Weigh each example by its time."""
        entries = self.loss.entries(prediction, target, x_t, t)
        return pad_right(self.weight(t), entries) * entries


@dataclass(frozen=True)
class PerLeaf(Loss):
    """A loss for each leaf of a product; the example's loss is their weighted sum."""

    parts: dict[str, Loss]
    weights: dict[str, float] = field(default_factory=dict)
    """Of the leaves; 1 where none is named. They change no minimiser, but what is learned first."""

    def __post_init__(self) -> None:
        wrong = [name for name, weight in self.weights.items() if name not in self.parts or not weight > 0]
        if wrong:
            raise UsageError(f"expected positive weights of the leaves {', '.join(self.parts)}, got {wrong[0]}")

    def entries(self, prediction: State, target: State, x_t: State, t: State) -> State:
        """Return the entries of each leaf, not weighted."""
        return {k: part.entries(prediction[k], target[k], x_t[k], t[k]) for k, part in self.parts.items()}

    def __call__(
        self, prediction: State, target: State, x_t: State, t: State, valid: State | None = None
    ) -> Float[Tensor, " b"]:
        """Add the means of the leaves; each has its own marks under its name, or all have the same."""
        means = [
            self.weights.get(k, 1.0) * part(prediction[k], target[k], x_t[k], t[k], branch(valid, k))
            for k, part in self.parts.items()
        ]
        return torch.stack(means).sum(0)

"""Losses of probabilities of tokens."""

from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from feller.core.masking import blank, mean_over_entries
from feller.core.pytree import State, pad_right
from feller.training.losses.losses import Loss


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """-log of the predicted probability of the data; predictions are logits [b, ..., K]."""

    def entries(
        self, prediction: Float[Tensor, "b *d K"], target: Int[Tensor, " b *d"], x_t: Tensor, t: Tensor
    ) -> Float[Tensor, " b *d"]:
        """Return -log softmax at the target."""
        return functional.cross_entropy(prediction.movedim(-1, 1), target, reduction="none")


@dataclass(frozen=True)
class WhereMasked(Loss):
    """Another loss over the tokens that are the mask: its mean over them, so that every time counts alike.

    With the cross-entropy and uniform shares of masked tokens it bounds -log p(x_1) per token, with less variance than
    the generalised KL, whose weight is infinite at t = 1. Source: Sahoo et al. 2024, arXiv 2406.07524, reweighted.
    """

    loss: Loss = field(default_factory=CrossEntropy)

    def entries(self, prediction: Float[Tensor, "b *d K"], target: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the loss of each token, masked or not."""
        return self.loss.entries(prediction, target, x_t, t)

    def __call__(
        self, prediction: State, target: State, x_t: State, t: State, valid: Tensor | None = None
    ) -> Float[Tensor, " b"]:
        """Return the mean over the masked tokens of each example; zero where none is."""
        masked = x_t == prediction.shape[-1]
        if valid is not None:
            masked = masked & pad_right(valid, masked)
            prediction, target, x_t = (blank(leaf, valid) for leaf in (prediction, target, x_t))
        return mean_over_entries(self.entries(prediction, target, x_t, t), masked)

"""Training objective of image autoencoders with a patch discriminator."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import check_number
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.unwrapping import unwrap_network
from feller.spaces import Space
from feller.training.objective import Batch, Example, SelfContainedObjective

MIN_RATIO = 1e-4
"""Fraction of the gradient norm of the error that is added to that of the adversarial loss before the division."""


@dataclass(frozen=True)
class AdversarialAutoencoding(SelfContainedObjective):
    """Mean absolute reconstruction error plus the loss of the latents and, late in training, an adversarial loss.

    The discriminator minimises the hinge loss of patches, and the autoencoder the negative score of the patches of its
    reconstructions. Both are trained at the same time; Adam keeps the moments of their weights apart. The adversarial
    loss of an image is weighted so that the norm of its gradient at the reconstruction is `adversarial_weight` times
    that of the reconstruction error. Source: Esser, Rombach and Ommer 2021, "Taming transformers for high-resolution
    image synthesis", arXiv 2012.09841, equations 6 and 7, which take the gradient at the last layer and over a batch.
    """

    cond_dropout = 0.0
    family: ClassVar[str] = "latent-autoencoder"
    needs_plain_network: ClassVar[bool] = True
    space: Space
    """Space of the images."""
    adversarial_weight: float = 0.5
    """Weight of the adversarial loss; 0 trains without a discriminator."""
    adversarial_start: float = 0.5
    """Fraction of the training after which the discriminator starts; at 0, it trains in each step."""

    def __post_init__(self) -> None:
        check_number("adversarial_weight", self.adversarial_weight, ge=0, lt=torch.inf)
        check_number("adversarial_start", self.adversarial_start, ge=0, le=1)

    @property
    def has_independent_examples(self) -> bool:
        """False, because the discriminator depends on other examples."""
        return False

    def at(self, progress: float) -> "AdversarialAutoencoding":
        return replace(self, adversarial_start=0.0) if progress >= self.adversarial_start else self

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Sample the noise of the latents.

        Args:
            batch: `x_1`, images, [b, c, h, w].
            rng: Random stream of the step.
            network: An `AdversarialAutoencoderNetwork`.
        """
        x = batch["x_1"]
        shape = unwrap_network(network).autoencoder.latent_shape
        given: Cond = {"noise": rng.stream("latents").normal((len(x), *shape), device=x.device).to(x.dtype)}
        if self.adversarial_weight and not self.adversarial_start:
            given["adversarial"] = x.new_zeros(len(x))
        return {"x_t": x, "t": x.new_zeros(len(x)), "given": given}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        x, given = example["x_t"], example["given"]
        output = network(x, example["t"], given)
        state = output["state"]
        error = (state - x).abs().flatten(1).mean(1)
        loss = error + output["apart"]
        if "adversarial" not in given:
            return loss
        fooling = -output["fooled"].mean(1)
        discrimination = (F.relu(1 - output["real"]) + F.relu(1 + output["fake"])).mean(1) / 2
        return loss + self._weight(error, fooling, state) * fooling + discrimination

    def _weight(self, error: Tensor, fooling: Tensor, state: Tensor) -> Float[Tensor, " b"]:
        """Return the weight of the adversarial loss of each image, without a gradient."""
        if not state.requires_grad:
            return torch.full_like(error, self.adversarial_weight)
        norms = [
            torch.autograd.grad(loss.sum(), state, retain_graph=True)[0].flatten(1).norm(dim=1)
            for loss in (error, fooling)
        ]
        return (self.adversarial_weight * norms[0] / (norms[1] + MIN_RATIO * norms[0])).detach()

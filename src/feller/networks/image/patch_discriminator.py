"""Patch discriminator of images, and an autoencoder that is trained against it."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.image.autoencoder import AutoencoderNetwork, ConvAutoencoder
from feller.networks.image.unet import group_norm
from feller.networks.network_config import NetworkConfig, seeded_init

SLOPE = 0.2
"""Slope of the leaky rectifiers for negative inputs."""


@dataclass(frozen=True)
class AdversarialAutoencoder(NetworkConfig):
    """Autoencoder of images with a discriminator that tells patches of images from patches of reconstructions.

    Source of the discriminator: Isola et al. 2017, "Image-to-image translation with conditional adversarial networks",
    arXiv 1611.07004, section 3.2.2; with group norms, so that the scores of an image do not depend on its batch.
    """

    autoencoder: ConvAutoencoder = field(default_factory=ConvAutoencoder)
    discriminator_width: int = 32
    """Number of features of the discriminator after its first convolution; each further convolution doubles it."""
    halvings: int = 3
    """Number of convolutions of the discriminator that halve the resolution, of at most log2 of the shorter side."""

    def __post_init__(self) -> None:
        if min(self.discriminator_width, self.halvings) < 1:
            raise UsageError("discriminator_width and halvings of at least 1", self)

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "AdversarialAutoencoderNetwork":
        """Return a new network for images of shape (channels, height, width); its decoder initially outputs zeros."""
        network = self.autoencoder.build(shape, conditions, rng)
        halvings = min(self.halvings, max(1, min(shape[1:]).bit_length() - 1))
        with seeded_init(rng.fold_in("discriminator")):
            discriminator = _discriminator(shape[0], self.discriminator_width, halvings)
        return AdversarialAutoencoderNetwork(network, discriminator)


class AdversarialAutoencoderNetwork(nn.Module):
    """Autoencoder and discriminator, trained by one backward pass whose gradients do not mix."""

    def __init__(self, autoencoder: AutoencoderNetwork, discriminator: nn.Module) -> None:
        super().__init__()
        self.null_values: dict[str, int] = {}
        self.autoencoder = autoencoder
        self.discriminator = discriminator

    def forward(self, x_t: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], cond: Cond) -> dict[str, Tensor]:
        """Return the output of the autoencoder and, if `cond` contains `adversarial`, scores of patches, [b, patches].

        `real` and `fake` are scores of images and reconstructions, without a gradient to the autoencoder; `fooled` are
        scores of reconstructions without a gradient to the discriminator.
        """
        output = self.autoencoder(x_t, t, cond)
        if "adversarial" not in cond:
            # Zero gradients, so that the optimizer has a state for all weights, as checkpoints require.
            unused = sum(weight.sum() for weight in self.discriminator.parameters())
            return {**output, "apart": output["apart"] + 0.0 * unused}
        state = output["state"]
        scores = self.discriminator(torch.cat([x_t, state.detach().to(x_t.dtype)])).flatten(1)
        frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        fooled = functional_call(self.discriminator, frozen, (state,)).flatten(1)
        return {**output, "real": scores[: len(x_t)], "fake": scores[len(x_t) :], "fooled": fooled}


def _discriminator(channels: int, width: int, halvings: int) -> nn.Sequential:
    """Return a network from images to the scores of their patches, [b, 1, rows, columns]."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, padding=1), nn.LeakyReLU(SLOPE)]
    for i in range(1, halvings):
        narrow, wide = width << (i - 1), width << i
        layers += [nn.Conv2d(narrow, wide, 4, 2, padding=1), group_norm(wide), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.Conv2d(width << (halvings - 1), 1, 3, padding=1))

"""Encoding of images as the latents of an autoencoder."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Real, UInt8
from torch import Tensor, nn

from feller.core.errors import InputError
from feller.core.rng import RandomStream, Rng
from feller.core.safetensors_io import load_weights
from feller.data.images.pixel_codes import AsNumbers, PixelEncoding
from feller.data.modality import check_finite_state
from feller.networks.image.autoencoder import AutoencoderNetwork, ConvAutoencoder
from feller.spaces import Euclidean, Space

CHUNK_SIZE = 128
"""Number of images per forward pass of the autoencoder."""


@dataclass(frozen=True)
class AsLatents(PixelEncoding):
    """Encoding of images as standardised latents of an autoencoder, whose weights are random until they are loaded.

    Encoding and decoding lose detail, and the latents have no density with respect to pixels.
    """

    config: ConvAutoencoder
    shape: tuple[int, int, int]
    """Channels, height and width of an image."""
    network: AutoencoderNetwork = field(init=False, repr=False, compare=False)
    """Autoencoder; its configuration, `config`, does not include its weights."""

    def __post_init__(self) -> None:
        network = self.config.build(self.shape, {}, Rng(0)).eval().requires_grad_(False)
        object.__setattr__(self, "network", network)

    @classmethod
    def from_network(cls, network: AutoencoderNetwork) -> "AsLatents":
        """Return the latents of a trained autoencoder, whose weights are copied."""
        code = cls(network.config, network.shape)
        load_weights(network.state_dict(), code.network)
        return code

    @property
    def module(self) -> nn.Module:
        return self.network

    def space(self, shape: tuple[int, ...], levels: int) -> Space:
        if shape != self.shape:
            raise InputError(f"an autoencoder of images of {list(shape)}", f"one of {list(self.shape)}", "Fit again")
        return Euclidean(self.network.latent_shape)

    def encode(self, values: Real[Tensor, "n ..."], levels: int) -> Float[Tensor, "n ..."]:
        """Return the mean latents of images; moments of latents, which a fit computes once, are returned unchanged."""
        return values if values.is_floating_point() else self.moments(values, levels).chunk(2, 1)[0]

    def dequantize(self, values: UInt8[Tensor, "n c h w"], levels: int, rng: RandomStream) -> Tensor:
        return self.encode(values, levels)

    @torch.no_grad()
    def moments(self, values: UInt8[Tensor, "n c h w"], levels: int) -> Float[Tensor, "n m rows columns"]:
        """Return the means and log variances of the standardised latents of images, on the device of the images."""
        moments = [self.network.standardise(self._raw_moments(chunk, levels)) for chunk in values.split(CHUNK_SIZE)]
        return torch.cat(moments).to(values.device)

    @torch.no_grad()
    def set_statistics(self, values: UInt8[Tensor, "n c h w"], levels: int) -> None:
        """Set the scale of the latents to that of the latents of the given images."""
        moments = [self._raw_moments(chunk, levels).cpu() for chunk in values.split(CHUNK_SIZE)]
        self.network.set_statistics(torch.cat(moments))

    def _raw_moments(self, values: Tensor, levels: int) -> Tensor:
        weight = self.network.from_latent.weight
        return self.network.moments(AsNumbers().encode(values.to(weight.device), levels).to(weight.dtype))

    @torch.no_grad()
    def decode(self, state: Float[Tensor, "n k rows columns"], levels: int) -> UInt8[Tensor, "n c h w"]:
        """Decode latents to images, in batches; the autoencoder moves to the device of the latents."""
        check_finite_state(state)
        network, numbers = self._network_on(state.device), AsNumbers()
        decoded = [numbers.decode(self._pixels(network, chunk), levels) for chunk in state.split(CHUNK_SIZE)]
        return torch.cat(decoded) if decoded else torch.zeros(0, *self.shape, dtype=torch.uint8, device=state.device)

    def decode_soft(self, state: Float[Tensor, "n k rows columns"], levels: int) -> Float[Tensor, "n c h w"]:
        """Decode latents to pixel values without rounding and clipping; gradients pass through the decoder."""
        return AsNumbers().decode_soft(self._pixels(self._network_on(state.device), state), levels)

    def _network_on(self, device: torch.device) -> AutoencoderNetwork:
        """Return the autoencoder, moved to a device if it is on another one; moving is not allowed while tracing."""
        return self.network if self.network.from_latent.weight.device == device else self.network.to(device)

    def _pixels(self, network: AutoencoderNetwork, state: Tensor) -> Tensor:
        return network.decode_standardised(state.to(network.from_latent.weight.dtype)).to(state.dtype)

    def log_scale(self, shape: tuple[int, ...], levels: int) -> None:
        """Return None: a likelihood of latents is none of pixels."""
        return None

"""Encoding of images as the latents of an autoencoder of diffusers."""

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from feller.core.errors import InputError, message_of
from feller.core.pretrained_folder import require_diffusers
from feller.core.rng import RandomStream, Rng
from feller.data.images.pixel_codes import AsNumbers, PixelEncoding
from feller.data.modality import check_finite_state
from feller.networks.network_config import seeded_init
from feller.spaces import Euclidean, Space

AUTOENCODERS = ("AutoencoderKL",)
"""Classes of autoencoders of diffusers that are known."""
CHUNK_SIZE = 4
"""Number of images per forward pass of the autoencoder."""


@dataclass(frozen=True)
class DiffusersLatents(PixelEncoding):
    """Encoding of images as scaled latents of an autoencoder of diffusers; its weights are random until loaded.

    Encoding and decoding lose detail, and the latents have no density with respect to pixels.
    """

    class_name: str
    """Class in diffusers: AutoencoderKL."""
    config: str
    """Content of its config.json."""
    shape: tuple[int, int, int]
    """Channels, height and width of an image."""
    network: Any = field(init=False, repr=False, compare=False)
    """Autoencoder, without gradients of its weights."""

    def __post_init__(self) -> None:
        if self.class_name not in AUTOENCODERS:
            raise InputError(f"an autoencoder of {', '.join(AUTOENCODERS)}", self.class_name)
        diffusers = require_diffusers(f"{self.class_name} networks")
        with seeded_init(Rng(0)):
            try:
                network = getattr(diffusers, self.class_name).from_config(json.loads(self.config))
            except Exception as error:  # diffusers raises many types
                found = message_of(error, 200)
                raise InputError(f"a configuration of {self.class_name}", found) from error
        object.__setattr__(self, "network", network.eval().requires_grad_(False))
        for name in ("latents_mean", "latents_std"):
            values, channels = network.config.get(name), network.config.latent_channels
            if values is not None and len(values) != channels:
                raise InputError(f"{channels} numbers, one per channel", len(values), argument=name)
        height, width = self.shape[1:]
        if height % self.factor or width % self.factor:
            raise InputError(f"sides that {self.factor} divides", f"{width} x {height}")

    @property
    def factor(self) -> int:
        """Number of pixels per latent along each side."""
        return 2 ** (len(self.network.config.block_out_channels) - 1)

    @property
    def module(self) -> nn.Module:
        return self.network

    def space(self, shape: tuple[int, ...], levels: int) -> Space:
        if shape != self.shape:
            raise InputError(f"an autoencoder of images of {list(shape)}", f"one of {list(self.shape)}", "Import again")
        _, height, width = shape
        return Euclidean((self.network.config.latent_channels, height // self.factor, width // self.factor))

    @torch.no_grad()
    def encode(self, values: Tensor, levels: int) -> Float[Tensor, "n k rows columns"]:
        """Return the scaled mean latents of images; latents are returned unchanged."""
        if values.is_floating_point():
            return values
        network = self._network_on(values.device)
        pixels = AsNumbers().encode(values, levels)
        means = [network.encode(chunk).latent_dist.mean for chunk in pixels.split(CHUNK_SIZE)]
        latents = torch.cat(means)
        shift, scale = self._shift_and_scale(latents)
        return (latents - shift) * scale

    def dequantize(self, values: UInt8[Tensor, "n c h w"], levels: int, rng: RandomStream) -> Tensor:
        return self.encode(values, levels)

    @torch.no_grad()
    def decode(self, state: Float[Tensor, "n k rows columns"], levels: int) -> UInt8[Tensor, "n c h w"]:
        """Decode latents to images, in batches; the autoencoder moves to the device of the latents."""
        check_finite_state(state)
        decoded = [AsNumbers().decode(self._pixels(chunk), levels) for chunk in state.split(CHUNK_SIZE)]
        return torch.cat(decoded) if decoded else torch.zeros(0, *self.shape, dtype=torch.uint8, device=state.device)

    def decode_soft(self, state: Float[Tensor, "n k rows columns"], levels: int) -> Float[Tensor, "n c h w"]:
        """Decode latents to pixel values without rounding and clipping; gradients pass through the decoder."""
        return AsNumbers().decode_soft(self._pixels(state), levels)

    def _shift_and_scale(self, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Return the shift and the factor of latents, for each channel if latents_mean and latents_std are set."""
        config = self.network.config
        scale = float(config.get("scaling_factor") or 1.0)
        mean, std = config.get("latents_mean"), config.get("latents_std")
        if mean is None or std is None:
            return float(config.get("shift_factor") or 0.0), scale
        return like.new_tensor(mean).view(-1, 1, 1), scale / like.new_tensor(std).view(-1, 1, 1)

    def _network_on(self, device: torch.device) -> Any:
        """Return the autoencoder, moved to a device if it is on another one."""
        return self.network if self.network.device == device else self.network.to(device)

    def _pixels(self, state: Tensor) -> Tensor:
        network = self._network_on(state.device)
        shift, scale = self._shift_and_scale(state)
        return network.decode((state / scale + shift).to(network.dtype)).sample.to(state.dtype)

    def log_scale(self, shape: tuple[int, ...], levels: int) -> None:
        """Return None: a likelihood of latents is none of pixels."""
        return None

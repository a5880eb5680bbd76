"""Convolutional image tokenizer: encoder to a grid of feature vectors, quantizer of vectors to codes, and decoder."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import zero_init
from feller.networks.codebook.fsq import FSQ
from feller.networks.codebook.quantizer import Quantizer
from feller.networks.image.unet import UNetBlock, conv3x3, group_norm
from feller.networks.network_config import NetworkConfig, seeded_init

MIN_WIDTH = 8
"""Minimum number of features per position, at all resolutions between the image and the grid of codes."""


@dataclass(frozen=True)
class ConvTokenizer(NetworkConfig):
    """Convolutional autoencoder of images with a quantizer; it does not depend on time and conditions.

    Each code represents a cell of factor x factor pixels, and also depends on the pixels around the cell.
    """

    factor: int = 4
    """Side of the cell that a code represents, in pixels: a power of 2 that divides both sides of the image."""
    width: int = 64
    """Number of features per cell; each doubling of the resolution halves this number."""
    blocks: int = 2
    """Number of residual blocks on the grid of cells, in each of encoder and decoder."""
    quantizer: Quantizer = field(default_factory=FSQ)
    """Quantizer of the feature vector of a cell."""

    def __post_init__(self) -> None:
        if self.factor < 2 or self.factor & (self.factor - 1):
            raise UsageError("a factor that is a power of 2, at least 2", self.factor)
        if self.width < MIN_WIDTH or self.blocks < 0:
            raise UsageError(f"width of at least {MIN_WIDTH} and blocks of at least 0", self)

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "ConvTokenizerNetwork":
        """Return a new network for images of shape (channels, height, width); its decoder initially outputs zeros."""
        if not isinstance(shape, tuple) or len(shape) != 3:
            raise UsageError("ConvTokenizer expects images of shape (channels, height, width)", found=shape)
        channels, height, width = shape
        if height % self.factor or width % self.factor:
            raise UsageError(
                f"images of {width} x {height} pixels are not divisible into cells of {self.factor} x {self.factor}",
                remedy="Change --architecture.factor, or resize the images with --longest",
            )
        with seeded_init(rng):
            return ConvTokenizerNetwork(self, (channels, height, width))


class ConvTokenizerNetwork(nn.Module):
    """Convolutional autoencoder of images with a quantizer, configured by `ConvTokenizer`."""

    def __init__(self, config: ConvTokenizer, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = shape
        self.config = config
        self.null_values: dict[str, int] = {}
        self.grid = height // config.factor, width // config.factor
        """Rows and columns of the grid of codes."""
        halvings = config.factor.bit_length() - 1
        widths = [max(MIN_WIDTH, config.width >> (halvings - 1 - i)) for i in range(halvings)]
        code_dim = config.quantizer.code_dim
        down_widths = zip([channels, *widths[:-1]], widths, strict=True)
        up_widths = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.down = nn.ModuleList(nn.Conv2d(c_in, c_out, 4, 2, padding=1) for c_in, c_out in down_widths)
        self.encoder_blocks = nn.ModuleList(UNetBlock(config.width) for _ in range(config.blocks))
        self.to_code = nn.Sequential(group_norm(config.width), nn.SiLU(), nn.Conv2d(config.width, code_dim, 1))
        self.codebook = config.quantizer.build()
        self.from_code = conv3x3(code_dim, config.width)
        self.decoder_blocks = nn.ModuleList(UNetBlock(config.width) for _ in range(config.blocks))
        self.norm = group_norm(config.width)
        self.up = nn.ModuleList(conv3x3(c_in, 4 * c_out) for c_in, c_out in up_widths)
        self.conv_out = zero_init(conv3x3(widths[0], 4 * channels))

    def forward(self, x_t: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], cond: Cond) -> dict[str, Tensor]:
        """Return a dict with the reconstructed images, `state`, and the quantizer's auxiliary loss, `apart` [b].

        `t` and `cond` are ignored.
        """
        vectors, aux_loss = self.codebook(self._features(x_t))
        return {"state": self._picture(vectors), "apart": aux_loss}

    def encode(self, x: Float[Tensor, "m c h w"]) -> Int64[Tensor, "m codes"]:
        """Return the codes of images, in row-major order of the grid of cells."""
        return self.codebook.encode(self._features(x))

    def decode(self, codes: Int64[Tensor, "m codes"]) -> Float[Tensor, "m c h w"]:
        """Return the images that are decoded from codes."""
        return self._picture(self.codebook.decode(codes).to(self.from_code.weight.dtype))

    @torch.no_grad()
    def update_codebook(self, x: Float[Tensor, "b c h w"], rng: Rng) -> None:
        """Update the codebook from a batch of images; do nothing in eval mode or if the quantizer has a fixed codebook.

        `rng` selects the features to which unused codes are reset.
        """
        if self.training and self.config.quantizer.updates_from_batch:
            self.codebook.update(self._features(x), rng)

    def _features(self, x: Tensor) -> Float[Tensor, "b codes d"]:
        h = x
        for conv in self.down:
            h = F.silu(conv(h))
        for block in self.encoder_blocks:
            h = block(h)
        return self.to_code(h).flatten(2).mT

    def _picture(self, vectors: Float[Tensor, "b codes d"]) -> Float[Tensor, "b c h w"]:
        h = self.from_code(vectors.mT.unflatten(2, self.grid))
        for block in self.decoder_blocks:
            h = block(h)
        h = F.silu(self.norm(h))
        for conv in self.up:
            h = F.silu(F.pixel_shuffle(conv(h), 2))
        return F.pixel_shuffle(self.conv_out(h), 2)

"""Convolutional network that writes a picture as a grid of codes, and reads it back."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.conditioning import zero_init
from feller.networks.codebook.fsq import FSQ
from feller.networks.codebook.quantizer import Quantizer
from feller.networks.image.unet import UNetBlock, conv3x3, group_norm
from feller.networks.network_config import NetworkConfig, seeded_init

MIN_WIDTH = 8
"""Features, at least, before the last halving."""


@dataclass(frozen=True)
class ConvTokenizer(NetworkConfig):
    """Convolutions that halve the sides, residual blocks on the grid of codes, a quantiser, and the same way back.

    Each code stands for a cell of factor x factor pixels, and depends on what is around it. What is written is the same
    for every time and condition.
    """

    factor: int = 4
    """Pixels of a side of the cell that a code stands for: 2, 4, 8, ..., a divisor of both sides of a picture."""
    width: int = 64
    """Features of each cell of the grid; half as many before each halving."""
    blocks: int = 2
    """Residual blocks on the grid, on either side of the quantiser."""
    quantizer: Quantizer = field(default_factory=FSQ)
    """Which codes there are."""

    def __post_init__(self) -> None:
        if self.factor < 2 or self.factor & (self.factor - 1):
            raise UsageError("a factor that is a power of 2, such as 4", self.factor)
        if self.width < MIN_WIDTH or self.blocks < 0:
            raise UsageError(f"a width of {MIN_WIDTH} or more, and blocks of 0 or more", self)

    def build(self, shape: tuple[int, ...], conditions: dict[str, int], rng: Rng) -> "ConvTokenizerNetwork":
        """Make a network with new weights, for images (channels, height, width); conditions tell it nothing.

        A new network reads every code as zero.
        """
        if not isinstance(shape, tuple) or len(shape) != 3:
            raise UsageError("ConvTokenizer expects images of shape (channels, height, width)", found=shape)
        channels, height, width = shape
        if height % self.factor or width % self.factor:
            raise UsageError(
                f"pictures of {width} x {height} do not divide into cells of {self.factor} x {self.factor}",
                remedy="Take another --architecture.factor, or bring them to another size with --longest",
            )
        with seeded_init(rng):
            return ConvTokenizerNetwork(self, (channels, height, width))


class ConvTokenizerNetwork(nn.Module):
    """The network of `ConvTokenizer`."""

    def __init__(self, config: ConvTokenizer, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = shape
        self.config = config
        self.null_values: dict[str, int] = {}
        self.grid = height // config.factor, width // config.factor
        """Rows and columns of codes."""
        halvings = config.factor.bit_length() - 1
        widths = [max(MIN_WIDTH, config.width >> (halvings - 1 - i)) for i in range(halvings)]
        numbers = config.quantizer.code_dim
        down = zip([channels, *widths[:-1]], widths, strict=True)
        up = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.down = nn.ModuleList(nn.Conv2d(before, after, 4, 2, padding=1) for before, after in down)
        self.encoder_blocks = nn.ModuleList(UNetBlock(config.width) for _ in range(config.blocks))
        self.to_code = nn.Sequential(group_norm(config.width), nn.SiLU(), nn.Conv2d(config.width, numbers, 1))
        self.codebook = config.quantizer.build()
        self.from_code = conv3x3(numbers, config.width)
        self.decoder_blocks = nn.ModuleList(UNetBlock(config.width) for _ in range(config.blocks))
        self.norm = group_norm(config.width)
        self.up = nn.ModuleList(conv3x3(before, 4 * after) for before, after in up)
        self.conv_out = zero_init(conv3x3(widths[0], 4 * channels))

    def forward(self, x_t: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], cond: Cond) -> dict[str, Tensor]:
        """Return what is read from the codes, `state`, and what the quantiser adds to the loss, `aux_loss` [b]."""
        vectors, aux_loss = self.codebook(self._features(x_t))
        return {"state": self._picture(vectors), "apart": aux_loss}

    def encode(self, x: Float[Tensor, "m c h w"]) -> Int64[Tensor, "m codes"]:
        """Return the codes of states, row by row of the grid."""
        return self.codebook.encode(self._features(x))

    def decode(self, codes: Int64[Tensor, "m codes"]) -> Float[Tensor, "m c h w"]:
        """Return the states of codes."""
        return self._picture(self.codebook.decode(codes).to(self.from_code.weight.dtype))

    @torch.no_grad()
    def update_codebook(self, x: Float[Tensor, "b c h w"], rng: Rng) -> None:
        """Let the codes follow a batch, where they do and the network is being trained."""
        if self.training and self.config.quantizer.updates_from_batch:
            self.codebook.update(self._features(x), rng)

    def _features(self, x: Tensor) -> Float[Tensor, "b codes d"]:
        h = x
        for halve in self.down:
            h = F.silu(halve(h))
        for block in self.encoder_blocks:
            h = block(h)
        return self.to_code(h).flatten(2).mT

    def _picture(self, vectors: Float[Tensor, "b codes d"]) -> Float[Tensor, "b c h w"]:
        h = self.from_code(vectors.mT.unflatten(2, self.grid))
        for block in self.decoder_blocks:
            h = block(h)
        h = F.silu(self.norm(h))
        for double in self.up:
            h = F.silu(F.pixel_shuffle(double(h), 2))
        return F.pixel_shuffle(self.conv_out(h), 2)

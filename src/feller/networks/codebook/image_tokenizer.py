"""Convolutional network that writes a picture as a grid of codes, and reads it back."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.architecture import Architecture, weights_from
from feller.networks.blocks.conditioning import zero
from feller.networks.codebook.fsq import FSQ
from feller.networks.codebook.quantizer import Quantiser
from feller.networks.image.unet import Block, convolution, norm

NARROWEST = 8
"""Features, at least, before the last halving."""


@dataclass(frozen=True)
class Tokenizer(Architecture):
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
    quantiser: Quantiser = field(default_factory=FSQ)
    """Which codes there are."""

    def __post_init__(self) -> None:
        if self.factor < 2 or self.factor & (self.factor - 1):
            raise UsageError("a factor that is a power of 2, such as 4", self.factor)
        if self.width < NARROWEST or self.blocks < 0:
            raise UsageError(f"a width of {NARROWEST} or more, and blocks of 0 or more", self)

    def build(self, shape: tuple[int, ...], conditions: dict[str, int], draws: Rng) -> "TokenizerNetwork":
        """Make a network with new weights, for images (channels, height, width); conditions tell it nothing.

        A new network reads every code as zero.
        """
        if not isinstance(shape, tuple) or len(shape) != 3:
            raise UsageError("Tokenizer expects images of shape (channels, height, width)", found=shape)
        channels, height, width = shape
        if height % self.factor or width % self.factor:
            raise UsageError(
                f"pictures of {width} x {height} do not divide into cells of {self.factor} x {self.factor}",
                remedy="Take another --architecture.factor, or bring them to another size with --longest",
            )
        with weights_from(draws):
            return TokenizerNetwork(self, (channels, height, width))


class TokenizerNetwork(nn.Module):
    """The network of `Tokenizer`."""

    def __init__(self, settings: Tokenizer, shape: tuple[int, int, int]) -> None:
        super().__init__()
        colours, height, width = shape
        self.settings = settings
        self.nulls: dict[str, int] = {}
        self.grid = height // settings.factor, width // settings.factor
        """Rows and columns of codes."""
        halvings = settings.factor.bit_length() - 1
        widths = [max(NARROWEST, settings.width >> (halvings - 1 - i)) for i in range(halvings)]
        numbers = settings.quantiser.numbers
        down = zip([colours, *widths[:-1]], widths, strict=True)
        up = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.down = nn.ModuleList(nn.Conv2d(before, after, 4, 2, padding=1) for before, after in down)
        self.before = nn.ModuleList(Block(settings.width) for _ in range(settings.blocks))
        self.write = nn.Sequential(norm(settings.width), nn.SiLU(), nn.Conv2d(settings.width, numbers, 1))
        self.codebook = settings.quantiser.build()
        self.read = convolution(numbers, settings.width)
        self.behind = nn.ModuleList(Block(settings.width) for _ in range(settings.blocks))
        self.norm = norm(settings.width)
        self.up = nn.ModuleList(convolution(before, 4 * after) for before, after in up)
        self.leave = zero(convolution(widths[0], 4 * colours))

    def forward(self, x_t: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], given: Cond) -> dict[str, Tensor]:
        """Return what is read from the codes, `state`, and what the quantiser adds to the loss, `apart` [b]."""
        vectors, apart = self.codebook(self._features(x_t))
        return {"state": self._picture(vectors), "apart": apart}

    def encode(self, x: Float[Tensor, "m c h w"]) -> Int64[Tensor, "m codes"]:
        """Return the codes of states, row by row of the grid."""
        return self.codebook.codes(self._features(x))

    def decode(self, codes: Int64[Tensor, "m codes"]) -> Float[Tensor, "m c h w"]:
        """Return the states of codes."""
        return self._picture(self.codebook.vectors(codes).to(self.read.weight.dtype))

    @torch.no_grad()
    def follow(self, x: Float[Tensor, "b c h w"], draws: Rng) -> None:
        """Let the codes follow a batch, where they do and the network is being trained."""
        if self.training and self.settings.quantiser.follows:
            self.codebook.follow(self._features(x), draws)

    def _features(self, x: Tensor) -> Float[Tensor, "b codes d"]:
        h = x
        for halve in self.down:
            h = F.silu(halve(h))
        for block in self.before:
            h = block(h)
        return self.write(h).flatten(2).mT

    def _picture(self, vectors: Float[Tensor, "b codes d"]) -> Float[Tensor, "b c h w"]:
        h = self.read(vectors.mT.unflatten(2, self.grid))
        for block in self.behind:
            h = block(h)
        h = F.silu(self.norm(h))
        for double in self.up:
            h = F.silu(F.pixel_shuffle(double(h), 2))
        return F.pixel_shuffle(self.leave(h), 2)

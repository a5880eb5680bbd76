"""Codes whose vectors are running means of the features that they stand for."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from feller.core.distributed import all_reduce_
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks.codebook.quantizer import Codebook, Quantiser, straight_through

CHUNK = 4096
"""Vectors that are compared with all codes at once."""
EXACT = "donot_use_mm_for_euclid_dist"
"""Distances whose rounding depends on the two vectors alone, not on which others are compared beside them."""


@dataclass(frozen=True)
class VectorQuantizerEMA(Quantiser):
    """Vector quantisation: a vector becomes the nearest of the codebook, which follows by exponential moving averages.

    A code that is hardly used begins anew at a vector of the batch, and so do all at first.
    Source: van den Oord et al. 2017, "Neural discrete representation learning", arXiv 1711.00937, appendix A.1; Razavi
    et al. 2019, "Generating diverse high-fidelity images with VQ-VAE-2", arXiv 1906.00446.
    """

    follows = True

    codes: int = 256
    """Different codes."""
    size: int = 16
    """Numbers of a vector."""
    decay: float = 0.99
    """Share of the averages that a batch leaves as it was."""
    commitment: float = 0.25
    """Weight, in the loss, of the mean squared distance of features from the vectors that replace them."""
    least: float = 0.1
    """Share of an even use up to which a code begins anew."""

    def __post_init__(self) -> None:
        if min(self.codes, self.size) < 1:
            raise UsageError("one code and one number of a vector or more", self)
        if not (0 <= self.decay < 1 and 0 <= self.least < 1 and self.commitment >= 0):
            raise UsageError("decay and least from 0 to below 1, and a commitment of 0 or more", self)

    @property
    def count(self) -> int:
        """That of the codebook."""
        return self.codes

    @property
    def numbers(self) -> int:
        """That of a vector."""
        return self.size

    def build(self) -> "Means":
        """Make a codebook that no batch was seen for."""
        return Means(self)


class Means(Codebook):
    """The codebook of `VectorQuantizerEMA`: averages of how often each code is used and of what it replaces."""

    uses: Tensor
    sums: Tensor

    def __init__(self, settings: VectorQuantizerEMA) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("uses", torch.zeros(settings.codes))
        self.register_buffer("sums", torch.zeros(settings.codes, settings.size))

    def forward(self, z: Float[Tensor, "b n d"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, " b"]]:
        """Return the nearest vectors, and how far those of the features are from them, weighted."""
        z = self._wide(z)
        nearest = self.vectors(self.codes(z))
        return straight_through(z, nearest), self.settings.commitment * (z - nearest).square().mean((1, 2))

    def codes(self, z: Float[Tensor, "*n d"]) -> Int64[Tensor, " *n"]:
        """Return the code of the nearest vector."""
        book, flat = self._book(), self._wide(z.detach()).flatten(0, -2)
        parts = [torch.cdist(some, book, compute_mode=EXACT).argmin(-1) for some in flat.split(CHUNK)]
        return torch.cat(parts).reshape(z.shape[:-1])

    def vectors(self, codes: Int64[Tensor, " *n"]) -> Float[Tensor, "*n d"]:
        """Return what codes replace, on average."""
        return self._book()[codes]

    @torch.no_grad()
    def follow(self, z: Float[Tensor, "b n d"], draws: Rng) -> None:
        """Move the averages by a batch, then begin anew where there is hardly any use; sums go in a fixed order."""
        flat, settings = self._wide(z).flatten(0, 1), self.settings
        uses, sums = torch.zeros_like(self.uses), torch.zeros_like(self.sums)
        for some in flat.split(CHUNK):
            chosen = F.one_hot(self.codes(some), settings.codes).to(flat.dtype)
            uses += chosen.sum(0)
            sums += chosen.T @ some  # adding at indices would go in any order on an accelerator
        new = self.uses == 0
        self.uses.lerp_(all_reduce_(uses), 1 - settings.decay)
        self.sums.lerp_(all_reduce_(sums), 1 - settings.decay)
        rows = int(all_reduce_(torch.tensor(len(z), device=z.device)))
        even = rows * z.shape[1] / settings.codes
        anew = new | (self.uses <= settings.least * even)
        begun = even * self._some(z, rows, draws)
        self.uses.masked_fill_(anew, even)
        self.sums.copy_(torch.where(anew[:, None], begun, self.sums))

    def _some(self, z: Tensor, rows: int, draws: Rng) -> Float[Tensor, "codes d"]:
        """Return one vector of all rows of the batch for each code, different ones where there are enough."""
        n = z.shape[1]
        order = torch.randperm(rows * n, generator=draws.stream("begin anew").shared_generator())
        place = order[torch.arange(self.settings.codes) % len(order)].to(z.device)
        row = place // n - draws.first_example
        mine = (row >= 0) & (row < len(z))
        found = z[row.clamp(0, len(z) - 1), place % n].to(self.sums.dtype)
        return all_reduce_(torch.where(mine[:, None], found, 0.0))

    def _book(self) -> Float[Tensor, "codes d"]:
        """Return the vector of each code; zero before there is any use."""
        return self.sums / self.uses[:, None].clamp(min=torch.finfo(self.uses.dtype).tiny)

    def _wide(self, z: Tensor) -> Tensor:
        """Return vectors in the precision of the codebook."""
        return z.to(self.sums.dtype)

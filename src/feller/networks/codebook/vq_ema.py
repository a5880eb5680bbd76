"""Codes whose vectors are running means of the features that they stand for."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from feller.core.distributed import all_reduce_
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks.codebook.quantizer import Codebook, Quantizer, straight_through

CHUNK_SIZE = 4096
"""Vectors that are compared with all codes at once."""
EXACT_CDIST = "donot_use_mm_for_euclid_dist"
"""Distances whose rounding depends on the two vectors alone, not on which others are compared beside them."""


@dataclass(frozen=True)
class VectorQuantizerEMA(Quantizer):
    """Vector quantisation: a vector becomes the nearest of the codebook, which follows by exponential moving averages.

    A code that is hardly used begins anew at a vector of the batch, and so do all at first.
    Source: van den Oord et al. 2017, "Neural discrete representation learning", arXiv 1711.00937, appendix A.1; Razavi
    et al. 2019, "Generating diverse high-fidelity images with VQ-VAE-2", arXiv 1906.00446.
    """

    updates_from_batch = True

    num_codes: int = 256
    """Different codes."""
    dim: int = 16
    """Numbers of a vector."""
    decay: float = 0.99
    """Share of the averages that a batch leaves as it was."""
    commitment_weight: float = 0.25
    """Weight, in the loss, of the mean squared distance of features from the vectors that replace them."""
    dead_code_fraction: float = 0.1
    """Share of an even use up to which a code begins anew."""

    def __post_init__(self) -> None:
        if min(self.num_codes, self.dim) < 1:
            raise UsageError("one code and one number of a vector or more", self)
        if not (0 <= self.decay < 1 and 0 <= self.dead_code_fraction < 1 and self.commitment_weight >= 0):
            raise UsageError("decay and dead_code_fraction from 0 to below 1, and a commitment of 0 or more", self)

    @property
    def codebook_size(self) -> int:
        return self.num_codes

    @property
    def code_dim(self) -> int:
        return self.dim

    def build(self) -> "EMACodebook":
        return EMACodebook(self)


class EMACodebook(Codebook):
    """The codebook of `VectorQuantizerEMA`: averages of how often each code is used and of what it replaces."""

    cluster_size: Tensor
    embed_avg: Tensor

    def __init__(self, config: VectorQuantizerEMA) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("cluster_size", torch.zeros(config.num_codes))
        self.register_buffer("embed_avg", torch.zeros(config.num_codes, config.dim))

    def forward(self, z: Float[Tensor, "b n d"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, " b"]]:
        """Return the nearest vectors, and how far those of the features are from them, weighted."""
        z = self._upcast(z)
        nearest = self.decode(self.encode(z))
        return straight_through(z, nearest), self.config.commitment_weight * (z - nearest).square().mean((1, 2))

    def encode(self, z: Float[Tensor, "*n d"]) -> Int64[Tensor, " *n"]:
        book, flat = self._code_vectors(), self._upcast(z.detach()).flatten(0, -2)
        parts = [torch.cdist(some, book, compute_mode=EXACT_CDIST).argmin(-1) for some in flat.split(CHUNK_SIZE)]
        return torch.cat(parts).reshape(z.shape[:-1])

    def decode(self, codes: Int64[Tensor, " *n"]) -> Float[Tensor, "*n d"]:
        return self._code_vectors()[codes]

    @torch.no_grad()
    def update(self, z: Float[Tensor, "b n d"], rng: Rng) -> None:
        """Move the averages by a batch, then begin anew where there is hardly any use; sums go in a fixed order."""
        flat, config = self._upcast(z).flatten(0, 1), self.config
        uses, sums = torch.zeros_like(self.cluster_size), torch.zeros_like(self.embed_avg)
        for some in flat.split(CHUNK_SIZE):
            chosen = F.one_hot(self.encode(some), config.num_codes).to(flat.dtype)
            uses += chosen.sum(0)
            sums += chosen.T @ some  # adding at indices would go in any order on an accelerator
        new = self.cluster_size == 0
        self.cluster_size.lerp_(all_reduce_(uses), 1 - config.decay)
        self.embed_avg.lerp_(all_reduce_(sums), 1 - config.decay)
        rows = int(all_reduce_(torch.tensor(len(z), device=z.device)))
        even = rows * z.shape[1] / config.num_codes
        is_dead = new | (self.cluster_size <= config.dead_code_fraction * even)
        restarted = even * self._sample_vectors(z, rows, rng)
        self.cluster_size.masked_fill_(is_dead, even)
        self.embed_avg.copy_(torch.where(is_dead[:, None], restarted, self.embed_avg))

    def _sample_vectors(self, z: Tensor, rows: int, rng: Rng) -> Float[Tensor, "codes d"]:
        """Return one vector of all rows of the batch for each code, different ones where there are enough."""
        n = z.shape[1]
        order = torch.randperm(rows * n, generator=rng.stream("begin anew").shared_generator())
        place = order[torch.arange(self.config.num_codes) % len(order)].to(z.device)
        row = place // n - rng.first_example
        is_local = (row >= 0) & (row < len(z))
        vectors = z[row.clamp(0, len(z) - 1), place % n].to(self.embed_avg.dtype)
        return all_reduce_(torch.where(is_local[:, None], vectors, 0.0))

    def _code_vectors(self) -> Float[Tensor, "codes d"]:
        """Return the vector of each code; zero before there is any use."""
        return self.embed_avg / self.cluster_size[:, None].clamp(min=torch.finfo(self.cluster_size.dtype).tiny)

    def _upcast(self, z: Tensor) -> Tensor:
        """Return vectors in the precision of the codebook."""
        return z.to(self.embed_avg.dtype)

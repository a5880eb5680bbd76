"""Vector quantisation with a codebook that is updated by exponential moving averages."""

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
"""Number of vectors per distance computation."""
EXACT_CDIST = "donot_use_mm_for_euclid_dist"
"""Mode of `torch.cdist` in which the rounding of a distance does not depend on the other vectors."""


@dataclass(frozen=True)
class VectorQuantizerEMA(Quantizer):
    """Vector quantisation to the nearest code vector, which is an exponential moving average of its assigned features.

    All code vectors at the start of training, and those of unused codes later, are set to random features of the batch.
    Source: van den Oord et al. 2017, "Neural discrete representation learning", arXiv 1711.00937, appendix A.1; Razavi
    et al. 2019, "Generating diverse high-fidelity images with VQ-VAE-2", arXiv 1906.00446.
    """

    updates_from_batch = True

    num_codes: int = 256
    """Number of codes."""
    dim: int = 16
    """Dimension of a code vector."""
    decay: float = 0.99
    """Weight of the old value in each update of a moving average; the batch has weight 1 - decay."""
    commitment_weight: float = 0.25
    """Weight of the commitment loss, the mean squared distance of features from their code vectors."""
    dead_code_fraction: float = 0.1
    """Usage at or below which a code is reset, as a fraction of the usage that each code would have if all codes were
    used equally."""

    def __post_init__(self) -> None:
        if min(self.num_codes, self.dim) < 1:
            raise UsageError("num_codes and dim of at least 1", self)
        if not (0 <= self.decay < 1 and 0 <= self.dead_code_fraction < 1 and self.commitment_weight >= 0):
            raise UsageError("decay and dead_code_fraction in [0, 1), and commitment_weight of at least 0", self)

    @property
    def codebook_size(self) -> int:
        return self.num_codes

    @property
    def code_dim(self) -> int:
        return self.dim

    def build(self) -> "EMACodebook":
        return EMACodebook(self)


class EMACodebook(Codebook):
    """Codebook of `VectorQuantizerEMA`: moving averages of each code's usage and of the features assigned to it."""

    cluster_size: Tensor
    embed_avg: Tensor

    def __init__(self, config: VectorQuantizerEMA) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("cluster_size", torch.zeros(config.num_codes))
        self.register_buffer("embed_avg", torch.zeros(config.num_codes, config.dim))

    def forward(self, z: Float[Tensor, "b n d"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, " b"]]:
        """Return the code vector nearest to each feature vector, and the weighted commitment loss of each example."""
        z = self._upcast(z)
        nearest = self.decode(self.encode(z))
        return straight_through(z, nearest), self.config.commitment_weight * (z - nearest).square().mean((1, 2))

    def encode(self, z: Float[Tensor, "*n d"]) -> Int64[Tensor, " *n"]:
        codebook, flat = self._code_vectors(), self._upcast(z.detach()).flatten(0, -2)
        codes = [torch.cdist(chunk, codebook, compute_mode=EXACT_CDIST).argmin(-1) for chunk in flat.split(CHUNK_SIZE)]
        return torch.cat(codes).reshape(z.shape[:-1])

    def decode(self, codes: Int64[Tensor, " *n"]) -> Float[Tensor, "*n d"]:
        return self._code_vectors()[codes]

    @torch.no_grad()
    def update(self, z: Float[Tensor, "b n d"], rng: Rng) -> None:
        """Update the moving averages from a batch and reset unused codes; the order of summation is deterministic."""
        flat, config = self._upcast(z).flatten(0, 1), self.config
        code_counts, code_sums = torch.zeros_like(self.cluster_size), torch.zeros_like(self.embed_avg)
        for chunk in flat.split(CHUNK_SIZE):
            one_hot = F.one_hot(self.encode(chunk), config.num_codes).to(flat.dtype)
            code_counts += one_hot.sum(0)
            code_sums += one_hot.T @ chunk  # index_add is not deterministic on an accelerator
        is_unused = self.cluster_size == 0
        self.cluster_size.lerp_(all_reduce_(code_counts), 1 - config.decay)
        self.embed_avg.lerp_(all_reduce_(code_sums), 1 - config.decay)
        batch_size = int(all_reduce_(torch.tensor(len(z), device=z.device)))
        uniform_size = batch_size * z.shape[1] / config.num_codes
        is_dead = is_unused | (self.cluster_size <= config.dead_code_fraction * uniform_size)
        reset_sums = uniform_size * self._sample_vectors(z, batch_size, rng)
        self.cluster_size.masked_fill_(is_dead, uniform_size)
        self.embed_avg.copy_(torch.where(is_dead[:, None], reset_sums, self.embed_avg))

    def _sample_vectors(self, z: Tensor, batch_size: int, rng: Rng) -> Float[Tensor, "codes d"]:
        """Sample one feature vector of the global batch per code, without replacement if there are enough vectors."""
        n = z.shape[1]
        permutation = torch.randperm(batch_size * n, generator=rng.stream("begin anew").shared_generator())
        index = permutation[torch.arange(self.config.num_codes) % len(permutation)].to(z.device)
        row = index // n - rng.first_example
        is_local = (row >= 0) & (row < len(z))
        vectors = z[row.clamp(0, len(z) - 1), index % n].to(self.embed_avg.dtype)
        return all_reduce_(torch.where(is_local[:, None], vectors, 0.0))

    def _code_vectors(self) -> Float[Tensor, "codes d"]:
        """Return the code vectors; zero before the first update."""
        return self.embed_avg / self.cluster_size[:, None].clamp(min=torch.finfo(self.cluster_size.dtype).tiny)

    def _upcast(self, z: Tensor) -> Tensor:
        return z.to(self.embed_avg.dtype)

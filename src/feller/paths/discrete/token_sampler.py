"""Sampling of tokens from logits: temperature, top-k and top-p."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from feller.core.errors import check_number
from feller.core.rng import categorical, check_finite
from feller.paths.discrete.rates import Ids, Logits


@dataclass(frozen=True)
class TokenSampler:
    """Sampler of tokens from logits.

    Temperature applies first, then `top_k`, then `top_p`. Any value other than the default changes the distribution.
    """

    temperature: float = 1.0
    """Divisor of the logits: below 1 sharpens the distribution, 0 takes the most likely token."""
    top_k: int | None = None
    """Sample from the k most likely tokens, including ties with the k-th; None for all tokens."""
    top_p: float | None = None
    """Sample from the most likely tokens with this total probability (nucleus sampling); None for all tokens."""

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, ge=0, lt=float("inf"))
        check_number("top_k", self.top_k, ge=1, remedy="Omit it to sample from all tokens")
        check_number("top_p", self.top_p, gt=0, le=1)

    def __call__(self, logits: Logits, u: Float64[Tensor, " m"]) -> Ids:
        """Sample one token per row, by inverting the CDF at the uniform number u in float64."""
        if self.temperature == 0:
            check_finite(logits.amax(1))
            return logits.argmax(1)
        filtered = self.filter_logits(logits)
        return categorical((filtered - filtered.amax(1, keepdim=True)).exp_(), u)

    def filter_logits(self, logits: Logits) -> Logits:
        """Return logits after temperature (above 0), top-k and top-p; excluded tokens have logit -inf."""
        if logits.dtype.itemsize < 4:
            logits = logits.float()
        if self.temperature != 1:
            divisor = min(max(self.temperature, 1e-30), 1e30)  # within the range of float32
            logits = (logits - logits.amax(1, keepdim=True)) / divisor
        if self.top_k is not None and self.top_k < logits.shape[1]:
            kth_logit = logits.topk(self.top_k, 1).values[:, -1:]
            logits = logits.masked_fill(logits < kth_logit, -torch.inf)
        if self.top_p is not None and self.top_p < 1:
            p, order = logits.double().softmax(1).sort(1, descending=True)
            mass_before = p.cumsum(1) - p  # the most likely token always remains
            is_dropped = torch.zeros_like(mass_before, dtype=torch.bool).scatter(1, order, mass_before >= self.top_p)
            logits = logits.masked_fill(is_dropped, -torch.inf)
        return logits

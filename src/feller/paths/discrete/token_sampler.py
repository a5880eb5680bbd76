"""How a symbol is drawn from logits."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from feller.core.errors import check_number
from feller.core.rng import categorical, check_finite
from feller.paths.discrete.rates import Ids, Logits


@dataclass(frozen=True)
class TokenSampler:
    """Draw from the softmax of logits, sharpened or cut where asked.

    Temperature first, then `top_k`, then `top_p`. Anything but the default draws from another law than the network's.
    """

    temperature: float = 1.0
    """Divides the logits: below 1 sharpens, 0 takes the likeliest."""
    top_k: int | None = None
    """Draw among so many of the likeliest symbols, and those as likely as the last of them."""
    top_p: float | None = None
    """Draw among the likeliest symbols that hold this share of the probability together."""

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, ge=0, lt=float("inf"))
        check_number("top_k", self.top_k, ge=1, remedy="Leave it out to draw among all symbols")
        check_number("top_p", self.top_p, gt=0, le=1)

    def __call__(self, logits: Logits, u: Float64[Tensor, " m"]) -> Ids:
        """Draw one symbol per row, where the uniform number u meets the distribution function, in float64."""
        if self.temperature == 0:
            check_finite(logits.amax(1))
            return logits.argmax(1)
        weights = self.filter_logits(logits)
        return categorical((weights - weights.amax(1, keepdim=True)).exp_(), u)

    def filter_logits(self, logits: Logits) -> Logits:
        """Return the logits of the law that is drawn from, for a temperature above 0."""
        if logits.dtype.itemsize < 4:
            logits = logits.float()
        if self.temperature != 1:
            divisor = min(max(self.temperature, 1e-30), 1e30)  # of which float32 can tell
            logits = (logits - logits.amax(1, keepdim=True)) / divisor
        if self.top_k is not None and self.top_k < logits.shape[1]:
            kth_logit = logits.topk(self.top_k, 1).values[:, -1:]
            logits = logits.masked_fill(logits < kth_logit, -torch.inf)
        if self.top_p is not None and self.top_p < 1:
            p, order = logits.double().softmax(1).sort(1, descending=True)
            before = p.cumsum(1) - p  # the first always stays
            is_dropped = torch.zeros_like(before, dtype=torch.bool).scatter(1, order, before >= self.top_p)
            logits = logits.masked_fill(is_dropped, -torch.inf)
        return logits

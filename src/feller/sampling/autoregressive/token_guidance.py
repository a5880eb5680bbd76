"""Guidance for autoregressive decoding: logits under several prompts are combined into one score per token.

A row is decoded in several streams with different prompts, such as with and without the text. Guidance combines raw
logits, which are -inf in all streams for disallowed tokens. Temperature, top-k and top-p are applied afterwards.
"""

import abc
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.sampling.guidance import cfg_combine

MAX_WEIGHT = 1e30
"""Largest guidance weight whose product with logits is finite in float32."""


class TokenGuidance(abc.ABC):
    """Base class of guidance: combines the logits of all streams. Subclasses implement `num_streams` and `combine`."""

    @property
    @abc.abstractmethod
    def num_streams(self) -> int:
        """Number of streams of logits that are combined."""

    @abc.abstractmethod
    def combine(self, logits: Float[Tensor, "s b V"]) -> Float[Tensor, "b V"]:
        """Return one combined logit per token, to sample from; logits of -inf stay -inf."""


@dataclass(frozen=True)
class NoGuidance(TokenGuidance):
    """No guidance: the logits of the single stream."""

    num_streams = 1

    def combine(self, logits: Float[Tensor, "1 b V"]) -> Float[Tensor, "b V"]:
        return logits[0]


@dataclass(frozen=True)
class ClassifierFreeGuidance(TokenGuidance):
    """Classifier-free guidance l_u + w (l_c - l_u), with logits l_c given the condition and l_u without the condition.

    Source: Yu et al. 2023, arXiv 2309.02591, equation 2, where alpha is 0. In sharp distributions, logits of
    implausible tokens are noise that a large w amplifies; alpha excludes them, as in `ContrastiveDecoding`.
    """

    num_streams = 2
    w: float = 3.0
    """Guidance weight: 1 gives the conditional logits, 0 the unconditional logits; more than 1 sharpens."""
    alpha: float = 0.0
    """Exclude tokens whose conditional probability is below alpha times the largest; 0 excludes none."""

    def __post_init__(self) -> None:
        _check_finite(self.w)
        check_number("alpha", self.alpha, ge=0, le=1)

    def combine(self, logits: Float[Tensor, "2 b V"]) -> Float[Tensor, "b V"]:
        conditional, unconditional = logits
        return _among(plausible_mask(conditional, 1, self.alpha), cfg_combine(conditional, unconditional, self.w))


@dataclass(frozen=True)
class DualGuidance(TokenGuidance):
    """Dual guidance l_0 + p (l_p - l_0) + t (l_pt - l_p), with weight p for the image and t for the text.

    The logits are l_0 without conditions, l_p given the image, and l_pt given image and text. With p = t, it equals
    `ClassifierFreeGuidance` on both conditions. Source: Brooks et al. 2023, "InstructPix2Pix",
    arXiv 2211.09800.
    """

    num_streams = 3
    picture: float = 1.5
    text: float = 7.5
    alpha: float = 0.0
    """Plausibility threshold as in `ClassifierFreeGuidance`, given both conditions."""

    def __post_init__(self) -> None:
        _check_finite(self.picture, self.text)
        check_number("alpha", self.alpha, ge=0, le=1)

    def combine(self, logits: Float[Tensor, "3 b V"]) -> Float[Tensor, "b V"]:
        with_both, with_image, unconditional = logits
        scores = cfg_combine(with_image, unconditional, self.picture) + self.text * (with_both - with_image)
        scores = torch.where(with_both == -torch.inf, with_both, scores)  # -inf minus -inf is NaN
        return _among(plausible_mask(with_both, 1, self.alpha), scores)


@dataclass(frozen=True)
class ContrastiveDecoding(TokenGuidance):
    """Contrastive decoding (CD-K): log p_c - log p_u of the tokens with p_c >= alpha times the k-th largest p_c.

    p_c is the conditional and p_u the unconditional distribution, both restricted to allowed tokens, so that at least
    one token remains. If fewer than k tokens are allowed, the least likely one counts as the k-th. k = 1 with alpha = 1
    takes the most likely token; alpha = 0 applies the ratio to all tokens. Source: Yu et al. 2023, arXiv 2309.02591,
    equation 3; k = 1 is Li et al. 2022, arXiv 2210.15097.
    """

    num_streams = 2
    k: int = 8
    alpha: float = 0.1

    def __post_init__(self) -> None:
        check_number("k", self.k, ge=1)
        check_number("alpha", self.alpha, ge=0, le=1)

    def combine(self, logits: Float[Tensor, "2 b V"]) -> Float[Tensor, "b V"]:
        conditional, unconditional = logits.log_softmax(2)
        return _among(plausible_mask(conditional, self.k, self.alpha), conditional - unconditional)


def plausible_mask(logits: Float[Tensor, "b V"], k: int, alpha: float) -> Bool[Tensor, "b V"]:
    """Return the mask of allowed tokens whose probability is at least alpha times the k-th largest."""
    allowed = logits > -torch.inf
    if not alpha:
        return allowed
    top_logits = logits.topk(min(k, logits.shape[1]), 1).values
    kth_logit = top_logits.masked_fill(top_logits == -torch.inf, torch.inf).amin(1, keepdim=True)
    return allowed & (logits >= kth_logit + math.log(alpha))


def _among(mask: Bool[Tensor, "b V"], scores: Float[Tensor, "b V"]) -> Float[Tensor, "b V"]:
    return torch.where(mask, scores, -torch.inf)


def _check_finite(*weights: float) -> None:
    if not all(abs(weight) <= MAX_WEIGHT for weight in weights):
        listed = ", ".join(f"{w:g}" for w in weights)
        raise UsageError(f"finite guidance weights, up to {MAX_WEIGHT:g}", listed)

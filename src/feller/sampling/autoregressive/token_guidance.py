"""How the logits of one row under several prompts become one score for each symbol.

One row is read in several streams at once, which differ in what stands before: with the text, without it, and so on.
Guides see raw logits, -inf where a symbol may not come, which it then has in all streams; temperature and cuts follow.
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
"""Weight of guidance that float32 still holds when it multiplies logits."""


class TokenGuidance(abc.ABC):
    """What to draw from, given the logits of all streams of a row. Implement two members to add one."""

    @property
    @abc.abstractmethod
    def num_streams(self) -> int:
        """Streams that it reads."""

    @abc.abstractmethod
    def combine(self, logits: Float[Tensor, "s b V"]) -> Float[Tensor, "b V"]:
        """Return scores, whose softmax is what is drawn from at temperature 1; -inf stays -inf."""


@dataclass(frozen=True)
class NoGuidance(TokenGuidance):
    """The law of the network itself."""

    num_streams = 1

    def combine(self, logits: Float[Tensor, "1 b V"]) -> Float[Tensor, "b V"]:
        return logits[0]


@dataclass(frozen=True)
class ClassifierFreeGuidance(TokenGuidance):
    """Classifier-free guidance, l_u + w (l_c - l_u), of streams with and without the condition.

    Source: Yu et al. 2023, arXiv 2309.02591, equation 2, where alpha is 0. Where laws are sharp, what they say of
    symbols that never come is noise, of which a large w takes the largest; alpha leaves these out, as
    `ContrastiveDecoding` does.
    """

    num_streams = 2
    w: float = 3.0
    """1 is the plain conditional, 0 the unconditional, more than 1 sharpens: each among the symbols that may come."""
    alpha: float = 0.0
    """Symbols may come whose probability with the condition is at least so many times the largest one."""

    def __post_init__(self) -> None:
        _check_finite(self.w)
        check_number("alpha", self.alpha, ge=0, le=1)

    def combine(self, logits: Float[Tensor, "2 b V"]) -> Float[Tensor, "b V"]:
        with_it, without = logits
        return _among(plausible_mask(with_it, 1, self.alpha), cfg_combine(with_it, without, self.w))


@dataclass(frozen=True)
class DualGuidance(TokenGuidance):
    """Two weights, l_0 + p (l_p - l_0) + t (l_pt - l_p), of streams with picture and text, with picture, and with none.

    With p = t it is `ClassifierFreeGuidance` by both at once. Source: Brooks et al. 2023, "InstructPix2Pix", arXiv
    2211.09800.
    """

    num_streams = 3
    picture: float = 1.5
    text: float = 7.5
    alpha: float = 0.0
    """As in `ClassifierFreeGuidance`, with both."""

    def __post_init__(self) -> None:
        _check_finite(self.picture, self.text)
        check_number("alpha", self.alpha, ge=0, le=1)

    def combine(self, logits: Float[Tensor, "3 b V"]) -> Float[Tensor, "b V"]:
        both, picture, nothing = logits
        scores = cfg_combine(picture, nothing, self.picture) + self.text * (both - picture)
        scores = torch.where(both == -torch.inf, both, scores)  # -inf less -inf is no number
        return _among(plausible_mask(both, 1, self.alpha), scores)


@dataclass(frozen=True)
class ContrastiveDecoding(TokenGuidance):
    """Contrastive decoding, CD-K: log p_c - log p_u among the symbols with p_c >= alpha times the k-th largest p_c.

    Both laws are those among the symbols that may come, so that something is left wherever anything may; where those
    are fewer than k, the last of them stands for the k-th. k = 1 and alpha = 1 takes the likeliest, alpha = 0 is the
    ratio among all. Source: Yu et al. 2023, arXiv 2309.02591, equation 3; k = 1 is Li et al. 2022, arXiv 2210.15097.
    """

    num_streams = 2
    k: int = 8
    alpha: float = 0.1

    def __post_init__(self) -> None:
        check_number("k", self.k, ge=1)
        check_number("alpha", self.alpha, ge=0, le=1)

    def combine(self, logits: Float[Tensor, "2 b V"]) -> Float[Tensor, "b V"]:
        with_it, without = logits.log_softmax(2)
        return _among(plausible_mask(with_it, self.k, self.alpha), with_it - without)


def plausible_mask(logits: Float[Tensor, "b V"], k: int, alpha: float) -> Bool[Tensor, "b V"]:
    """Tell which symbols have at least alpha times the k-th largest probability; never those that may not come."""
    may = logits > -torch.inf
    if not alpha:
        return may
    largest = logits.topk(min(k, logits.shape[1]), 1).values
    last = largest.masked_fill(largest == -torch.inf, torch.inf).amin(1, keepdim=True)
    return may & (logits >= last + math.log(alpha))


def _among(which: Bool[Tensor, "b V"], scores: Float[Tensor, "b V"]) -> Float[Tensor, "b V"]:
    return torch.where(which, scores, -torch.inf)


def _check_finite(*weights: float) -> None:
    if not all(abs(weight) <= MAX_WEIGHT for weight in weights):
        listed = ", ".join(f"{w:g}" for w in weights)
        raise UsageError(f"finite weights of guidance, up to {MAX_WEIGHT:g}", listed)

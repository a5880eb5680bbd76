"""Re-masking corrector: revealed tokens are masked again, and masked tokens are revealed sooner in return.

Source: Wang et al. 2025, "Remasking discrete diffusion models with inference-time scaling" (ReMDM), arXiv 2503.00307.
A step from t to s masks a revealed token with probability sigma, and reveals a masked token with probability
(alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t), which keeps the marginals of the path.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.rng import RandomStream
from feller.paths.discrete.correctors import Corrector
from feller.paths.discrete.rates import Ids, Reals
from feller.paths.discrete.token_distribution import TokenDistribution
from feller.paths.path import Places
from feller.paths.processes import Jumps


class RemaskingProbability(abc.ABC):
    """Probability sigma that a step masks a revealed token again; subclasses implement `__call__`."""

    @abc.abstractmethod
    def __call__(self, alpha_t: Reals, alpha_s: Reals) -> Reals:
        """Return sigma for steps between times with these values of alpha, [b]; at most `max_probability`."""

    def per_token(
        self, sigma: Reals, confidence: Float64[Tensor, "b n"], is_revealed: Bool[Tensor, "b n"]
    ) -> Float64[Tensor, "b n"]:
        """Return sigma of each token, [b, n], given the network's probabilities of the revealed tokens."""
        return sigma[:, None].expand(confidence.shape)


def max_probability(alpha_t: Reals, alpha_s: Reals) -> Reals:
    """Return the largest sigma that keeps the marginals, min(1, (1 - alpha_s) / alpha_t)."""
    return ((1 - alpha_s) / alpha_t).nan_to_num(nan=1.0, posinf=1.0).clamp(0, 1)


@dataclass(frozen=True)
class CappedRemasking(RemaskingProbability):
    """Re-masking probability eta, or the largest possible one if that is smaller (ReMDM-cap)."""

    eta: float = 0.02

    def __post_init__(self) -> None:
        check_number("eta", self.eta, ge=0, le=1)

    def __call__(self, alpha_t: Reals, alpha_s: Reals) -> Reals:
        return max_probability(alpha_t, alpha_s).clamp(max=self.eta)


@dataclass(frozen=True)
class RescaledRemasking(RemaskingProbability):
    """Re-masking probability of eta times the largest possible one (ReMDM-rescale)."""

    eta: float = 0.1

    def __post_init__(self) -> None:
        check_number("eta", self.eta, ge=0, le=1)

    def __call__(self, alpha_t: Reals, alpha_s: Reals) -> Reals:
        return max_probability(alpha_t, alpha_s) * self.eta


@dataclass(frozen=True)
class ConfidenceRemasking(RemaskingProbability):
    """Re-masking probability divided among the revealed tokens, with weights exp(-p) for a token of probability p.

    p is the network's probability of the token in the current state; the paper takes that of the step which revealed
    it (ReMDM-conf). The marginals of the path are not kept.
    """

    total: RemaskingProbability = field(default_factory=CappedRemasking)
    """Sum of the probabilities of all tokens."""

    def __call__(self, alpha_t: Reals, alpha_s: Reals) -> Reals:
        return self.total(alpha_t, alpha_s)

    def per_token(
        self, sigma: Reals, confidence: Float64[Tensor, "b n"], is_revealed: Bool[Tensor, "b n"]
    ) -> Float64[Tensor, "b n"]:
        weight = torch.exp(-confidence) * is_revealed
        return sigma[:, None] * weight / weight.sum(1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)


@dataclass(frozen=True)
class RemaskingCorrector(Corrector):
    """Corrector for mixture paths with a mask source, which masks revealed tokens again (ReMDM).

    A `RenoiseCorrector` or `LogOddsCorrector` that renoises a token with probability r in a step is the special case
    sigma = r (1 - alpha_s); this corrector also has larger sigma.
    """

    probability: RemaskingProbability = field(default_factory=CappedRemasking)
    """Probability that a step masks a revealed token again."""

    def expected_renoisings(self, path: TokenDistribution, x_1: Ids, t: Reals, s: float) -> Reals:
        """Return the mean number of renoisings with the same sigma; infinite where no renoising is as strong."""
        alpha_sigma = getattr(path, "alpha_sigma", None)
        if alpha_sigma is None:
            name = type(path).__name__
            raise UsageError("RemaskingCorrector requires a mixture path", found=name, remedy="Use RenoiseCorrector")
        alpha_t, alpha_s = (torch.as_tensor(alpha_sigma(time, x_1).alpha) for time in (t, torch.full_like(t, s)))
        return -torch.log1p(-(self.probability(alpha_t, alpha_s) / (1 - alpha_s)).clamp(max=1))


@dataclass(frozen=True, eq=False)
class RemaskingStep:
    """Step of a re-masking corrector from the state x_t."""

    probability: RemaskingProbability
    x_t: Places
    mask_token: int
    confidence: Float64[Tensor, "b n"]
    """Network's probability of each revealed token; any value for masked ones."""
    alpha_t: Reals
    alpha_at: Callable[[float], Reals]
    """Function from a time to alpha, [b]."""
    sample_x_1: Callable[[Tensor, RandomStream], Tensor]
    """(mask, rng) -> samples of x_1 for the tokens in the mask, [m]."""

    def jumps(self) -> Jumps:
        """Return the jumps of the step."""

        def hazard(s: float) -> Tensor:
            everywhere = torch.ones_like(self.is_masked)
            return -torch.log1p(-self.change_probability(everywhere, s)).view(self.x_t.shape)

        def select(hazard: Tensor, s: float, rng: RandomStream) -> Tensor:
            can_jump = (hazard > 0).reshape(self.is_masked.shape)  # observed tokens have no hazard
            u = rng.fork().uniform(can_jump.shape, torch.float64, can_jump.device)
            return ((u < self.change_probability(can_jump, s)) & can_jump).view(hazard.shape)

        def sample_destination(s: float, mask: Tensor, rng: RandomStream) -> Tensor:
            reveals = mask & self.is_masked.view(mask.shape)
            x_1 = self.sample_x_1(reveals, rng).to(self.x_t.dtype)
            return self.x_t.masked_fill(mask, self.mask_token).masked_scatter(reveals, x_1)[mask]

        return Jumps(hazard, sample_destination, select=select)

    @property
    def is_masked(self) -> Bool[Tensor, "b n"]:
        """True for masked tokens."""
        return (self.x_t == self.mask_token).reshape(len(self.x_t), -1)

    def change_probability(self, can_jump: Bool[Tensor, "b n"], s: float) -> Float64[Tensor, "b n"]:
        """Return the probability that each token changes until s: revealed tokens are masked, masked ones revealed.

        Tokens outside `can_jump` are observed; their part of the re-masking probability goes to the others.
        """
        sigma = self.probability(self.alpha_t, self.alpha_at(s))
        sigma = self.probability.per_token(sigma, self.confidence, can_jump & ~self.is_masked)
        alpha_t, alpha_s = self.alpha_t[:, None], self.alpha_at(s)[:, None]
        reveals = ((alpha_s - (1 - sigma) * alpha_t) / (1 - alpha_t)).nan_to_num(nan=1.0).clamp(0, 1)
        return torch.where(self.is_masked, reveals, sigma)

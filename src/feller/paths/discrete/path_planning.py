"""Planning of unmasking: orders by a planner network, and orders that mask revealed tokens again."""

from dataclasses import dataclass, field, replace

from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import UsageError, check_number
from feller.core.pytree import Cond
from feller.paths.discrete.rates import Ids, Logits, Reals
from feller.paths.discrete.unmasking_order import ConfidenceOrder, UnmaskingOrder
from feller.paths.path import Network, Places, Times


@dataclass(frozen=True, eq=False)
class LearnedOrder(UnmaskingOrder):
    """Unmasking order by a planner network: the tokens that are most probably right come first.

    The planner reads the state with all masks filled by samples of the denoiser. Its logits have the shape of the
    denoiser's; the logit of the token at a position is the log odds that this token is right. `PlannerTraining`
    trains it. Source: Peng et al. 2025, "Path planning for masked diffusion model sampling", arXiv 2502.03540.
    """

    network: Network
    """Planner: (x_1, t, cond) -> logits, [b, ..., K]."""
    cond: Cond = field(default_factory=dict)
    """Conditions of the planner; `Mixture.process` sets them to those of the samples."""

    @property
    def is_token_score(self) -> bool:
        return True

    def bind(self, cond: Cond) -> "LearnedOrder":
        return replace(self, cond=cond)

    def planner_logits(self, x_1: Places, t: Times) -> Float[Tensor, "b *d K"]:
        return self.network(x_1, t, self.cond)

    def score(self, logits: Logits, x_1: Ids, u: Float64[Tensor, " m"]) -> Reals:
        """Return the log probability that token x_1 is right, from the planner's logits."""
        return F.logsigmoid(logits.gather(1, x_1[:, None])[:, 0].double())


@dataclass(frozen=True)
class PathPlanning(UnmaskingOrder):
    """Path planning (P2): after each step the best-ranked tokens are revealed; revealed tokens may be masked again.

    The score of a revealed token is `eta` times the planner's log probability that it is right. With `ConfidenceOrder`,
    the denoiser itself is the planner (self-planning): its output at a revealed token must predict this token from the
    others, which training on masked tokens alone does not ensure. Source: Peng et al. 2025, arXiv 2502.03540.
    """

    planner: UnmaskingOrder = field(default_factory=lambda: ConfidenceOrder(0.0))
    """`ConfidenceOrder` for self-planning, or `LearnedOrder` for a planner network."""
    eta: float = 1.0
    """Weight of the log probabilities of revealed tokens: 0 keeps them all, larger values mask more of them again."""

    def __post_init__(self) -> None:
        check_number("eta", self.eta, ge=0, lt=float("inf"))
        if not self.planner.is_token_score or self.planner.remasking_weight is not None:
            raise UsageError(
                argument="planner",
                expected="an order that scores sampled tokens",
                found=type(self.planner).__name__,
                remedy="Use ConfidenceOrder(0.0) or LearnedOrder(planner)",
            )

    @property
    def is_token_score(self) -> bool:
        return True

    @property
    def remasking_weight(self) -> float:
        return self.eta

    def bind(self, cond: Cond) -> "PathPlanning":
        return replace(self, planner=self.planner.bind(cond))

    def planner_logits(self, x_1: Places, t: Times) -> Float[Tensor, "b *d K"] | None:
        return self.planner.planner_logits(x_1, t)

    def score(self, logits: Logits, x_1: Ids, u: Float64[Tensor, " m"]) -> Reals:
        return self.planner.score(logits, x_1, u)

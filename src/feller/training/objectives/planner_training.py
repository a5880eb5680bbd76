"""Training of a planner: which tokens of a sequence completed by a masked model are right."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks.condition_dropout import drop_conditions
from feller.paths import Mixture, TokenSampler
from feller.paths.discrete.token_distribution import masked_uniform
from feller.paths.time_distributions import Stratified, TimeDistribution
from feller.spaces import Space
from feller.training.batch_checks import read_batch
from feller.training.objective import (
    Batch,
    Example,
    Objective,
    ObjectiveConfig,
    TrainingContext,
    loss_mask,
    sample_observed_mask,
    sample_source,
)


@dataclass(frozen=True)
class PlannerTraining(ObjectiveConfig):
    """Binary cross-entropy of "the token at this position is right", for `LearnedOrder` and `PathPlanning`.

    A state of the path is completed by samples of a trained masked model, the teacher. The planner reads the completed
    state; its logit of the token at a position is the log odds that this token equals the data.
    Source: Peng et al. 2025, "Path planning for masked diffusion model sampling", arXiv 2502.03540.
    """

    path: Mixture
    space: Space
    token_sampler: TokenSampler = field(default_factory=TokenSampler)
    """Sampler of the teacher's tokens."""
    time_distribution: TimeDistribution = field(default_factory=Stratified)
    inpaint_prob: float = 0.0
    """Probability that a random fraction of an example's tokens is observed, and marked as such."""
    cond_dropout: float = 0.0

    family: ClassVar[str] = "planner"
    requires: ClassVar[tuple[str, ...]] = ("teacher",)

    def __post_init__(self) -> None:
        if not getattr(self.path, "has_mask", False):
            raise UsageError(
                argument="path",
                expected="a mixture path with a mask source",
                found=type(self.path).__name__,
                remedy="Start from a masked model, such as one of --recipe text",
            )

    def build(self, context: TrainingContext) -> Objective:
        """Return the training objective, which holds the teacher network of `context`.

        Raises:
            UsageError: If the context has no teacher.
        """
        context.check(self)
        return PlannerObjective(self, context)


class PlannerObjective(Objective):
    """Training objective configured by `PlannerTraining`, together with the masked model that completes states."""

    def __init__(self, config: PlannerTraining, context: TrainingContext) -> None:
        self.config, self.null = config, context.null
        self.teacher: Any = context.teacher

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        config, (x_1, cond) = self.config, read_batch(batch, rng, null=self.null)
        cond = drop_conditions(cond, self.null, config.cond_dropout, rng, network)
        t = config.time_distribution(len(x_1), rng.stream("time"), x_1.device)
        x_t = config.path.sample(sample_source(config.space, x_1, rng), x_1, t, rng.stream("path"))
        if config.inpaint_prob:
            observed_mask = sample_observed_mask(x_1, config.inpaint_prob, rng)
            x_t, cond = torch.where(observed_mask, x_1, x_t), {**cond, "known": observed_mask}
        with torch.no_grad():
            logits = self.teacher(x_t, t, cond)
        is_masked = x_t == logits.shape[-1]
        x = x_t.masked_scatter(
            is_masked, config.token_sampler(logits[is_masked], masked_uniform(rng.stream("fill"), is_masked))
        )
        return {"x_t": x, "t": t, "target": (x == x_1).to(logits.dtype), "given": cond}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return the mean cross-entropy of the positions of each example that are valid and not observed, in nats."""
        x, t, cond = example["x_t"], example["t"], example["given"]
        log_odds = network(x, t, cond).gather(-1, x[..., None])[..., 0]
        nats = F.binary_cross_entropy_with_logits(log_odds, example["target"].to(log_odds.dtype), reduction="none")
        mask = loss_mask(cond, t)
        weight = torch.ones_like(nats) if not isinstance(mask, Tensor) else mask.expand(nats.shape).to(nats.dtype)
        nats, weight = nats.reshape(len(nats), -1), weight.reshape(len(nats), -1)
        return (nats * weight).sum(1) / weight.sum(1).clamp(min=1)

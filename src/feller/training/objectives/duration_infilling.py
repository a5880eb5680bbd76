"""Training objective that predicts masked phone durations from observed durations and phones (infilling)."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.speech.durations import log_durations, spread_durations, whole_durations
from feller.paths import Affine
from feller.spaces import Euclidean
from feller.training.losses import AbsoluteError
from feller.training.objective import Batch, Example, Objective, SelfContainedObjective, TrainingContext
from feller.training.objectives.frame_infilling import Infilling
from feller.training.objectives.span_masks import SpanMask

DURATION_MASK = SpanMask(0.2, 0.1, 1.0)
"""Default distribution of masked durations; fewer entries are masked than in frame infilling."""
MIN_STD = 1e-3
"""Lower bound on the standard deviation of log durations."""


@dataclass(frozen=True)
class DurationInfilling(SelfContainedObjective):
    """Infilling of masked phone durations: a duration of l >= 0 frames is represented as log(1 + l).

    The batch has durations x_1 [b, m] and, in `given`, labels `phone` and the mask `valid`. For a flow, the target
    durations are dequantised uniformly over l - 1/2 to l + 1/2, so that they have a density. Durations in the context
    and regression targets are not dequantised. Source: Le et al. 2023, "Voicebox", arXiv 2306.15687.
    """

    infilling: Infilling
    """Infilling objective on standardised log durations."""
    mean: float = 0.0
    """Mean of log(1 + l) over the training set, for standardisation."""
    std: float = 1.0
    """Standard deviation of log(1 + l) over the training set."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise UsageError("a finite mean and a positive std of log durations", f"{self.mean}, {self.std}")

    @classmethod
    def deterministic(cls, space: Euclidean, span_mask: SpanMask = DURATION_MASK) -> "DurationInfilling":
        """Return a regression objective, which predicts the median of each log duration."""
        return cls(Infilling(None, space, AbsoluteError(), span_mask=span_mask))

    @classmethod
    def stochastic(cls, space: Euclidean) -> "DurationInfilling":
        """Return a flow matching objective, which trains a sampler of all masked durations jointly."""
        return cls(Infilling(Affine(), space, span_mask=DURATION_MASK))

    def with_statistics_of(self, durations: Int[Tensor, " n"]) -> "DurationInfilling":
        """Return a copy standardised by the statistics of training durations."""
        logs = durations.double().log1p()
        return replace(self, mean=logs.mean().item(), std=max(logs.std().item(), MIN_STD) if len(logs) > 1 else 1.0)

    def encode(self, logs: Float[Tensor, "b m 1"]) -> Float[Tensor, "b m 1"]:
        """Standardise log durations."""
        return (logs - self.mean) / self.std

    def decode(self, x: Float[Tensor, "b m 1"]) -> Int[Tensor, "b m"]:
        """Convert standardised log durations to the nearest integer durations, at least 0."""
        return whole_durations(x * self.std + self.mean)

    @property
    def family(self) -> str:  # pyrefly: ignore[bad-override] - it depends on a field
        return self.infilling.family

    @property
    def path(self) -> Affine | None:  # pyrefly: ignore[bad-override] - None is another family
        return self.infilling.path

    @property
    def space(self) -> Euclidean:
        return self.infilling.space

    @property
    def cond_dropout(self) -> float:
        return self.infilling.cond_dropout

    @property
    def length_bucketing(self) -> bool:
        return self.infilling.length_bucketing

    def build(self, context: TrainingContext) -> Objective:
        return replace(self, infilling=self.infilling.build(context))

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        durations = batch["x_1"]
        context_values = log_durations(durations)
        x_1 = context_values if self.path is None else spread_durations(durations, rng)
        cond = {**batch["given"], "start": torch.ones_like(durations, dtype=torch.bool)}
        batch = {"x_1": self.encode(x_1), "told": self.encode(context_values), "given": cond}
        return self.infilling.draw(batch, rng, network)

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        return self.infilling.loss(network, example)

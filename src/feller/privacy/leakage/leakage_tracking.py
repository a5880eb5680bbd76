"""DP-SGD training that tracks the Fisher information loss of selected rows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import gelu

from feller.core.errors import UsageError, check_number
from feller.core.gradient import Gradient, LossFunction
from feller.core.rng import RandomStream, Rng
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.leakage.fisher_information import FisherLeakage
from feller.privacy.leakage.gradient_sensitivity import (
    ClipFn,
    GradientSensitivity,
    exact_sensitivity,
    probe_sensitivity,
    rademacher_directions,
)
from feller.privacy.leakage.row_gradients import ExampleBuilder

SMOOTH_CLIP_OVERSHOOT = 1.115221
"""Largest gradient norm after `smooth_clip`, relative to the clipping norm; the noise multiplier is divided by it."""


def hard_clip(norms: Float[Tensor, " *b"], clip: float) -> Float[Tensor, " *b"]:
    """Return the factor min(1, clip / norm) that clips a gradient of each norm in `norms` to the clipping norm `clip`.

    The factor is differentiable except at norm = clip, where the left derivative is used.
    """
    return clip / norms.clamp(min=clip)


def smooth_clip(norms: Float[Tensor, " *b"], clip: float) -> Float[Tensor, " *b"]:
    """Return the clipping factor 1 / (1 + GELU(norm / clip - 1)) of a gradient of each norm in `norms`.

    Unlike `hard_clip`, the factor is smooth, but clipped norms reach `SMOOTH_CLIP_OVERSHOOT` times `clip`.

    Source: Guo, Karrer, Chaudhuri and van der Maaten 2022, arXiv 2201.12383, section 5.
    """
    return 1 / (1 + gelu(norms / clip - 1))


ExampleBuilderAt = Callable[[nn.Module, int], ExampleBuilder]
"""(network, step) -> builder of examples from rows, with the random numbers of this step fixed."""
SensitivityEstimator = Callable[
    [LossFunction, nn.Module, ExampleBuilder, Tensor, ClipFn, RandomStream, Tensor | None], GradientSensitivity
]
"""Type of `estimate_by_probe` and `estimate_by_coordinate`."""


def estimate_by_probe(
    loss: LossFunction,
    network: nn.Module,
    build: ExampleBuilder,
    z: Tensor,
    clip_fn: ClipFn,
    rng: RandomStream,
    coordinate_mask: Tensor | None,
) -> GradientSensitivity:
    """Estimate how much each row's clipped gradient changes with the row's values, from one random direction per row.

    The estimate is unbiased, so errors average out over steps. `rng` samples the entries -1 or 1 of the directions;
    entries outside `coordinate_mask` are 0. Other arguments are those of `probe_sensitivity`.
    """
    return probe_sensitivity(loss, network, build, z, clip_fn, rademacher_directions(z, rng, coordinate_mask))


def estimate_by_coordinate(
    loss: LossFunction,
    network: nn.Module,
    build: ExampleBuilder,
    z: Tensor,
    clip_fn: ClipFn,
    rng: RandomStream,
    coordinate_mask: Tensor | None,
) -> GradientSensitivity:
    """Compute exactly how much each row's clipped gradient changes with the row's values.

    The values that count are those in `coordinate_mask`; the cost grows with their number. `rng` is not used. Other
    arguments are those of `exact_sensitivity`.
    """
    return exact_sensitivity(loss, network, build, z, clip_fn, coordinate_mask)


class LeakageTracker:
    """Tracker of the Fisher information loss of selected rows. It holds these rows, so it must never be released."""

    def __init__(
        self,
        rows: Float[Tensor, " b *d"],
        build_at: ExampleBuilderAt,
        *,
        rate: float,
        rng: Rng,
        estimator: SensitivityEstimator = estimate_by_probe,
        every: int = 1,
        coordinate_mask: Bool[Tensor, " *d"] | None = None,
    ) -> None:
        """Initialise at step 0.

        Args:
            rows: Rows to track.
            build_at: (network, step) -> builder of training examples from rows.
            rate: Sampling rate: probability that a row is in the batch of a step.
            rng: Random streams of the probes, used by nothing else.
            estimator: Estimator of the gradient sensitivity.
            every: Steps per measurement; each measurement counts for `every` steps.
            coordinate_mask: Coordinates to measure (default: all).
        """
        check_number("rate", rate, gt=0, le=1)
        if every < 1:
            raise UsageError("`every` of at least 1", every)
        self.rows, self.build_at, self.rate, self.rng = rows, build_at, rate, rng
        self.estimator, self.every, self.coordinate_mask = estimator, every, coordinate_mask
        self.leakage = FisherLeakage.zeros(
            len(rows), rows[0].numel() if coordinate_mask is None else int(coordinate_mask.sum())
        )
        self.steps = 0
        """Steps taken."""

    def restore(self, leakage: FisherLeakage, steps: int) -> None:
        """Set the information loss and the number of steps to those of a checkpoint."""
        self.leakage, self.steps = leakage, steps

    def update(self, loss: LossFunction, network: nn.Module, clip: float, scale: float) -> None:
        """Add the information loss of one step for all tracked rows, whether they are in the batch or not.

        Args:
            loss: Function (network, examples) -> loss of each example, [b].
            network: Network before the step.
            clip: Clipping norm of each row's gradient.
            scale: Standard deviation of the noise on the gradient sum.
        """
        if self.steps % self.every == 0:
            stream, clip_fn = self.rng.stream("probes", self.steps), partial(hard_clip, clip=clip)
            sensitivity = self.estimator(
                loss, network, self.build_at(network, self.steps), self.rows, clip_fn, stream, self.coordinate_mask
            )
            self.leakage = self.leakage.add_step(sensitivity.fisher_trace(self.rate, scale).cpu(), float(self.every))
        self.steps += 1


@dataclass(frozen=True, kw_only=True)
class TrackedGradient(Gradient):
    """DP-SGD gradient that also updates a `LeakageTracker`; the tracking does not change any bit of the gradient."""

    inner: DPSGD
    tracker: LeakageTracker

    def __post_init__(self) -> None:
        if not self.inner.sigma:
            raise UsageError("leakage tracking needs a gradient with noise", remedy="Set a noise multiplier above 0")

    def __call__(
        self, loss: LossFunction, network: nn.Module, micro_batches: Iterable[dict[str, Any]], expected_size: float
    ) -> Tensor:
        clip = self.inner.clip
        with torch.random.fork_rng(devices=[]):
            self.tracker.update(loss, network, clip.norm, clip.sum_sigma(self.inner.sigma) * clip.norm)
        return self.inner(loss, network, micro_batches, expected_size)

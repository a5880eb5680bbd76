"""Private training that tracks the Fisher information about chosen rows."""

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
"""Longest smoothly cut gradient, in clip norms, at a length of 1.5487: noise in units of it is less by this factor."""


def hard_clip(norms: Float[Tensor, " *b"], clip: float) -> Float[Tensor, " *b"]:
    """Return min(1, clip / norm), which has a slope everywhere but at the clip norm, where it takes that from below."""
    return clip / norms.clamp(min=clip)


def smooth_clip(norms: Float[Tensor, " *b"], clip: float) -> Float[Tensor, " *b"]:
    """Return 1 / (1 + GELU(norm / clip - 1)): it has a slope everywhere; gradients can be `SMOOTH_CLIP_OVERSHOOT` long.

    Source: Guo, Karrer, Chaudhuri and van der Maaten 2022, arXiv 2201.12383, section 5.
    """
    return 1 / (1 + gelu(norms / clip - 1))


ExampleBuilderAt = Callable[[nn.Module, int], ExampleBuilder]
"""From the network and the number of a look to what makes examples of rows, at random numbers of that look."""
SensitivityEstimator = Callable[
    [LossFunction, nn.Module, ExampleBuilder, Tensor, ClipFn, RandomStream, Tensor | None], GradientSensitivity
]
"""`estimate_by_probe` or `estimate_by_coordinate`."""


def estimate_by_probe(
    loss: LossFunction,
    network: nn.Module,
    build: ExampleBuilder,
    z: Tensor,
    clip_fn: ClipFn,
    rng: RandomStream,
    coordinate_mask: Tensor | None,
) -> GradientSensitivity:
    """Estimate by one direction for each row; errors average out over steps."""
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
    """Go through all coordinates: exact, and as many times dearer."""
    return exact_sensitivity(loss, network, build, z, clip_fn, coordinate_mask)


class LeakageTracker:
    """The account of some rows. It holds the rows and what is told about each: for their holder, not for the model."""

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
        """Begin before the first step.

        Args:
            rows: Rows.
            build_at: Makes the examples that the loss takes.
            rate: Chance of a row to be in the sample of a step.
            rng: Of probes; a source that nothing else draws from.
            estimator: Sizes are found.
            every: So many steps are looked at once.
            coordinate_mask: Coordinates that it is about; all by default.
        """
        check_number("rate", rate, gt=0, le=1)
        if every < 1:
            raise UsageError("to look every 1 or more steps", f"every {every}")
        self.rows, self.build_at, self.rate, self.rng = rows, build_at, rate, rng
        self.estimator, self.every, self.coordinate_mask = estimator, every, coordinate_mask
        self.leakage = FisherLeakage.zeros(
            len(rows), rows[0].numel() if coordinate_mask is None else int(coordinate_mask.sum())
        )
        self.steps = 0
        """That were taken."""

    def restore(self, leakage: FisherLeakage, steps: int) -> None:
        """Go on with the account of an earlier sitting, after some steps."""
        self.leakage, self.steps = leakage, steps

    def update(self, loss: LossFunction, network: nn.Module, clip: float, scale: float) -> None:
        """Add what a step at these weights tells about each row, whether it is in the batch or not."""
        if self.steps % self.every == 0:
            stream, clip_fn = self.rng.stream("probes", self.steps), partial(hard_clip, clip=clip)
            pull = self.estimator(
                loss, network, self.build_at(network, self.steps), self.rows, clip_fn, stream, self.coordinate_mask
            )
            self.leakage = self.leakage.add_step(pull.fisher_trace(self.rate, scale).cpu(), float(self.every))
        self.steps += 1


@dataclass(frozen=True, kw_only=True)
class TrackedGradient(Gradient):
    """A private gradient, as it is without a watch, to the last bit."""

    inner: DPSGD
    tracker: LeakageTracker

    def __post_init__(self) -> None:
        if not self.inner.sigma:
            raise UsageError("without noise everything is told; there is nothing to keep account of")

    def __call__(
        self, loss: LossFunction, network: nn.Module, micro_batches: Iterable[dict[str, Any]], expected_size: float
    ) -> Tensor:
        clip = self.inner.clip
        with torch.random.fork_rng(devices=[]):
            self.tracker.update(loss, network, clip.norm, clip.sum_sigma(self.inner.sigma) * clip.norm)
        return self.inner(loss, network, micro_batches, expected_size)

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
from feller.privacy.dp_sgd.private_gradient import Private
from feller.privacy.leakage.fisher_information import Leakage
from feller.privacy.leakage.probes import Cut, Pull, coordinate_by_coordinate, probed, signs
from feller.privacy.leakage.row_gradients import Build

OVERSHOOT = 1.115221
"""Longest smoothly cut gradient, in clip norms, at a length of 1.5487: noise in units of it is less by this factor."""


def hard_clip(norms: Float[Tensor, " *b"], clip: float) -> Float[Tensor, " *b"]:
    """Return min(1, clip / norm), which has a slope everywhere but at the clip norm, where it takes that from below."""
    return clip / norms.clamp(min=clip)


def smooth_clip(norms: Float[Tensor, " *b"], clip: float) -> Float[Tensor, " *b"]:
    """Return 1 / (1 + GELU(norm / clip - 1)), which has a slope everywhere, and lets gradients be `OVERSHOOT` long.

    Source: Guo, Karrer, Chaudhuri and van der Maaten 2022, arXiv 2201.12383, section 5.
    """
    return 1 / (1 + gelu(norms / clip - 1))


BuildAt = Callable[[nn.Module, int], Build]
"""From the network and the number of a look to what makes examples of rows, at random numbers of that look."""
How = Callable[[LossFunction, nn.Module, Build, Tensor, Cut, RandomStream, Tensor | None], Pull]
"""`by_probe` or `by_coordinate`."""


def by_probe(
    loss: LossFunction, network: nn.Module, build: Build, z: Tensor, cut: Cut, draw: RandomStream, which: Tensor | None
) -> Pull:
    """Estimate by one direction for each row; errors average out over steps."""
    return probed(loss, network, build, z, cut, signs(z, draw, which))


def by_coordinate(
    loss: LossFunction, network: nn.Module, build: Build, z: Tensor, cut: Cut, draw: RandomStream, which: Tensor | None
) -> Pull:
    """Go through all coordinates: exact, and as many times dearer."""
    return coordinate_by_coordinate(loss, network, build, z, cut, which)


class Watch:
    """The account of some rows. It holds the rows and what is told about each: for their holder, not for the model."""

    def __init__(
        self,
        z: Float[Tensor, " b *d"],
        build: BuildAt,
        *,
        rate: float,
        draws: Rng,
        how: How = by_probe,
        every: int = 1,
        which: Bool[Tensor, " *d"] | None = None,
    ) -> None:
        """Begin before the first step.

        Args:
            z: Rows.
            build: Makes the examples that the loss takes.
            rate: Chance of a row to be in the sample of a step.
            draws: Of probes; a source that nothing else draws from.
            how: Sizes are found.
            every: So many steps are looked at once.
            which: Coordinates that it is about; all by default.
        """
        check_number("rate", rate, gt=0, le=1)
        if every < 1:
            raise UsageError("to look every 1 or more steps", f"every {every}")
        self.z, self.build, self.rate, self.draws = z, build, rate, draws
        self.how, self.every, self.which = how, every, which
        self.leakage = Leakage.none(len(z), z[0].numel() if which is None else int(which.sum()))
        self.steps = 0
        """That were taken."""

    def restore(self, leakage: Leakage, steps: int) -> None:
        """Go on with the account of an earlier sitting, after some steps."""
        self.leakage, self.steps = leakage, steps

    def look(self, loss: LossFunction, network: nn.Module, clip: float, scale: float) -> None:
        """Add what a step at these weights tells about each row, whether it is in the batch or not."""
        if self.steps % self.every == 0:
            draw, way = self.draws.stream("probes", self.steps), partial(hard_clip, clip=clip)
            pull = self.how(loss, network, self.build(network, self.steps), self.z, way, draw, self.which)
            self.leakage = self.leakage.plus(pull.trace(self.rate, scale).cpu(), float(self.every))
        self.steps += 1


@dataclass(frozen=True, kw_only=True)
class Watched(Gradient):
    """A private gradient, as it is without a watch, to the last bit."""

    inner: Private
    watch: Watch

    def __post_init__(self) -> None:
        if not self.inner.sigma:
            raise UsageError("without noise everything is told; there is nothing to keep account of")

    def __call__(
        self, loss: LossFunction, network: nn.Module, micro_batches: Iterable[dict[str, Any]], expected_size: float
    ) -> Tensor:
        """Look, then leave the noisy gradient in each trained weight."""
        clip = self.inner.clip
        with torch.random.fork_rng(devices=[]):
            self.watch.look(loss, network, clip.norm, clip.sigma(self.inner.sigma) * clip.norm)
        return self.inner(loss, network, micro_batches, expected_size)

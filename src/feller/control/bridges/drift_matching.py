"""Regression of the drift of a bridge on pinned paths: random paths with given endpoints.

Source: Liu et al. 2024, "Generalized Schrödinger bridge matching", arXiv 2310.02233. Formulas were rederived and
checked against closed forms.
"""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.control.bridges.gaussian_paths import GaussianPaths, drift
from feller.control.bridges.path_integral import WeightedTrajectories
from feller.core.pytree import tree_map
from feller.core.rng import RandomStream, Rng
from feller.networks.bridge_drift import Drift
from feller.paths.time_distributions import Stratified
from feller.training.objective import Batch, Example, Objective

MIN_TIME_GAP = 1e-4
"""Minimum distance of a training time to the ends of its segment, as a fraction of the segment.

The drift is unbounded at the ends.
"""
BaseDrift = Callable[[Tensor, Tensor], Tensor]
"""Function (x [n, d], t [n]) -> drift of the uncontrolled process, [n, d], in state units per unit of global time."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Segment of a bridge: pinned paths of endpoint pairs between two neighbouring populations."""

    start: float
    """Time of the earlier population, where 0 is the first and 1 the last population of the bridge (global time)."""
    duration: float
    paths: GaussianPaths
    """Paths in local time from 0 to 1."""
    weighted_paths: WeightedTrajectories | None = None
    """Weighted trajectories near the paths, from which states are sampled; None to sample from the Gaussian paths."""

    def sample(
        self, pairs: Int[Tensor, " b"], local_times: Float[Tensor, " b"], rng: RandomStream, *, backward: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sample the states of pairs at given times; return global times, states and target drifts, each [2 b, ...].

        A Gaussian path gives two antithetic states per pair, so that the noise in their target drifts cancels.

        Args:
            pairs: Indices of b pairs.
            local_times: Time of each state, from 0 to 1 within the segment.
            rng: Random stream for the states.
            backward: True to return the target drifts of the backward process.
        """
        if self.weighted_paths is not None:
            local_times, x, target = self.weighted_paths.sample(
                pairs.repeat(2), local_times.repeat(2), rng, backward=backward
            )
        else:
            pairs, local_times = pairs.repeat(2), local_times.repeat(2)
            moments = self.paths.moments_at(pairs, local_times)
            z = rng.normal(tuple(moments.mean[: len(pairs) // 2].shape), moments.mean.dtype, moments.mean.device)
            x = moments.mean + moments.std[:, None] * torch.cat([z, -z])
            target = drift(moments, x, local_times, self.paths.noise, backward=backward)
        return self.start + self.duration * local_times, x, target / self.duration


@dataclass(frozen=True)
class DriftMatching(abc.ABC):
    """Base class of methods that fit a drift to pinned paths (random paths with given endpoints) by regression."""

    @abc.abstractmethod
    def objective(
        self, segments: Sequence[Segment], shape: tuple[int, ...], base_drift: BaseDrift | None, *, backward: bool
    ) -> Objective:
        """Return the objective of the forward or backward drift.

        The batches of this objective contain pair indices: {"x_1": [b]}.
        """


@dataclass(frozen=True)
class ExplicitMatching(DriftMatching):
    """Explicit matching: regress the network on the drifts of the pinned paths (random paths with given endpoints).

    The network learns the drift of the mixture of these paths.

    The network learns the total drift, including the base drift, because a residual would inherit the jumps of a
    discontinuous base drift.
    """

    def objective(
        self, segments: Sequence[Segment], shape: tuple[int, ...], base_drift: BaseDrift | None, *, backward: bool
    ) -> Objective:
        return ExplicitMatchingObjective(segments, shape, backward=backward)


@dataclass(frozen=True)
class ImplicitMatching(DriftMatching):
    """Implicit matching: learn the gradient field whose process has the same marginals as the pinned paths.

    Of all drifts with these marginals, the gradient field has the least energy. It is learned from states only, without
    conditional drifts, and requires a `Potential` network.
    Source: entropic action matching, Neklyudov et al. 2023, arXiv 2210.06662.
    """

    def objective(
        self, segments: Sequence[Segment], shape: tuple[int, ...], base_drift: BaseDrift | None, *, backward: bool
    ) -> Objective:
        if base_drift is not None:
            raise ValueError("implicit matching supports no base drift; use ExplicitMatching")
        return ImplicitMatchingObjective(segments, shape, backward=backward)


class SegmentObjective(Objective):
    """Base class of training objectives for the forward or backward drift of a bridge.

    Training examples are sampled from the pinned paths of the segments.
    """

    def __init__(self, segments: Sequence[Segment], shape: tuple[int, ...], *, backward: bool) -> None:
        self.segments, self.shape, self.backward = segments, shape, backward


class ExplicitMatchingObjective(SegmentObjective):
    """Objective that regresses the network on the drifts of the pinned paths, as configured by `ExplicitMatching`.

    The loss is the mean squared error, in units of the network's scaled states.
    """

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        batch_size = len(batch["x_1"])
        pairs = batch["x_1"][::2]  # each pair gives two antithetic states
        u = Stratified()(batch_size, rng.stream("time"), pairs.device)[::2].double()
        pair_rng = Rng(rng.seed, rng.first_example // 2, rng.global_batch_size)
        t, x, target = (values[:batch_size] for values in self._sample_segments(pairs, u, pair_rng))
        return {
            "x_t": x.reshape(batch_size, *self.shape),
            "t": t.to(x.dtype),
            "target": target.reshape(batch_size, *self.shape),
        }

    def loss(self, network: Drift, example: Example) -> Float[Tensor, " b"]:
        error = (network(example["x_t"], example["t"], {}) - example["target"]) / network.scale
        return error.flatten(1).square().mean(1)

    def sample_at(self, t: float, pairs: Int[Tensor, " b"], rng: RandomStream) -> tuple[Tensor, Tensor]:
        """Sample states and target drifts at time t, each [2 b, *shape], for fitting the linear part of a network.

        Args:
            t: Global time, from 0 at the first to 1 at the last population.
            pairs: Indices of b endpoint pairs; each gives two antithetic states.
            rng: Random stream for the states.
        """
        segment = next(
            segment
            for segment in self.segments
            if t <= segment.start + segment.duration or segment is self.segments[-1]
        )
        local_times = torch.full((len(pairs),), (t - segment.start) / segment.duration, dtype=segment.paths.means.dtype)
        _, x, target = segment.sample(
            pairs % len(segment.paths.means), local_times.to(pairs.device), rng, backward=self.backward
        )
        return x.reshape(len(x), *self.shape), target.reshape(len(x), *self.shape)

    def _sample_segments(self, pairs: Tensor, u: Tensor, rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
        """Sample from the segment of each time; the two antithetic states of a pair are half a batch apart."""
        segment_index = torch.zeros_like(pairs)
        for segment in self.segments[1:]:
            segment_index += u > segment.start
        samples: list[tuple[Tensor, Tensor]] = []
        for i, segment in enumerate(self.segments):
            rows = (segment_index == i).nonzero()[:, 0]
            if not len(rows):
                continue
            local_times = (
                ((u[rows] - segment.start) / segment.duration)
                .clamp(MIN_TIME_GAP, 1 - MIN_TIME_GAP)
                .to(segment.paths.means.dtype)
            )
            parts = segment.sample(
                pairs[rows] % len(segment.paths.means), local_times, rng.stream("state", i), backward=self.backward
            )
            times, x, target = parts
            samples.append((torch.cat([rows, rows + len(pairs)]), torch.cat([times[:, None], x, target], 1)))
        order = torch.cat([rows for rows, _ in samples]).argsort()
        merged = torch.cat([values for _, values in samples])[order]
        x, target = merged[:, 1:].chunk(2, 1)
        return merged[:, 0], x, target


class ImplicitMatchingObjective(SegmentObjective):
    """Objective that fits a potential to states of the pinned paths, as configured by `ImplicitMatching`.

    The gradient of the potential is the drift. The loss is in units of the network's scaled states, and may be
    negative.

    For a potential s and the gradient drift u* of the marginals, the expectation of the loss is
    1/2 int E|grad s - u*|^2 dt - 1/2 int E|u*|^2 dt, where the second term does not depend on s.
    """

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Sample both ends of each pair, an intermediate state, and a Hutchinson probe of the Laplacian."""
        pairs = batch["x_1"]
        u = Stratified()(len(pairs), rng.stream("time"), pairs.device)
        segment_index = rng.stream("leg").randint(len(self.segments), (len(pairs),), pairs.device)
        chunks = []
        for i, segment in enumerate(self.segments):
            rows = (segment_index == i).nonzero()[:, 0]
            pair_index = pairs[rows] % len(segment.paths.means)
            local_times = u[rows].clamp(MIN_TIME_GAP, 1 - MIN_TIME_GAP).to(segment.paths.means.dtype)
            t, x, _ = segment.sample(pair_index, local_times, rng.stream("state", i), backward=self.backward)
            ones = torch.ones_like(local_times)
            chunks.append(
                {
                    "x_t": x[: len(rows)].reshape(-1, *self.shape),
                    "t": t[: len(rows)],
                    "x_0": segment.paths.means[pair_index, 0].reshape(-1, *self.shape),
                    "x_1": segment.paths.means[pair_index, -1].reshape(-1, *self.shape),
                    "t_0": segment.start * ones,
                    "t_1": (segment.start + segment.duration) * ones,
                    "weight": segment.duration * ones,
                    "noise": segment.paths.noise / segment.duration**0.5 * ones,
                }
            )
        merged = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
        is_positive = rng.stream("probe").bernoulli(0.5, tuple(merged["x_t"].shape), pairs.device)
        probe = torch.where(is_positive, 1.0, -1.0).to(merged["x_t"].dtype)
        return {**tree_map(lambda leaf: leaf.contiguous(), merged), "probe": probe}

    def loss(self, network: Drift, example: Example) -> Float[Tensor, " b"]:
        """Return the loss of each pair: the potential at the endpoints, plus an interior term at one random time."""

        def scaled(x: Tensor) -> Tensor:
            return (x - network.centre) / network.scale

        sign, weight = -1.0 if self.backward else 1.0, example["weight"]
        z, t = scaled(example["x_t"]).requires_grad_(), example["t"].clone().requires_grad_()
        boundary = network.potential(scaled(example["x_0"]), example["t_0"], {}) - network.potential(
            scaled(example["x_1"]), example["t_1"], {}
        )
        with torch.enable_grad():
            potential = network.potential(z, t, {}).sum()
            grad, time_derivative = torch.autograd.grad(potential, (z, t), create_graph=True)
            (probe_product,) = torch.autograd.grad((grad * example["probe"]).sum(), z, create_graph=True)
        laplacian = (probe_product * example["probe"]).flatten(1).sum(1)
        noise = example["noise"] / network.scale
        interior = sign * time_derivative + grad.flatten(1).square().sum(1) / 2 + noise.square() / 2 * laplacian
        return len(self.segments) * (sign * boundary + weight * interior)

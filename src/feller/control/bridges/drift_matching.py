"""Regressing the drift of a process on the pinned paths of many pairs.

Source: Liu et al. 2024, "Generalized Schrödinger bridge matching", arXiv 2310.02233. Formulas were derived anew and
checked on closed forms.
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
"""Nearest that a training time comes to an end of its leg, as a share of it: there drifts have no bounds."""
BaseDrift = Callable[[Tensor, Tensor], Tensor]
"""(x [n, d], t [n]) -> drift that acts by itself, [n, d], in state per time of the whole journey."""


@dataclass(frozen=True, eq=False)
class Segment:
    """The pinned paths of pairs between two neighbouring populations."""

    start: float
    """Time of the first population, of a journey from 0 to 1."""
    duration: float
    paths: GaussianPaths
    """In the leg's own time from 0 to 1."""
    weighted_paths: WeightedTrajectories | None = None
    """Trajectories near these paths, with the weights that the cost gives them; None to draw from the paths alone."""

    def sample(
        self, pairs: Int[Tensor, " b"], local_times: Float[Tensor, " b"], rng: RandomStream, *, backward: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return times, states [b, d] and drifts there, in time of the journey; twice as many as pairs are asked for.

        Of the Gaussian paths each pair gives two states, opposite of its mean: the noise of their drifts cancels.
        """
        if self.weighted_paths is not None:
            local_times, x, target = self.weighted_paths.sample(
                pairs.repeat(2), local_times.repeat(2), rng, backward=backward
            )
        else:
            pairs, local_times = pairs.repeat(2), local_times.repeat(2)
            moments = self.paths.moments_at(pairs, local_times)
            half = rng.normal(tuple(moments.mean[: len(pairs) // 2].shape), moments.mean.dtype, moments.mean.device)
            x = moments.mean + moments.std[:, None] * torch.cat([half, -half])
            target = drift(moments, x, local_times, self.paths.noise, backward=backward)
        return self.start + self.duration * local_times, x, target / self.duration


@dataclass(frozen=True)
class DriftMatching(abc.ABC):
    """How a drift is learned from pinned paths."""

    @abc.abstractmethod
    def objective(
        self, segments: Sequence[Segment], shape: tuple[int, ...], base_drift: BaseDrift | None, *, backward: bool
    ) -> Objective:
        """Return what is trained: the drift ahead, or that back in time, of states of a shape.

        Batches are pairs by their number: {"x_1": whole numbers, [b]}.
        """


@dataclass(frozen=True)
class ExplicitMatching(DriftMatching):
    """Regress the drift on the pinned paths' own: the drift of their mixture, the same for every use of the paths.

    A base drift is a part of it. What is left without it need not be learned: where the base jumps it would jump too.
    """

    def objective(
        self, segments: Sequence[Segment], shape: tuple[int, ...], base_drift: BaseDrift | None, *, backward: bool
    ) -> Objective:
        return ExplicitMatchingObjective(segments, shape, backward=backward)


@dataclass(frozen=True)
class ImplicitMatching(DriftMatching):
    """Find the gradient field that carries the paths' marginals: of all drifts that do so, that of the least energy.

    It looks at states alone, never at drifts, and takes networks of the kind `Potential`.
    Source: entropic action matching, Neklyudov et al. 2023, arXiv 2210.06662.
    """

    def objective(
        self, segments: Sequence[Segment], shape: tuple[int, ...], base_drift: BaseDrift | None, *, backward: bool
    ) -> Objective:
        if base_drift is not None:
            raise ValueError("the implicit loss knows gradient fields alone; with a base drift take the explicit one")
        return ImplicitMatchingObjective(segments, shape, backward=backward)


class SegmentObjective(Objective):
    """What is trained on the legs of a journey of states of a shape: ahead, or back in time."""

    def __init__(self, segments: Sequence[Segment], shape: tuple[int, ...], *, backward: bool) -> None:
        self.segments, self.shape, self.backward = segments, shape, backward


class ExplicitMatchingObjective(SegmentObjective):
    """The objective of `ExplicitMatching`; the loss is in units of the network's scaled states."""

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        number = len(batch["x_1"])
        pairs = batch["x_1"][::2]  # each stands for two states
        u = Stratified()(number, rng.stream("time"), pairs.device)[::2].double()
        halved = Rng(rng.seed, rng.first_example // 2, rng.global_batch_size)  # of those that stand for two
        t, x, target = (part[:number] for part in self._sample_segments(pairs, u, halved))
        return {
            "x_t": x.reshape(number, *self.shape),
            "t": t.to(x.dtype),
            "target": target.reshape(number, *self.shape),
        }

    def loss(self, network: Drift, example: Example) -> Float[Tensor, " b"]:
        error = (network(example["x_t"], example["t"], {}) - example["target"]) / network.scale
        return error.flatten(1).square().mean(1)

    def sample_at(self, t: float, pairs: Int[Tensor, " b"], rng: RandomStream) -> tuple[Tensor, Tensor]:
        """Return states and drifts at one time, [2 b, *shape] each, as the linear part of a network is fitted to."""
        segment = next(
            segment
            for segment in self.segments
            if t <= segment.start + segment.duration or segment is self.segments[-1]
        )
        local = torch.full((len(pairs),), (t - segment.start) / segment.duration, dtype=segment.paths.means.dtype)
        _, x, target = segment.sample(
            pairs % len(segment.paths.means), local.to(pairs.device), rng, backward=self.backward
        )
        return x.reshape(len(x), *self.shape), target.reshape(len(x), *self.shape)

    def _sample_segments(self, pairs: Tensor, u: Tensor, rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
        """Draw from the leg that each time is in; the halves of a pair stay a half of the batch apart."""
        segment_index = torch.zeros_like(pairs)
        for segment in self.segments[1:]:
            segment_index += u > segment.start
        made: list[tuple[Tensor, Tensor]] = []
        for number, segment in enumerate(self.segments):
            rows = (segment_index == number).nonzero()[:, 0]
            if not len(rows):
                continue
            local = (
                ((u[rows] - segment.start) / segment.duration)
                .clamp(MIN_TIME_GAP, 1 - MIN_TIME_GAP)
                .to(segment.paths.means.dtype)
            )
            parts = segment.sample(
                pairs[rows] % len(segment.paths.means), local, rng.stream("state", number), backward=self.backward
            )
            times, x, target = parts
            made.append((torch.cat([rows, rows + len(pairs)]), torch.cat([times[:, None], x, target], 1)))
        order = torch.cat([rows for rows, _ in made]).argsort()
        whole = torch.cat([part for _, part in made])[order]
        x, target = whole[:, 1:].chunk(2, 1)
        return whole[:, 0], x, target


class ImplicitMatchingObjective(SegmentObjective):
    """The objective of `ImplicitMatching`, whose loss may be below zero; in units of the network's scaled states.

    With s the potential and u* the gradient drift of the marginals, its mean is
    1/2 int E|grad s - u*|^2 dt - 1/2 int E|u*|^2 dt, which no drift has a part in but through s.
    """

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Draw for each pair of a leg both ends, a state between, and a probe of the Laplacian."""
        pairs = batch["x_1"]
        u = Stratified()(len(pairs), rng.stream("time"), pairs.device)
        turn = rng.stream("leg").randint(len(self.segments), (len(pairs),), pairs.device)
        parts = []
        for number, segment in enumerate(self.segments):
            rows = (turn == number).nonzero()[:, 0]
            own = pairs[rows] % len(segment.paths.means)
            local = u[rows].clamp(MIN_TIME_GAP, 1 - MIN_TIME_GAP).to(segment.paths.means.dtype)
            t, x, _ = segment.sample(own, local, rng.stream("state", number), backward=self.backward)
            one = torch.ones_like(local)
            parts.append(
                {
                    "x_t": x[: len(rows)].reshape(-1, *self.shape),
                    "t": t[: len(rows)],
                    "x_0": segment.paths.means[own, 0].reshape(-1, *self.shape),
                    "x_1": segment.paths.means[own, -1].reshape(-1, *self.shape),
                    "t_0": segment.start * one,
                    "t_1": (segment.start + segment.duration) * one,
                    "weight": segment.duration * one,
                    "noise": segment.paths.noise / segment.duration**0.5 * one,
                }
            )
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        coins = rng.stream("probe").bernoulli(0.5, tuple(whole["x_t"].shape), pairs.device)
        probe = torch.where(coins, 1.0, -1.0).to(whole["x_t"].dtype)
        return {**tree_map(lambda leaf: leaf.contiguous(), whole), "probe": probe}

    def loss(self, network: Drift, example: Example) -> Float[Tensor, " b"]:
        """Return the difference of the ends' potentials and the rest, at one time of each pair."""

        def scaled(x: Tensor) -> Tensor:
            return (x - network.centre) / network.scale

        direction, one = -1.0 if self.backward else 1.0, example["weight"]
        z, t = scaled(example["x_t"]).requires_grad_(), example["t"].clone().requires_grad_()
        ends = network.potential(scaled(example["x_0"]), example["t_0"], {}) - network.potential(
            scaled(example["x_1"]), example["t_1"], {}
        )
        with torch.enable_grad():
            value = network.potential(z, t, {}).sum()
            slope, change = torch.autograd.grad(value, (z, t), create_graph=True)
            (bend,) = torch.autograd.grad((slope * example["probe"]).sum(), z, create_graph=True)
        laplacian = (bend * example["probe"]).flatten(1).sum(1)
        noise = example["noise"] / network.scale
        inside = direction * change + slope.flatten(1).square().sum(1) / 2 + noise.square() / 2 * laplacian
        return len(self.segments) * (direction * ends + one * inside)

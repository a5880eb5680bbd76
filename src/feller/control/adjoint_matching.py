"""Adjoint Matching: a model that samples its law tilted by a reward, without losing what the reward does not ask for.

Source: Domingo-Enrich et al. 2024, "Adjoint Matching", arXiv 2409.08861.
"""

import abc
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.chain import Chain, Step, adjoint_steps, roll_out, squared
from feller.control.reward import Reward, reward_gradient
from feller.draws import Draws
from feller.errors import UsageError
from feller.guidance import cfg
from feller.objective import Batch, Bound, Example, Objective, counted
from feller.paths import Affine, Network, Path
from feller.paths.product import parts
from feller.paths.rescheduled import rescheduled
from feller.processes import Process
from feller.schedules import Linear
from feller.simulate import LinearSolver, MemorylessEuler
from feller.spaces import Space
from feller.times import linear_grid
from feller.tree import Given, State, leaves, length, pad_right, spread, tree_map


class Weighting(abc.ABC):
    """How much the velocity counts at each time; every choice has the same minimiser."""

    @abc.abstractmethod
    def weight(self, step: Step) -> float:
        """Return the factor on half the squared difference of velocities."""


@dataclass(frozen=True)
class ByControl(Weighting):
    """Squared controls, as the paper has them: little early, much late."""

    def weight(self, step: Step) -> float:
        """Return that of the step."""
        return step.weight


@dataclass(frozen=True)
class ByVelocity(Weighting):
    """Squared velocities, all alike."""

    def weight(self, step: Step) -> float:
        """Return the length of the step, near enough."""
        return step.linear.on_velocity


class Adjoint(abc.ABC):
    """What is followed back from the end."""

    @abc.abstractmethod
    def of(self, tuned: Process) -> Process | None:
        """Return the controlled flow that the adjoint belongs to; None for the base alone."""


@dataclass(frozen=True)
class Lean(Adjoint):
    """The base alone: what the optimum makes zero on average is left out, and with it most of the noise."""

    def of(self, tuned: Process) -> None:
        """Return None."""


@dataclass(frozen=True)
class Full(Adjoint):
    """The controlled chain and its cost: the gradient of the control problem itself, known as continuous adjoint."""

    def of(self, tuned: Process) -> Process:
        """Return the tuned flow."""
        return tuned


@dataclass(frozen=True, kw_only=True)
class AdjointMatching(Objective):
    """Regress the velocity on what the lean adjoint of memoryless roll-outs asks for.

    The only fixed point is the law p(x) exp(strength reward(x)), up to its total mass. It is no descent: the loss says
    nothing of progress, the reward and the divergence from the base do. First rounds overshoot.
    """

    path: Path
    space: Space
    strength: float = 1.0
    """Factor on the reward: how many nats of likelihood one unit of it is worth."""
    steps: int = 40
    """Of a roll-out."""
    share: float = 0.5
    """Of these, those that the loss looks at: the last quarter, and others by chance."""
    solver: LinearSolver = field(default_factory=MemorylessEuler)
    """Makes the steps. With another than memoryless noise the start is not forgotten, and what is learned is not the
    tilted law."""
    weighting: Weighting = ByControl()
    adjoint: Adjoint = Lean()
    ceiling: float | None = None
    """Losses of single states beyond which they do not count. It hides what tells modes apart, so that they are tilted
    too little; None for none."""
    guidance: float = 1.0
    """Of roll-outs, adjoint and loss alike; the law that is tilted is then that of guided samples."""
    drop: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise UsageError(f"expected roll-outs of at least 2 steps, got {self.steps}")
        if not 0 < self.share <= 1:
            raise UsageError(f"expected a share of the steps above 0, at most 1, got {self.share:g}")
        if self.strength < 0:
            raise UsageError(f"expected a strength of 0 or more, got {self.strength:g}; change the sign of the reward")
        check_memoryless(self.path)

    def against(self, base: Network, reward: Reward) -> Objective:
        """Return the objective with the network that it starts from, which stays as it is, and the reward."""
        return _Against(self, base, reward)

    def draw(self, network: Any, batch: Batch, draws: Draws) -> Example:
        """Refuse: there is no reward.

        Raises:
            UsageError: Always.
        """
        raise UsageError("adjoint matching needs a reward and a model to start from: `feller tune` has both")

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return half the weighted squared difference of velocities, over all numbers."""
        return self.compare(self.process(network, example["given"]), example)

    def compare(self, process: Process, example: Example) -> Float[Tensor, " b"]:
        """Return the loss of a flow."""
        x_t, t = example["x_t"], example["t"]
        found = tree_map(lambda part: part.velocity, process(x_t, t))
        marks = counted(example["given"], spread(t, x_t))
        losses = example["weight"] / 2 * squared(*(_only(marks, v) for v in (found, example["target"])))
        return losses if self.ceiling is None else losses.clamp(max=self.ceiling)

    def process(self, network: Network, given: Given, nulls: dict[str, Any] | None = None) -> Process:
        """Return the flow of a network on straight paths, on which the steps are most exact.

        Args:
            network: Which.
            given: Conditions.
            nulls: Those that it can do without, for guidance; by default as the network says.
        """
        nulls = getattr(network, "nulls", {}) if nulls is None else nulls
        absent = tuple(name for name in given if name in nulls)
        path, guided = self.path, cfg(network, self.guidance, absent=absent, nulls=nulls)
        if any(part.schedule != Linear() for part in parts(path) if isinstance(part, Affine)):
            path, guided = rescheduled(path, guided, Linear())
        return path.process(guided, given)


def check_memoryless(path: Path) -> None:
    """Refuse a path whose process has no memoryless noise.

    Raises:
        UsageError: If a part of it is none of straight lines with a normal source, or has a noise of its own.
    """
    for part in parts(path):
        if not isinstance(part, Affine) or part.noise is not None:
            raise UsageError(
                f"tuning needs the memoryless noise, which flows of numbers have (points, pictures); a path of kind"
                f" {type(part).__name__} has none"
            )


def _only(marks: State | None, x: State) -> State:
    """Set to zero what is not marked."""
    if marks is None:
        return x
    return tree_map(lambda mark, leaf: torch.where(pad_right(mark, leaf), leaf, 0.0), spread(marks, x), x)


class _Against(Bound):
    """Adjoint matching with its base and reward."""

    def __init__(self, rule: AdjointMatching, base: Network, reward: Reward) -> None:
        super().__init__(rule)
        self.base, self.reward = base, reward
        self.nulls = getattr(base, "nulls", {})

    def draw(self, network: Any, batch: Batch, draws: Draws) -> Example:
        """Roll out the network, ask the reward about the ends, and go back along the adjoint of the base.

        Returns:
            States and the velocity that each asks for; `reward` of the end of its roll-out, and `cost`, half the
            squared control along it: their means tell how it goes, the second is the divergence from the base in nats.
        """
        rule, x_0, given = self.rule, batch["x_0"], batch.get("given", {})
        times, solver = linear_grid(rule.steps), rule.solver
        tuned, base = (rule.process(one, given, self.nulls) for one in (network, self.base))
        with torch.no_grad():
            chain = roll_out(tuned, x_0, times, solver, draws)
        reward, gradient = reward_gradient(self.reward, chain.end, given)
        slope = tree_map(lambda leaf: rule.strength * leaf, gradient)
        cost, kept, which = torch.zeros_like(reward), [], _looked_at(rule.steps, rule.share, draws)
        for step in adjoint_steps(base, chain, times, solver, slope, rule.adjoint.of(tuned)):
            cost = cost + step.cost(chain.velocities[step.number])
            if step.number in which:
                kept.append(self._example(step, chain, times[step.number], given))
        told = [{**example, "reward": reward, "cost": cost} for example in kept]
        return tree_map(lambda *steps: torch.stack(steps, 1).flatten(0, 1), *told)  # all steps of a row together

    def _example(self, step: Step, chain: Chain, t: float, given: Given) -> Example:
        x_t = chain.states[step.number]
        n, some = length(x_t), next(leaves(x_t))
        return {
            "x_t": x_t,
            "t": torch.full((n,), t, dtype=some.dtype, device=some.device),
            "given": given,
            "target": step.target(),
            "weight": torch.full((n,), self.rule.weighting.weight(step), dtype=some.dtype, device=some.device),
        }

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Compare velocities, as the rule says."""
        return self.rule.compare(self.rule.process(network, example["given"], self.nulls), example)


def _looked_at(steps: int, share: float, draws: Draws) -> set[int]:
    """Choose the last quarter of the steps, and others by chance, one choice for the whole batch."""
    count = max(1, round(share * steps))
    last = min(count, steps // 4)
    others = torch.randperm(steps - last, generator=draws.at("steps").shared())[: count - last]
    return {*range(steps - last, steps), *others.tolist()}

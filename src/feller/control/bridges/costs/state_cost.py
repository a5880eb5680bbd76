"""State costs V(x, t) per unit of time; mean-field costs also depend on the population."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from feller.control.bridges.costs.gaussian_mixture import log_density
from feller.core.errors import InputError, UsageError

InsideFn = Callable[[Tensor], Tensor]
"""Function from states [*b, d] to a mask [*b] that is True for states inside an obstacle."""


@dataclass(frozen=True, eq=False)
class PopulationDensity:
    """Population at several times, represented by samples and a kernel density estimate."""

    samples: Float[Tensor, "times n d"]
    """One population sample for each evaluated state, independent of that state."""
    centres: Float[Tensor, "times k d"]
    """Centres of the Gaussian kernels."""
    widths: Float[Tensor, "times k"] | float
    """Standard deviation of the Gaussian kernels; positive."""

    def log_density(self, x: Float[Tensor, "times n d"]) -> Float[Tensor, "times n"]:
        """Return the log density of the population at x; the gradient flows only through x."""
        widths = torch.as_tensor(self.widths, dtype=x.dtype, device=x.device).expand(self.centres.shape[:2])
        return log_density(x, self.centres.to(x.dtype), widths)


class StateCost(abc.ABC):
    """Base class of state costs V in units of squared length, for a process on [0, 1]. Subclasses implement `__call__`.

    A bridge minimises E int 1/2 |u|^2 + V dt, where u is the control: the drift minus the drift of the uncontrolled
    process. For costs `a` and `b`, `a + b` and `2.0 * a` are costs too.
    """

    @property
    def needs_population(self) -> bool:
        """True if the cost depends on the population."""
        return False

    @property
    def differentiable(self) -> bool:
        """True if optimisers can use the gradient of the cost with respect to the state; False for a step function."""
        return True

    @property
    def obstacles(self) -> tuple[InsideFn, ...]:
        """Functions that test whether states are inside an obstacle of the cost, for reports."""
        return ()

    def is_blocked(self, x: Float[Tensor, "*b d"]) -> Bool[Tensor, "*b"]:
        """Return a mask that is True for states inside an obstacle of the cost."""
        none_inside = torch.zeros(x.shape[:-1], dtype=torch.bool, device=x.device)
        return torch.stack([none_inside, *(inside(x) for inside in self.obstacles)]).any(0)

    @abc.abstractmethod
    def __call__(
        self, x: Float[Tensor, "*b d"], t: Tensor, population: PopulationDensity | None = None
    ) -> Float[Tensor, "*b"]:
        """Return the cost of states at times broadcastable to [*b]; `population` is given if `needs_population`."""

    def bind_pairs(self, x_0: Float[Tensor, "pairs d"], x_1: Float[Tensor, "pairs d"]) -> "StateCost":
        """Return the cost for the given endpoint pairs; a cost that does not depend on endpoints returns itself.

        Callers bind the pairs once, and then evaluate the returned cost at states [times, pairs * samples, d].
        State i belongs to pair i // samples.
        """
        return self

    def validated(
        self, x: Float[Tensor, "*b d"], t: Tensor, population: PopulationDensity | None = None
    ) -> "StateCost":
        """Check the cost on the states x at times t, and return the cost to use in its place.

        This is the same cost, unless a subclass finds that its gradient cannot be used and marks the returned cost as
        not `differentiable`.

        Raises:
            InputError: If a value or gradient is not finite, or if the shape of the values is not [*b].
        """
        check_finite(self, x, t, population)
        return self

    def __add__(self, other: "StateCost") -> "StateCost":
        """Return the sum of two costs."""
        return Sum((*_parts(self), *_parts(other)))

    def __mul__(self, factor: float) -> "StateCost":
        """Return the cost multiplied by a factor."""
        return Scaled(self, factor)

    __rmul__ = __mul__


@dataclass(frozen=True)
class Zero(StateCost):
    """State cost that is 0 everywhere: the bridge then minimises the energy of its control only."""

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        return 0.0 * x.sum(-1)


@dataclass(frozen=True)
class Sum(StateCost):
    """Sum of costs."""

    terms: tuple[StateCost, ...]

    @property
    def needs_population(self) -> bool:
        return any(term.needs_population for term in self.terms)

    @property
    def differentiable(self) -> bool:
        return all(term.differentiable for term in self.terms)

    @property
    def obstacles(self) -> tuple[InsideFn, ...]:
        return tuple(obstacle for term in self.terms for obstacle in term.obstacles)

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        total, *values = (term(x, t, population) for term in self.terms)
        for value in values:
            total = total + value
        return total

    def bind_pairs(self, x_0: Tensor, x_1: Tensor) -> StateCost:
        return Sum(tuple(term.bind_pairs(x_0, x_1) for term in self.terms))

    def validated(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> StateCost:
        return Sum(tuple(term.validated(x, t, population) for term in self.terms))


@dataclass(frozen=True)
class CostWrapper(StateCost):
    """Base class of costs that wrap another cost and have the properties of the wrapped cost."""

    cost: StateCost

    @property
    def needs_population(self) -> bool:
        return self.cost.needs_population

    @property
    def differentiable(self) -> bool:
        return self.cost.differentiable

    @property
    def obstacles(self) -> tuple[InsideFn, ...]:
        return self.cost.obstacles


@dataclass(frozen=True)
class Scaled(CostWrapper):
    """Cost multiplied by a factor."""

    factor: float

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        return self.factor * self.cost(x, t, population)

    def bind_pairs(self, x_0: Tensor, x_1: Tensor) -> StateCost:
        return replace(self, cost=self.cost.bind_pairs(x_0, x_1))

    def validated(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> StateCost:
        return replace(self, cost=self.cost.validated(x, t, population))


def check(
    cost: StateCost, x: Float[Tensor, "*b d"], t: Tensor, population: PopulationDensity | None = None
) -> StateCost:
    """Check a cost on the states x at times t, and return the cost to use in its place.

    In the returned cost, a custom function without a usable gradient is marked as not `differentiable`.

    Args:
        cost: Cost to check.
        x: States; [times, n, d] if the cost depends on the population.
        t: Times, broadcastable to [*b].
        population: Population at these times.

    Raises:
        InputError: If a value or gradient is not finite, or if there is not exactly one value per state; the message
            contains the state.
    """
    return cost.validated(x, t, population)


def check_finite(
    cost: StateCost, x: Float[Tensor, "*b d"], t: Tensor, population: PopulationDensity | None = None
) -> None:
    """Check that values and gradients of a cost are finite; InputError otherwise."""
    with torch.enable_grad():
        y = x.detach().requires_grad_(cost.differentiable)
        values = cost(y, t, population)
        check_finite_at(torch.isfinite(values), values, x, t, "the cost is {value}")
        if values.requires_grad:
            (grad,) = torch.autograd.grad(values.sum(), y, allow_unused=True)
            if grad is not None:
                check_finite_at(
                    torch.isfinite(grad).all(-1), values, x, t, "the gradient of the cost, {value}, is not finite"
                )


def require_population(population: PopulationDensity | None, name: str) -> PopulationDensity:
    """Return the population; raise a UsageError that names the cost `name` if the population is None."""
    if population is None:
        raise UsageError(f"the cost {name} needs the population", remedy="Pass a PopulationDensity")
    return population


def check_finite_at(good: Bool[Tensor, "*b"], values: Tensor, x: Tensor, t: Tensor, message: str) -> None:
    """Raise an InputError that shows the first state whose entry in `good` is False, if there is one.

    Args:
        good: True for each state without an error.
        values: Cost of each state.
        x: States.
        t: Times, broadcastable to the shape of `good`.
        message: First part of the error message, in which {value} is replaced by the cost.
    """
    if good.all():
        return
    index = tuple((~good).nonzero()[0].tolist())
    state = x[index].flatten().tolist()
    coordinates = ", ".join(f"{entry:.4g}" for entry in state[:4]) + (", ..." if len(state) > 4 else "")
    raise InputError(
        f"{message.format(value=f'{values[index].item():.4g}')} at x = ({coordinates}), t ="
        f" {t.expand(good.shape)[index].item():.4g}, state {index[-1] + 1}, and at {int((~good).sum())} of"
        f" {good.numel()} states: costs and their gradients must be finite everywhere",
        remedy="Return a large finite value instead, and add a small constant under square roots",
    )


def _parts(cost: StateCost) -> tuple[StateCost, ...]:
    return cost.terms if isinstance(cost, Sum) else (cost,)

"""What being somewhere costs a bridge, for each unit of time: V(x, t), which may look at the crowd."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from feller.control.bridges.costs.gaussian_mixture import log_density
from feller.core.errors import InputError, UsageError

InsideFn = Callable[[Tensor], Tensor]
"""States [*b, d] -> whether each is inside an obstacle, [*b]."""


@dataclass(frozen=True, eq=False)
class PopulationDensity:
    """The crowd at several times."""

    samples: Float[Tensor, "times n d"]
    """Members, as many as the states that are asked about and, row by row, independent of them."""
    centres: Float[Tensor, "times k d"]
    """Of the Gaussians that make up its density."""
    widths: Float[Tensor, "times k"] | float
    """Their deviations, above 0, the same in all directions."""

    def log_density(self, x: Float[Tensor, "times n d"]) -> Float[Tensor, "times n"]:
        """Return the logarithm of the crowd's density at states, whose gradient flows through the states alone."""
        widths = torch.as_tensor(self.widths, dtype=x.dtype, device=x.device).expand(self.centres.shape[:2])
        return log_density(x, self.centres.to(x.dtype), widths)


class StateCost(abc.ABC):
    """V in units of length squared, for a journey of time 1. Implement one method to add one.

    A bridge minimises E int 1/2 |u|^2 + V dt. `a + b` and `2.0 * a` are costs.
    """

    @property
    def needs_population(self) -> bool:
        """Whether it looks at the population."""
        return False

    @property
    def differentiable(self) -> bool:
        """Whether its gradient says where it falls."""
        return True

    @property
    def obstacles(self) -> tuple[InsideFn, ...]:
        """What it keeps states out of, for reports."""
        return ()

    def is_blocked(self, x: Float[Tensor, "*b d"]) -> Bool[Tensor, "*b"]:
        """Tell which states are inside an obstacle."""
        nowhere = torch.zeros(x.shape[:-1], dtype=torch.bool, device=x.device)
        return torch.stack([nowhere, *(inside(x) for inside in self.obstacles)]).any(0)

    @abc.abstractmethod
    def __call__(
        self, x: Float[Tensor, "*b d"], t: Tensor, population: PopulationDensity | None = None
    ) -> Float[Tensor, "*b"]:
        """Return the cost of states at times that broadcast to [*b]; the population is given if `needs_population`."""

    def bind_pairs(self, x_0: Float[Tensor, "pairs d"], x_1: Float[Tensor, "pairs d"]) -> "StateCost":
        """Return the cost as the paths of some pairs see it; itself, unless it depends on where a path begins and ends.

        Who holds pairs asks for this once and calls what comes back with states [times, pairs * draws, d], pair after
        pair: state i of a time is on a path of pair i // draws.
        """
        return self

    def validated(
        self, x: Float[Tensor, "*b d"], t: Tensor, population: PopulationDensity | None = None
    ) -> "StateCost":
        """Return the cost as it is to be used, after a look at some states.

        Raises:
            InputError: If it, or its gradient, is no finite number somewhere, or has another shape than [*b].
        """
        check_finite(self, x, t, population)
        return self

    def __add__(self, other: "StateCost") -> "StateCost":
        """Return the sum."""
        return Sum((*_parts(self), *_parts(other)))

    def __mul__(self, factor: float) -> "StateCost":
        """Return it so many times."""
        return Scaled(self, factor)

    __rmul__ = __mul__


@dataclass(frozen=True)
class Zero(StateCost):
    """No cost: what is left is the cost of control."""

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        return 0.0 * x.sum(-1)


@dataclass(frozen=True)
class Sum(StateCost):
    """Costs that add up."""

    terms: tuple[StateCost, ...]

    @property
    def needs_population(self) -> bool:
        return any(part.needs_population for part in self.terms)

    @property
    def differentiable(self) -> bool:
        return all(part.differentiable for part in self.terms)

    @property
    def obstacles(self) -> tuple[InsideFn, ...]:
        return tuple(one for part in self.terms for one in part.obstacles)

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        first, *others = (part(x, t, population) for part in self.terms)
        for other in others:
            first = first + other
        return first

    def bind_pairs(self, x_0: Tensor, x_1: Tensor) -> StateCost:
        return Sum(tuple(part.bind_pairs(x_0, x_1) for part in self.terms))

    def validated(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> StateCost:
        return Sum(tuple(part.validated(x, t, population) for part in self.terms))


@dataclass(frozen=True)
class CostWrapper(StateCost):
    """A cost as somebody else sees it, who sees a crowd, obstacles and slopes where the cost has them."""

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
    """A cost so many times."""

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
    """Look at a cost at some states, and return it as it is to be used.

    Functions that turn out to have no gradient are no longer `differentiable`.

    Args:
        cost: What to look at.
        x: States, as [times, n, d] where it looks at the crowd.
        t: Their times, that broadcast to [*b].
        population: The crowd at these times.

    Raises:
        InputError: If a cost or its gradient is no finite number somewhere, or no number for each state; the message
            says where.
    """
    return cost.validated(x, t, population)


def check_finite(
    cost: StateCost, x: Float[Tensor, "*b d"], t: Tensor, population: PopulationDensity | None = None
) -> None:
    """Check the values and, where there is one, the gradient of a cost; InputError if one is no finite number."""
    with torch.enable_grad():
        y = x.detach().requires_grad_(cost.differentiable)
        values = cost(y, t, population)
        check_finite_at(torch.isfinite(values), values, x, t, "the cost is {value}")
        if values.requires_grad:
            (slope,) = torch.autograd.grad(values.sum(), y, allow_unused=True)
            if slope is not None:
                check_finite_at(
                    torch.isfinite(slope).all(-1), values, x, t, "the gradient of the cost, {value}, is not finite"
                )


def require_population(population: PopulationDensity | None, name: str) -> PopulationDensity:
    """Return the crowd, for a cost that cannot do without; UsageError if there is none."""
    if population is None:
        raise UsageError(f"the cost {name} looks at the crowd", remedy="Give it a Population")
    return population


def check_finite_at(good: Bool[Tensor, "*b"], values: Tensor, x: Tensor, t: Tensor, message: str) -> None:
    """Say where something is not good; InputError if it is so anywhere."""
    if good.all():
        return
    place = tuple((~good).nonzero()[0].tolist())
    state = x[place].flatten().tolist()
    shown = ", ".join(f"{entry:.4g}" for entry in state[:4]) + (", ..." if len(state) > 4 else "")
    raise InputError(
        f"{message.format(value=f'{values[place].item():.4g}')} at x = ({shown}), t ="
        f" {t.expand(good.shape)[place].item():.4g}, state number {place[-1] + 1}, and at {int((~good).sum())} of"
        f" {good.numel()} states: costs and their gradients must be finite everywhere",
        remedy="Return a large number instead, and add a small one under roots",
    )


def _parts(cost: StateCost) -> tuple[StateCost, ...]:
    return cost.terms if isinstance(cost, Sum) else (cost,)

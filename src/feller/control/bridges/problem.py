"""Bridge problems: populations, their times, noise and state cost."""

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor

from feller.control.bridges.costs import CustomCost, StateCost, Zero
from feller.control.bridges.drift_matching import BaseDrift, Segment
from feller.control.bridges.population import Population
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.loading.dataset_reader import read
from feller.data.loading.in_memory import DataSource
from feller.data.modality import Modality

PopulationSampler = Callable[[int, Rng], Tensor]
"""(number, draws) -> members of a population, [number, *d]."""


@dataclass(frozen=True, eq=False, repr=False)
class BridgeProblem:
    """What is to be bridged: populations of one kind at two times or more, noise, and what being somewhere costs.

    Wanted is the drift u that minimises E int 1/2 |u|^2 + V dt among all that carry each population to the next in
    noise of this strength.
    """

    populations: tuple[tuple[PopulationSampler, PopulationSampler], ...]
    """Of each leg: the population where it begins, and that where it ends."""
    noise: float
    """Deviation of a free walk after the whole journey, in the data's units; 0 for none."""
    cost: StateCost = field(default_factory=Zero)
    """V, in units of length squared, for a journey of time 1."""
    times: tuple[float, ...] = (0.0, 1.0)
    """Of the populations, increasing from 0 to 1."""
    base_drift: BaseDrift | None = None
    """Drift that acts by itself, which costs nothing."""
    update_base_drift: Callable[[BaseDrift, Sequence[Segment]], BaseDrift] | None = None
    """How a base drift that depends on the crowd follows new paths."""

    def __repr__(self) -> str:
        """Say in a line what it is, without its members."""
        times = ", ".join(f"{time:.4g}" for time in self.times)
        return f"<BridgeProblem at times {times}, noise {self.noise:.4g}, cost {type(self.cost).__name__}>"

    @classmethod
    def between(
        cls,
        populations: Sequence[DataSource],
        noise: float,
        cost: StateCost | Callable[..., Tensor] | None = None,
        times: Sequence[float] | None = None,
    ) -> "BridgeProblem":
        """Return the problem of populations that are known by some members.

        Args:
            populations: Arrays or tensors [n, *d], DataFrames, or files of such rows or pictures, two or more, in the
                order of time. Columns that have names are those of the first that has some.
            noise: Deviation of a free walk after the whole journey, in their units.
            cost: A function of (x, t) or (x, t, population), see `feller.control.bridges.costs.CustomCost`, or a
                `StateCost`.
            times: When each was seen; by default equally far apart.

        Raises:
            UsageError: If there are fewer than two populations, they are of different kinds, or there are as many times
                as there are not populations.
            InputError: If a file cannot be read, or a number is missing or infinite.
        """
        if isinstance(populations, str | os.PathLike):
            raise UsageError("two populations or more, in a list", f"{populations!r} alone")
        if len(populations) < 2 or (times is not None and len(times) != len(populations)):
            raise UsageError(
                "two populations or more, and as many times",
                f"{len(populations)} and {'none' if times is None else len(times)}",
            )
        populations_read, like = [], None
        for number, population in enumerate(populations, 1):
            members, like = _members(population, number, like)
            populations_read.append(Population(members))
        first = list(populations_read[0].members.shape[1:])
        for number, population_read in enumerate(populations_read, 1):
            if list(population_read.members.shape[1:]) != first:
                raise UsageError(
                    expected=f"populations of one kind: a member of the first is {first}, of number {number}"
                    f" {list(population_read.members.shape[1:])}"
                )
        when = [*range(len(populations_read))] if times is None else times
        shares = tuple((time - when[0]) / (when[-1] - when[0]) for time in when)
        priced = cost if isinstance(cost, StateCost) else Zero() if cost is None else CustomCost(cost)
        return cls(tuple(itertools.pairwise(populations_read)), noise, priced, shares)


def _members(population: DataSource, number: int, like: Modality | None) -> tuple[Tensor, Modality | None]:
    """Return the members of a population, of a file or DataFrame in its own units, and what the next are read like."""
    if isinstance(population, str | os.PathLike | pd.DataFrame):
        data = read(population, like=like)
        population, like = data.numpy(), like or data.modality
    try:
        members = torch.as_tensor(population, dtype=torch.get_default_dtype())
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"population {number} to be an array or tensor [n, *d] of numbers, a DataFrame, or a file of them",
            f"a {type(population).__name__}",
        ) from error
    if members.ndim < 2 or not len(members):
        raise UsageError(f"population {number} to be [n, *d], with members", list(members.shape))
    bad = (~members.flatten(1).isfinite()).any(1).nonzero()[:, 0].tolist()
    if bad:
        raise InputError(
            f"{len(bad)} of {len(members)} members hold what is no finite number, the first of them members[{bad[0]}]",
            remedy="Drop or fill them",
            place=f"population {number}",
        )
    return members, like

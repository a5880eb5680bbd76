"""Definition of bridge problems: populations, their times, noise and state cost."""

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
"""Function (number, rng) -> samples of a population, [number, *d]."""


@dataclass(frozen=True, eq=False, repr=False)
class BridgeProblem:
    """Bridge problem: populations of one shape at two or more times, noise and state cost.

    The solution is the drift u that minimises E int (1/2 |u|^2 + V) dt among all drifts that, with this noise,
    transport each population to the next.
    """

    populations: tuple[tuple[PopulationSampler, PopulationSampler], ...]
    """Samplers of the start and end population of each segment."""
    noise: float
    """Standard deviation at time 1 of the Brownian motion without drift, in data units; 0 for no noise."""
    cost: StateCost = field(default_factory=Zero)
    """State cost V, in units of squared length, integrated over the times from 0 to 1."""
    times: tuple[float, ...] = (0.0, 1.0)
    """Time of each population, increasing from 0 to 1."""
    base_drift: BaseDrift | None = None
    """Drift of the uncontrolled process; the control is the difference from this drift."""
    update_base_drift: Callable[[BaseDrift, Sequence[Segment]], BaseDrift] | None = None
    """Function (base drift, pinned paths of the last round) -> updated base drift, for a base drift that depends on the
    distribution of the states; None for a fixed base drift."""

    def __repr__(self) -> str:
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
        """Create a problem from samples of populations.

        Args:
            populations: Two or more populations in the order of time: arrays or tensors [n, *d], DataFrames, or files
                of rows or images. Named columns are ordered as in the first population that has names.
            noise: Standard deviation at time 1 of the Brownian motion without drift, in data units.
            cost: State cost V: a `StateCost`, or a function of (x, t) or (x, t, population), see
                `feller.control.bridges.costs.CustomCost`.
            times: Time of each population; equally spaced by default.

        Raises:
            UsageError: If there are fewer than two populations, shapes differ, or the number of times is wrong.
            InputError: If a file cannot be read, or a value is missing or infinite.
        """
        if isinstance(populations, str | os.PathLike):
            raise UsageError("a list of at least two populations", f"{populations!r} alone")
        if len(populations) < 2 or (times is not None and len(times) != len(populations)):
            raise UsageError(
                "at least two populations, and one time for each",
                f"{len(populations)} populations and {'no' if times is None else len(times)} times",
            )
        populations_read, modality = [], None
        for position, population in enumerate(populations, 1):
            members, modality = _members(population, position, modality)
            populations_read.append(Population(members))
        shape = list(populations_read[0].members.shape[1:])
        for position, population_read in enumerate(populations_read, 1):
            if list(population_read.members.shape[1:]) != shape:
                other_shape = list(population_read.members.shape[1:])
                raise UsageError(
                    "populations of one shape",
                    f"{shape} in the first population and {other_shape} in population {position}",
                )
        raw_times = [*range(len(populations_read))] if times is None else times
        fractions = tuple((time - raw_times[0]) / (raw_times[-1] - raw_times[0]) for time in raw_times)
        state_cost = cost if isinstance(cost, StateCost) else Zero() if cost is None else CustomCost(cost)
        return cls(tuple(itertools.pairwise(populations_read)), noise, state_cost, fractions)


def _members(population: DataSource, position: int, modality: Modality | None) -> tuple[Tensor, Modality | None]:
    """Return the samples of a population [n, *d], read from a file if it is a path, and the modality of the file.

    `position` is the number of the population in error messages.
    """
    if isinstance(population, str | os.PathLike | pd.DataFrame):
        data = read(population, like=modality)
        population, modality = data.numpy(), modality or data.modality
    try:
        members = torch.as_tensor(population, dtype=torch.get_default_dtype())
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"population {position} as a numeric array or tensor [n, *d], a DataFrame, or a data file",
            f"a {type(population).__name__}",
        ) from error
    if members.ndim < 2 or not len(members):
        raise UsageError(f"population {position} with shape [n, *d], n at least 1", list(members.shape))
    bad_rows = (~members.flatten(1).isfinite()).any(1).nonzero()[:, 0].tolist()
    if bad_rows:
        raise InputError(
            f"{len(bad_rows)} of {len(members)} members contain NaN or infinite values, the first is"
            f" members[{bad_rows[0]}]",
            remedy="Drop or impute these members",
            place=f"population {position}",
        )
    return members, modality

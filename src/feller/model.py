"""A fitted model: all that is needed to draw from it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from feller.data.modality import Dataset, Modality
from feller.draws import Draws, categorical
from feller.errors import InputError, UsageError
from feller.guidance import cfg
from feller.networks.architecture import Architecture
from feller.paths import Path
from feller.record import from_data, nearest, to_data
from feller.run import Run
from feller.sampling import Sampling
from feller.simulate import simulate
from feller.spaces import Space
from feller.tensors import load_tensors
from feller.tree import concatenate, leaves


@dataclass(frozen=True)
class Description:
    """What a model is, but for its weights."""

    modality: Modality
    space: Space
    path: Path
    architecture: Architecture
    frequencies: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """How often each class of each condition is in the training data."""
    sampling: Sampling = field(default_factory=Sampling)
    drop: float = 0.0
    """Chance with which conditions were dropped in training; without it the network knows no "not given"."""

    def build(self, draws: Draws) -> nn.Module:
        """Make the network, with new weights."""
        shape = next(leaves(self.space.reference(0, draws.at("shape")))).shape[1:]
        return self.architecture.build(
            tuple(shape), {name: len(shares) for name, shares in self.frequencies.items()}, draws.named("network")
        )


def frequencies(data: Dataset) -> dict[str, tuple[float, ...]]:
    """Count how often each class of each condition occurs."""
    return {
        name: tuple((torch.bincount(data.given[name], minlength=len(classes)).double() / len(data)).tolist())
        for name, classes in data.modality.conditions.items()
    }


@dataclass(frozen=True)
class Model:
    """A description and a network that fits it."""

    description: Description
    network: nn.Module

    def conditions(self, n: int, wanted: dict[str, str], draws: Draws) -> dict[str, Tensor]:
        """Return the conditions of n samples: those that are wanted, others drawn as often as in the data.

        Raises:
            UsageError: If a condition or its value is unknown.
        """
        known = self.description.frequencies
        for name in wanted:
            if name not in known:
                there = nearest(name, list(known)) if known else "this model has none"
                raise UsageError(f"no condition is called {name!r}: {there}")
        given = {}
        for name, shares in known.items():
            if name in wanted:
                given[name] = torch.full((n,), self.description.modality.condition(name, wanted[name]))
            else:
                u = draws.at(f"condition {name}").uniform((n,), torch.float64)
                given[name] = categorical(torch.tensor(shares, dtype=torch.float64), u)
        return given

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        given: dict[str, Tensor] | None = None,
        guidance: float = 1.0,
        sampling: Sampling | None = None,
        draws: Draws = Draws(0),  # noqa: B008 - frozen
        batch: int | None = None,
        tell: Callable[[float], None] = lambda share: None,
    ) -> Dataset:
        """Draw n samples in the units of the data; which batch a sample is in does not matter.

        Args:
            n: Number of samples.
            given: Conditions, [n] each; by default drawn as often as in the training data.
            guidance: 1 is the plain conditional, 0 the unconditional, more sharpens.
            sampling: Solver and number of calls; by default the model's own.
            draws: Source of all randomness.
            batch: Samples drawn together; by default what suits the device.
            tell: Hears the share that is done.

        Raises:
            UsageError: If n is below 1, or guidance is asked of a model without conditions.
        """
        if n < 1:
            raise UsageError(f"the number of samples must be at least 1, got {n}")
        if guidance != 1.0 and not self.description.frequencies:
            raise UsageError("guidance needs conditions, and this model has none; leave it out")
        about = self.description
        given = self.conditions(n, {}, draws) if given is None else given
        if guidance != 1.0 and not about.drop:
            raise UsageError("guidance needs a model that was trained to do without conditions; this one had --drop 0")
        path, solver, times = (sampling or about.sampling).choose(about.path, about.space)
        network = cfg(self.network.eval(), guidance, absent=tuple(about.frequencies))
        device = next(self.network.parameters()).device
        batch = batch or _batch(about.space, device)
        parts = []
        for start in range(0, n, batch):
            rows = slice(start, min(start + batch, n))
            here = replace(draws, first=start)
            size = rows.stop - rows.start
            x = path.start(about.space.reference(size, here.at("source"), device))
            process = path.process(network, {name: value[rows].to(device) for name, value in given.items()})
            for step, state in enumerate(simulate(process, x, times, solver, here), 1):
                x = state
                tell((start + size * step / (len(times) - 1)) / n)
            if not all(torch.isfinite(leaf).all() for leaf in leaves(x) if leaf.is_floating_point()):
                raise InputError("samples became infinite: the model is damaged or was trained too little")
            parts.append(about.modality.decode(x))
        return Dataset(concatenate(*parts), given, about.modality, ())


def _batch(space: Space, device: torch.device) -> int:
    """Return how many states go through the network together: few enough for a processor's caches."""
    numbers = sum(math.prod(leaf.shape[1:]) for leaf in leaves(space.reference(0, Draws(0).at("size"))))
    room = 2**14 if device.type == "cpu" else 2**20
    return max(32, min(4096, room // max(numbers, 1)))


def save_description(run: Run, description: Description) -> None:
    """Write what the model is."""
    run.write_record(run.model, to_data(description))


def load_model(run: Run, *, average: bool = True) -> Model:
    """Read a model from its run folder; none of the folder's writer's code is executed.

    Raises:
        InputError: If the folder is damaged, incomplete or newer than this version.
    """
    description = from_data(Description, run.read_record(run.model))
    network = description.build(Draws(0))
    file = run.average if average else run.weights
    if not file.is_file():
        raise InputError(f"{run.path} has no weights yet; finish it with: feller fit DATA --out {run.path} --resume")
    weights, _ = load_tensors(file)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{file} does not fit {run.model}: {str(error).splitlines()[0]}") from error
    return Model(description, network)

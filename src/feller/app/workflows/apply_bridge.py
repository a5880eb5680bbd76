"""From the run of a bridge and a file to where its drift takes what the file holds."""

import itertools
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from feller.app.config import SampleConfig
from feller.app.reporter import SILENT, Tell
from feller.app.workflows.bridges.bridge_run import Bridged, bridged_of, bridging_of, going_on, read_again
from feller.app.workflows.bridges.cost_names import changed, walls_of
from feller.app.workflows.bridges.parse_costs import WARNING
from feller.app.workflows.bridges.trajectory_files import values_of
from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.costs.walls import ImageWalls
from feller.control.bridges.population import Population
from feller.control.bridges.trajectories import simulate_drift, time_grid
from feller.control.bridges.unbalanced_weights import unbalanced_weights
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.files.numpy_files import write_arrays
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.data.points.euclidean_points import Points
from feller.evaluation.number_format import format_percent
from feller.models.families.model_family import OnProgress, default_batch_size, iter_batches
from feller.models.model import Model, load_model
from feller.networks.bridge_drift import ForwardBackwardNetwork
from feller.paths.brownian import BrownianBridge
from feller.training.checkpoint import read_counters
from feller.training.engine import get_engine

COMPARED = 500
"""Members, of either, by which a file is said to lie far off."""


def push(run: Run, config: SampleConfig, *, tell: Tell = SILENT) -> tuple[Dataset, pathlib.Path]:
    """Take what a file holds along a bridge's drift, and write where it goes.

    An .npz holds the ends in `samples`, and all trajectories in `paths` [n, times, ...] with their `times`; other forms
    hold the ends. People hear which share begins in a wall of a picture, or goes through one.

    Args:
        run: Holds the bridge.
        config: What is asked for; members of a population itself are taken as often as they count (`--growth`).
        tell: Hears how it goes.

    Returns:
        The ends, and where they are.

    Raises:
        InputError: If run or file are not what they must be.
        UsageError: If the run is no bridge.
    """
    begin, seed = config.bridge.begin, config.seed
    bridge = _opened(run, backward=config.bridge.backward)
    bridged, modality = bridge.bridged, bridge.modality
    place = run.output_path(config.output.out)
    modality.check_place(place)
    if begin is None:
        first = _population(bridge, seed, tell)
    else:
        first = modality.encode(read(begin, like=modality).values)
        _far(first, bridge, begin, tell)
    walls = _walls(bridged, tell)
    paths, met = bridge.follow(first, seed, walls, tell)
    if met is not None:
        _warn(met, bridge, begin or bridged.populations[bridge.start], tell)
    ends = modality.decode(paths[:, -1 - bridge.start])
    if place.suffix.lower() == ".npz":
        found = modality.arrays(ends, {})
        names = {"columns": found["columns"]} if "columns" in found else {}
        paths_of = {"samples": found["samples"], "paths": values_of(modality, paths), "times": bridge.times}
        write_arrays({**paths_of, **names}, place)
    else:
        modality.write(ends, {}, place)
    return Dataset(ends, {}, modality), place


def trajectories(run: Run, n: int, *, backward: bool = False, seed: int = 0, tell: Tell = SILENT) -> np.ndarray:
    """Follow a bridge's drift from members of the population where it begins.

    Args:
        run: Holds the bridge.
        n: Number of trajectories. Members are taken in a random order, all of them before one comes again; where they
            count unlike (`--growth`), each as often as it counts.
        backward: Go back in time, from the last population to the first.
        seed: Of members and noise.
        tell: Hears how it goes.

    Returns:
        States [n, times, ...] in the units and the layout of the data. Times are equally far apart between two
        populations that follow each other, from the first to the last, also where the drift goes back.

    Raises:
        InputError: If the run is not what it must be.
        UsageError: If it is no bridge, or n is below 1.
    """
    if n < 1:
        raise UsageError(argument="n", expected="1 trajectory or more", found=str(n))
    bridge = _opened(run, backward=backward)
    populations = read_again(bridge.bridged).states
    if bridge.bridged.growth is None:
        members = populations[bridge.start]
        shuffled = Rng(seed).fold_in("trajectories").stream("members").shared_generator()
        turns = [torch.randperm(len(members), generator=shuffled) for _ in range(-(-n // len(members)))]
        first = members[torch.cat(turns)[:n]]
    else:
        first = bridge.counted(populations)(n, Rng(seed).fold_in("push", "members"))
    paths, _ = bridge.follow(first, seed, (), tell)
    return values_of(bridge.modality, paths)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Opened:
    """A bridge whose drifts can be followed."""

    bridged: Bridged
    model: Model
    modality: Points | Images
    settings: BridgeSolverConfig
    backward: bool

    @property
    def start(self) -> int:
        """Index of the population where the way begins."""
        return -1 if self.backward else 0

    def counted(self, populations: Sequence[Tensor]) -> Population:
        """Return that population, whose members count unlike."""
        a, b = populations[-2:] if self.backward else populations[:2]
        return unbalanced_weights(a, b, self.bridged.growth or 0.0)[self.backward]

    @property
    def _grid(self) -> tuple[list[float], int]:
        """The times of all steps, and how many lie between two knots."""
        return time_grid(self.bridged.shares, self.settings.control.mean_knots, self.settings.nfe)

    @property
    def times(self) -> np.ndarray:
        """The times of trajectories, as the person counts them."""
        times, between = self._grid
        begin, end = self.bridged.times[0], self.bridged.times[-1]
        return begin + (end - begin) * np.array(times[::between])

    def follow(
        self, first: Tensor, seed: int, walls: tuple[ImageWalls, ...], tell: Tell
    ) -> tuple[Tensor, Tensor | None]:
        """Return states at the knots of trajectories, [n, times, ...], and where these are in walls, if there are any.

        Args:
            first: States where they begin.
            seed: Of the noise.
            walls: Pictures of walls.
            tell: Hears how it goes.
        """
        network, device = cast(ForwardBackwardNetwork, self.model.network), get_engine().device
        drift = (network.backward_drift if self.backward else network.forward_drift).to(device).eval()
        (times, between), noise = self._grid, cast(BrownianBridge, self.model.spec.path).noise
        every = 1 if walls else between  # no wall between two knots is missed
        states, met = [], []
        tell.task("following the drift")
        for rows, share in iter_batches(len(first), default_batch_size(self.model.spec.space, device), tell.progress):
            here = first[rows].to(device)
            draws, calls = Rng(seed, rows.start).fold_in("push"), itertools.count(1)

            def way(x: Tensor, t: Tensor, share: OnProgress = share, calls: Iterator[int] = calls) -> Tensor:
                share(min(next(calls) / len(times), 1.0))
                return drift(x, t, {})

            found = simulate_drift(
                way, lambda fresh, here=here: here, noise, times, every, draws, backward=self.backward
            )
            seen = found.states.cpu()
            met += [_inside(walls, self.modality, seen)] if walls else []
            states.append(seen[:, :: between // every].clone())
            share(1.0)
        tell.done()
        return torch.cat(states), torch.cat(met) if met else None


def _opened(run: Run, *, backward: bool) -> _Opened:
    """Open a bridge to follow its drift."""
    bridged = bridged_of(run)
    model = load_model(run)
    about = model.spec
    if bridged is None or model.family.name != "bridge" or not isinstance(model.network, ForwardBackwardNetwork):
        raise UsageError(
            "is no bridge, and its samples begin with noise", remedy="Leave out --from and --backward", file=run.path
        )
    modality = about.modality.view(Points) or about.modality.view(Images)
    if modality is None:
        raise UsageError(f"a bridge joins rows of numbers or pictures, and this run has {about.modality.display_name}")
    if backward and not read_counters(run).get("back"):
        more = going_on(run, bridged, "--rounds", 3)
        raise UsageError("has learned no way back, with one round alone", remedy=f"Go on with: {more}", file=run.path)
    return _Opened(bridged=bridged, model=model, modality=modality, settings=bridging_of(run), backward=backward)


def _population(bridge: _Opened, seed: int, tell: Tell) -> Tensor:
    """Return the states of the population where the way begins, each as often as it counts."""
    populations, amount = read_again(bridge.bridged).states, bridge.bridged.growth
    if amount is None:
        return populations[bridge.start]
    crowd = bridge.counted(populations)
    n = len(crowd.members)
    tell.say(
        f"members count unlike (--growth {amount:g}), so {n:,} were drawn, each as often as it counts; to begin"
        " at each one once, name the file with --from"
    )
    return crowd(n, Rng(seed).fold_in("push", "members"))


def _far(first: Tensor, bridge: _Opened, begin: str, tell: Tell) -> None:
    """Say so where a file lies far from where the way begins: there the drift was never learned.

    Far is where the nearest member is farther, in the middle, than members are from their mean. Nothing is said where
    the populations are gone.
    """
    try:
        members = read_again(bridge.bridged).states[bridge.start].flatten(1)[:COMPARED].double()
    except InputError:
        return
    apart = torch.cdist(first.flatten(1)[:COMPARED].double(), members).amin(1).median()
    if apart > (members - members.mean(0)).square().sum(1).mean().sqrt():
        there = bridge.bridged.populations[bridge.start]
        tell.say(
            f"{begin} lies far from {there}, where the way {'back ' if bridge.backward else ''}begins: the drift was"
            " not learned there, and where it leads means little"
        )


def _walls(bridged: Bridged, tell: Tell) -> tuple[ImageWalls, ...]:
    """Return the pictures of walls of a bridge, if they are what they were."""
    other = changed(bridged.costs, bridged.code)
    if other:
        tell.say(f"{', '.join(other)} is not what it was, or gone: whether paths go through walls is not told")
        return ()
    return walls_of(bridged.costs, bridged.frame)


def _inside(walls: tuple[ImageWalls, ...], modality: Points | Images, states: Tensor) -> Bool[Tensor, "n times"]:
    """Tell which states of trajectories are in a wall."""
    places = torch.from_numpy(values_of(modality, states))
    return torch.stack([wall.contains(places) for wall in walls]).any(0)


def _warn(inside: Bool[Tensor, "n times"], bridge: _Opened, begin: str, tell: Tell) -> None:
    """Say which share of the members begins in a wall, and of the paths goes through one."""
    stuck = inside[:, bridge.start].double().mean().item()
    met = inside.any(1).double().mean().item()
    if stuck:
        tell.say(
            f"{WARNING}{format_percent(stuck)} of the members of {begin} begin inside a wall, or outside of the picture"
        )
    if met > stuck:
        tell.say(f"{WARNING}{format_percent(met)} of the paths are in a wall at some time")

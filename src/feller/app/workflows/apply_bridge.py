"""From the run of a bridge and a file to where its drift takes what the file holds."""

import itertools
import pathlib
from collections.abc import Iterator
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
from feller.control.bridges.costs.walls import Picture
from feller.control.bridges.trajectories import grid, walk
from feller.control.bridges.unbalanced_weights import growth
from feller.core.errors import InputError, UsageError
from feller.core.rng import Draws
from feller.core.run_folder import Run
from feller.data.files.numpy_files import write_arrays
from feller.data.images.modality import Images
from feller.data.loading.read import read
from feller.data.modality import Dataset
from feller.data.points.points import Points
from feller.evaluation.number_format import percent
from feller.models.families.model_family import Progress, batch_size, pieces
from feller.models.model import load_model
from feller.networks.bridge_drift import TwoDrifts
from feller.paths.brownian import Brownian
from feller.training.checkpoint import read_counters
from feller.training.engine import engine

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
    begin, backward, seed = config.bridge.begin, config.bridge.backward, config.seed
    bridged = bridged_of(run)
    model = load_model(run)
    about = model.description
    network = model.network
    if bridged is None or model.family.name != "bridge" or not isinstance(network, TwoDrifts):
        raise UsageError(f"{run.path} is no bridge, and its samples begin with noise: leave out --from and --backward")
    modality = about.modality.view(Points) or about.modality.view(Images)
    if modality is None:
        raise UsageError(f"a bridge joins rows of numbers or pictures, and this run has {about.modality.called}")
    if backward and not read_counters(run).get("back"):
        more = going_on(run, bridged, "--rounds", 3)
        raise UsageError(f"{run.path} has learned no way back, with one round alone; go on with: {more}")
    place = run.place(config.output.out)
    modality.check_place(place)
    if begin is None:
        first = _population(bridged, seed, tell, backward=backward)
    else:
        first = modality.encode(read(begin, like=modality).values)
        _far(first, bridged, begin, tell, backward=backward)
    settings, device = bridging_of(run), engine().device
    drift = (network.back if backward else network.ahead).to(device).eval()
    times, between = grid(bridged.shares, settings.control.mean_knots, settings.calls)
    walls = _walls(bridged, tell)
    every = 1 if walls else between  # no wall between two knots is missed
    states, met = [], []
    tell.task("following the drift")
    for rows, share in pieces(len(first), batch_size(about.space, device), tell.progress):
        here = first[rows].to(device)
        draws, calls = Draws(seed, rows.start).named("push"), itertools.count(1)

        def way(x: Tensor, t: Tensor, share: Progress = share, calls: Iterator[int] = calls) -> Tensor:
            share(min(next(calls) / len(times), 1.0))
            return drift(x, t, {})

        found = walk(
            way, lambda fresh, here=here: here, cast(Brownian, about.path).noise, times, every, draws,
            backward=backward,
        )  # fmt: skip
        seen = found.states.cpu()
        met += [_inside(walls, modality, seen)] if walls else []
        states.append(seen[:, :: between // every].clone())
        share(1.0)
    tell.done()
    if met:
        _warn(torch.cat(met), begin or bridged.populations[-1 if backward else 0], tell, backward=backward)
    paths = torch.cat(states)
    ends = modality.decode(paths[:, 0 if backward else -1])
    if place.suffix.lower() == ".npz":
        begin_time, end_time = bridged.times[0], bridged.times[-1]
        names = {name: array for name, array in modality.arrays(ends, {}).items() if name == "columns"}
        write_arrays(
            {
                "samples": modality.arrays(ends, {})["samples"],
                "paths": values_of(modality, paths),
                "times": begin_time + (end_time - begin_time) * np.array(found.times[:: between // every]),
                **names,
            },
            place,
        )
    else:
        modality.write(ends, {}, place)
    return Dataset(ends, {}, modality), place


def _population(bridged: Bridged, seed: int, tell: Tell, *, backward: bool) -> Tensor:
    """Return the states of the population where the way begins, each as often as it counts."""
    populations = read_again(bridged).states
    if bridged.growth is None:
        return populations[-1 if backward else 0]
    a, b = populations[-2:] if backward else populations[:2]
    crowd = growth(a, b, bridged.growth)[backward]
    n = len(crowd.members)
    tell.say(
        f"members count unlike (--growth {bridged.growth:g}), so {n:,} were drawn, each as often as it counts; to begin"
        " at each one once, name the file with --from"
    )
    return crowd(n, Draws(seed).named("push", "members"))


def _far(first: Tensor, bridged: Bridged, begin: str, tell: Tell, *, backward: bool) -> None:
    """Say so where a file lies far from where the way begins: there the drift was never learned.

    Far is where the nearest member is farther, in the middle, than members are from their mean. Nothing is said where
    the populations are gone.
    """
    try:
        members = read_again(bridged).states[-1 if backward else 0].flatten(1)[:COMPARED].double()
    except InputError:
        return
    apart = torch.cdist(first.flatten(1)[:COMPARED].double(), members).amin(1).median()
    if apart > (members - members.mean(0)).square().sum(1).mean().sqrt():
        there = bridged.populations[-1 if backward else 0]
        tell.say(
            f"{begin} lies far from {there}, where the way {'back ' if backward else ''}begins: the drift was not"
            " learned there, and where it leads means little"
        )


def _walls(bridged: Bridged, tell: Tell) -> tuple[Picture, ...]:
    """Return the pictures of walls of a bridge, if they are what they were."""
    other = changed(bridged.costs, bridged.code)
    if other:
        tell.say(f"{', '.join(other)} is not what it was, or gone: whether paths go through walls is not told")
        return ()
    return walls_of(bridged.costs, bridged.frame)


def _inside(walls: tuple[Picture, ...], modality: Points | Images, states: Tensor) -> Bool[Tensor, "n times"]:
    """Tell which states of trajectories are in a wall."""
    places = torch.from_numpy(values_of(modality, states))
    return torch.stack([wall.inside(places) for wall in walls]).any(0)


def _warn(inside: Bool[Tensor, "n times"], begin: str, tell: Tell, *, backward: bool) -> None:
    """Say which share of the members begins in a wall, and of the paths goes through one."""
    stuck = inside[:, -1 if backward else 0].double().mean().item()
    met = inside.any(1).double().mean().item()
    if stuck:
        tell.say(f"{WARNING}{percent(stuck)} of the members of {begin} begin inside a wall, or outside of the picture")
    if met > stuck:
        tell.say(f"{WARNING}{percent(met)} of the paths are in a wall at some time")

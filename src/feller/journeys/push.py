"""From the run of a bridge and a file to where its drift takes what the file holds."""

import pathlib

import numpy as np
import torch

from feller.control.bridges.walk import grid, walk
from feller.data.arrays import write_arrays
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.data.read import read
from feller.data.rows.points import Points
from feller.draws import Draws
from feller.errors import UsageError
from feller.generation import batch_size, pieces
from feller.journeys.bridged import bridged_of, bridging_of, read_again
from feller.journeys.tell import SILENT, Tell
from feller.journeys.trajectories import values_of
from feller.model import load_model
from feller.networks.drift import TwoDrifts
from feller.paths.brownian import Brownian
from feller.run import Run
from feller.train.checkpoint import read_counters
from feller.train.engine import engine


def push(
    run: Run,
    begin: str | None,
    *,
    out: str | None = None,
    backward: bool = False,
    seed: int = 0,
    tell: Tell = SILENT,
) -> tuple[Dataset, pathlib.Path]:
    """Take what a file holds along a bridge's drift, and write where it goes.

    An .npz holds the ends in `samples`, and all trajectories in `paths` [n, times, ...] with their `times`; other forms
    hold the ends.

    Args:
        run: Holds the bridge.
        begin: A file or folder like those that were bridged; None for the first population itself, or the last.
        out: A file whose ending decides the form, or a folder; by default `samples` in the run.
        backward: Go back in time, from the last population to the first.
        seed: Of the noise.
        tell: Hears how it goes.

    Returns:
        The ends, and where they are.

    Raises:
        InputError: If run or file are not what they must be.
        UsageError: If the run is no bridge.
    """
    bridged = bridged_of(run)
    model = load_model(run)
    about = model.description
    path, modality, network = about.path, about.modality, model.network
    if bridged is None or not isinstance(path, Brownian) or not isinstance(network, TwoDrifts):
        raise UsageError(f"{run.path} is no bridge, and its samples begin with noise: leave out --from and --backward")
    if not isinstance(modality, Points | Images):
        raise UsageError(f"a bridge joins rows of numbers or pictures, and this run has {modality.called}")
    if backward and not read_counters(run).get("back"):
        raise UsageError(
            f"{run.path} has learned no way back, with one round alone; go on with: feller bridge --resume"
        )
    place = pathlib.Path(out) if out else run.samples
    modality.check_place(place)
    if begin is None:
        first = read_again(bridged).states[-1 if backward else 0]
    else:
        first = modality.encode(read(begin, like=modality).values)
    settings, device = bridging_of(run), engine().device
    drift = (network.back if backward else network.ahead).to(device).eval()
    times, between = grid(bridged.shares, settings.control.mean_knots, settings.calls)
    states = []
    tell.task("following the drift")
    for rows, share in pieces(len(first), batch_size(about.space, device), tell.progress):
        here = first[rows].to(device)
        draws = Draws(seed, rows.start).named("push")
        found = walk(
            lambda x, t: drift(x, t, {}), lambda fresh, here=here: here, path.noise, times, between, draws,
            backward=backward,
        )  # fmt: skip
        states.append(found.states.cpu())
        share(1.0)
    tell.done()
    paths = torch.cat(states)
    ends = modality.decode(paths[:, 0 if backward else -1])
    if place.suffix.lower() == ".npz":
        begin_time, end_time = bridged.times[0], bridged.times[-1]
        names = {} if isinstance(modality, Images) else {"columns": np.array(modality.columns)}
        write_arrays(
            {
                "samples": modality.arrays(ends, {})["samples"],
                "paths": values_of(modality, paths),
                "times": begin_time + (end_time - begin_time) * np.array(found.times),
                **names,
            },
            place,
        )
    else:
        modality.write(ends, {}, place)
    return Dataset(ends, {}, modality), place

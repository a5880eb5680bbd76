"""Writing of the files with the trajectories of a bridge, and with the pairs of samples that they connect."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from feller.app.workflows.bridges.bridge_run import BridgeRecord
from feller.control.bridges.trajectories import Trajectories
from feller.core.run_folder import Run
from feller.core.serialization import replace_file
from feller.data.files.numpy_files import write_arrays
from feller.data.images.modality import Images
from feller.data.modality import Modality
from feller.data.points.euclidean_points import Points
from feller.training.couplings.ground_cost import SquaredDistance

MEMBERS = 10_000
"""Maximum number of population samples to which end points are assigned by optimal transport."""
Counts = Sequence[tuple[np.ndarray, np.ndarray]]
"""For each segment, the relative weights (mean 1) of the samples at its start and at its end."""
NUMBERS = 2**22
"""Maximum number of values of all paths together for which a CSV file is written in addition to the .npz file."""


def write_paths(
    run: Run,
    record: BridgeRecord,
    modality: Points | Images,
    trajectories: Trajectories,
    start_indices: Tensor,
    members: Sequence[Tensor],
    counts: Counts = (),
) -> None:
    """Write `paths.npz` and `pairs.npz`; for numeric rows, also write CSV files.

    `paths` [n, times, ...] are in data units, `times` in the user's units. A pair consists of the row number (from 1)
    of a sample of the first population, the end point of its trajectory, and the row number of the sample of the last
    population that is assigned to the end point. Samples are assigned by optimal transport, each about equally often. A
    population in between, for example at time 24, adds `x_at_24` and `row_at_24`. For unbalanced transport,
    trajectories start at samples drawn according to their weights; `from_counts` and `to_counts` are the relative
    weights (mean 1) of the two samples of a pair, and `counts.npz` and `counts.csv` contain the weights of all samples.
    """
    begin, end = record.times[0], record.times[-1]
    times = begin + (end - begin) * np.array(trajectories.times)
    paths = values_of(modality, trajectories.states)
    rows_by_name, points_by_name = {"from_row": start_indices.numpy() + 1}, {"x_0": paths[:, 0]}
    labels = {"x_0": "from", "x_1": "to"}
    for time, relative_time, population in list(zip(record.times, record.relative_times, members, strict=True))[1:]:
        time_index = int(np.argmin(np.abs(np.array(trajectories.times) - relative_time)))
        partners = nearest_partners(trajectories.states[:, time_index].flatten(1), population.flatten(1)).numpy() + 1
        is_last = time == record.times[-1]
        rows_by_name["to_row" if is_last else f"row_at_{time:g}"] = partners
        points_by_name["x_1" if is_last else f"x_at_{time:g}"] = paths[:, time_index]
    if counts:
        rows_by_name |= {
            "from_counts": counts[0][0][start_indices.numpy()],
            "to_counts": counts[-1][1][rows_by_name["to_row"] - 1],
        }
        _write_counts(run, record, counts)
    column_names = {} if (points := modality.view(Points)) is None else {"columns": np.array(points.columns)}
    write_arrays({"paths": paths, "samples": paths[:, -1], "times": times, **column_names}, run.path / "paths.npz")
    write_arrays({**rows_by_name, **points_by_name, **column_names}, run.path / "pairs.npz")
    if points is None:
        return
    columns = list(points.columns)
    header = [*rows_by_name, *(f"{name}_{labels.get(key, key[2:])}" for key in points_by_name for name in columns)]
    _write_table(
        run.path / "pairs.csv",
        header,
        zip(*rows_by_name.values(), *np.concatenate([*points_by_name.values()], 1).T, strict=True),
    )
    if paths.size <= NUMBERS:
        n, steps, d = paths.shape
        rows = zip(np.repeat(np.arange(1, n + 1), steps), np.tile(times, n), *paths.reshape(-1, d).T, strict=True)
        _write_table(run.path / "paths.csv", ["path", "time", *columns], rows)


def _write_counts(run: Run, record: BridgeRecord, counts: Counts) -> None:
    """Write the relative weights of the samples of each population, as start and as end of a segment.

    They are NaN (empty in the CSV file) where no segment starts or ends.
    """
    rows = []
    for index, time in enumerate(record.times):
        forward = counts[index][0] if index < len(counts) else np.full(len(counts[-1][1]), np.nan)
        backward = counts[index - 1][1] if index else np.full(len(forward), np.nan)
        rows.append(np.stack([np.full(len(forward), time), np.arange(1, len(forward) + 1), forward, backward], 1))
    table = np.concatenate(rows)
    header = ("time", "row", "ahead", "back")
    write_arrays(dict(zip(header, table.T, strict=True)), run.path / "counts.npz")
    cells = [[time, int(row), *("" if np.isnan(w) else w for w in weights)] for time, row, *weights in table.tolist()]
    _write_table(run.path / "counts.csv", list(header), cells)


def values_of(modality: Modality, states: Float[Tensor, "n times *d"]) -> np.ndarray:
    """Return the states of trajectories in data units and in the array layout of the data."""
    n, times = states.shape[:2]
    decoded = modality.decode(states.flatten(0, 1))
    samples = modality.arrays(decoded, {})["samples"]
    return samples.reshape(n, times, *samples.shape[1:])


def nearest_partners(reached: Float[Tensor, "n d"], members: Float[Tensor, "m d"]) -> Tensor:
    """Return, for each end point, the index of the population sample assigned to it by optimal transport.

    Each sample is used about equally often.
    """
    from scipy.optimize import linear_sum_assignment  # takes longer to load than the rest of feller

    subset = torch.arange(0, len(members), -(-len(members) // MEMBERS))  # a subset, since the cost matrix takes memory
    indices = subset.repeat(-(-len(reached) // len(subset)))
    cost = SquaredDistance()(reached.double(), members.double(), {})
    _, assignment = linear_sum_assignment(cost[:, indices].numpy())
    return indices[torch.from_numpy(assignment)]


def _write_table(path: Any, header: list[str], rows: Any) -> None:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(map(_cell, row))
    replace_file(path, file.getvalue())


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return repr(float(value)) if isinstance(value, float | np.floating) else str(int(value))

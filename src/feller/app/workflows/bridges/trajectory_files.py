"""Trajectories and pairs of a bridge as files."""

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
"""Members that may stand for a place that was reached."""
Counts = Sequence[tuple[np.ndarray, np.ndarray]]
"""Of each leg: what the members count where it begins, and where it ends, 1 in the mean."""
NUMBERS = 2**22
"""Numbers of paths that are written as text, at most."""


def write_paths(
    run: Run,
    record: BridgeRecord,
    modality: Points | Images,
    trajectories: Trajectories,
    start_indices: Tensor,
    members: Sequence[Tensor],
    counts: Counts = (),
) -> None:
    """Write `paths.npz` and `pairs.npz`, and for rows of numbers the same as tables.

    `paths` [n, times, ...] are in the units of the data, `times` as the person gave them. A pair is the row of a member
    of the first population, from 1, the place that it reached, and the row of the member of the last population that is
    nearest by exact assignment, so that none is taken more often than need be. For each population between, at 24 for
    example, there are place and row, too: `x_at_24` and `row_at_24`. Where members count unlike, `from_counts` and
    `to_counts` of a pair are what its members count, 1 in the mean; trajectories begin as often as members count. What
    each member of each population counts is in `counts.npz` and `counts.csv` then.

    Args:
        run: Where they go.
        record: What was asked.
        modality: Of the data.
        trajectories: The trajectories.
        start_indices: Members of the first population that they begin at.
        members: Of each population.
        counts: What these count, of each leg; empty where all count alike.
    """
    begin, end = record.times[0], record.times[-1]
    times = begin + (end - begin) * np.array(trajectories.times)
    paths = values_of(modality, trajectories.states)
    who, where = {"from_row": start_indices.numpy() + 1}, {"x_0": paths[:, 0]}
    called = {"x_0": "from", "x_1": "to"}
    for time, relative_time, population in list(zip(record.times, record.relative_times, members, strict=True))[1:]:
        place = int(np.argmin(np.abs(np.array(trajectories.times) - relative_time)))
        partners = nearest_partners(trajectories.states[:, place].flatten(1), population.flatten(1)).numpy() + 1
        is_last = time == record.times[-1]
        who["to_row" if is_last else f"row_at_{time:g}"] = partners
        where["x_1" if is_last else f"x_at_{time:g}"] = paths[:, place]
    if counts:
        who |= {"from_counts": counts[0][0][start_indices.numpy()], "to_counts": counts[-1][1][who["to_row"] - 1]}
        _write_counts(run, record, counts)
    names = {} if (points := modality.view(Points)) is None else {"columns": np.array(points.columns)}
    write_arrays({"paths": paths, "samples": paths[:, -1], "times": times, **names}, run.path / "paths.npz")
    write_arrays({**who, **where, **names}, run.path / "pairs.npz")
    if points is None:
        return
    columns = list(points.columns)
    head = [*who, *(f"{name}_{called.get(when, when[2:])}" for when in where for name in columns)]
    _write_table(run.path / "pairs.csv", head, zip(*who.values(), *np.concatenate([*where.values()], 1).T, strict=True))
    if paths.size <= NUMBERS:
        n, steps, d = paths.shape
        rows = zip(np.repeat(np.arange(1, n + 1), steps), np.tile(times, n), *paths.reshape(-1, d).T, strict=True)
        _write_table(run.path / "paths.csv", ["path", "time", *columns], rows)


def _write_counts(run: Run, record: BridgeRecord, counts: Counts) -> None:
    """Write what each member counts where a leg begins, and where one ends; no number where it is at neither."""
    rows = []
    for place, time in enumerate(record.times):
        begins = counts[place][0] if place < len(counts) else np.full(len(counts[-1][1]), np.nan)
        ends = counts[place - 1][1] if place else np.full(len(begins), np.nan)
        rows.append(np.stack([np.full(len(begins), time), np.arange(1, len(begins) + 1), begins, ends], 1))
    table = np.concatenate(rows)
    names = ("time", "row", "ahead", "back")
    write_arrays(dict(zip(names, table.T, strict=True)), run.path / "counts.npz")
    cells = [[time, int(row), *("" if np.isnan(one) else one for one in own)] for time, row, *own in table.tolist()]
    _write_table(run.path / "counts.csv", list(names), cells)


def values_of(modality: Modality, states: Float[Tensor, "n times *d"]) -> np.ndarray:
    """Return states of trajectories in the units and the layout of the data."""
    n, times = states.shape[:2]
    decoded = modality.decode(states.flatten(0, 1))
    samples = modality.arrays(decoded, {})["samples"]
    return samples.reshape(n, times, *samples.shape[1:])


def nearest_partners(reached: Float[Tensor, "n d"], members: Float[Tensor, "m d"]) -> Tensor:
    """Return a member for each place that was reached, at the least squared distance, none more often than need be."""
    from scipy.optimize import linear_sum_assignment  # takes longer to load than the rest of feller

    some = torch.arange(
        0, len(members), -(-len(members) // MEMBERS)
    )  # of very many, some: the cost of all takes memory
    columns = some.repeat(-(-len(reached) // len(some)))
    cost = SquaredDistance()(reached.double(), members.double(), {})
    _, chosen = linear_sum_assignment(cost[:, columns].numpy())
    return columns[torch.from_numpy(chosen)]


def _write_table(path: Any, head: list[str], rows: Any) -> None:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow(map(_cell, row))
    replace_file(path, file.getvalue())


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return repr(float(value)) if isinstance(value, float | np.floating) else str(int(value))

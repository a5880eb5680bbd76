"""Application of a fitted bridge: transport of samples, and simulation of trajectories."""

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
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.bridges.bridge_run import (
    BridgeRecord,
    continue_command,
    read_bridge_record,
    read_bridge_settings,
    reread_populations,
)
from feller.app.workflows.bridges.cost_specs import changed_pictures, walls_of
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

MAX_COMPARED = 500
"""Maximum number of samples, of the file and of the population, in the check that the file is near the population."""


def transport(run: Run, config: SampleConfig, *, reporter: Reporter = SILENT) -> tuple[Dataset, pathlib.Path]:
    """Transport samples along a bridge and write their end points.

    An .npz file holds the end points as `samples`, and all trajectories as `paths` [n, times, ...] with their `times`.
    Other formats hold only the end points. The fractions of samples that start in a wall, or cross a wall, are logged.

    Args:
        run: Run of the bridge.
        config: Options of `feller sample`. For a bridge fitted with `--growth`, samples of a population itself are
            drawn according to their weights.
        reporter: Progress and log output.

    Returns:
        End points, and the path of the file with them.

    Raises:
        InputError: If the run, or the file of samples to transport, is unusable.
        UsageError: If the run is not a bridge.
    """
    source, seed = config.bridge.from_data, config.seed
    bridge = _open_bridge(run, backward=config.bridge.backward)
    record, modality = bridge.record, bridge.modality
    path = run.output_path(config.output.out)
    modality.check_place(path)
    if source is None:
        initial_states = _population(bridge, seed, reporter)
    else:
        initial_states = modality.encode(read(source, like=modality).values)
        _warn_if_far(initial_states, bridge, source, reporter)
    walls = _walls(record, reporter)
    paths, wall_mask = bridge.simulate(initial_states, seed, walls, reporter)
    if wall_mask is not None:
        _warn(wall_mask, bridge, source or record.populations[bridge.start], reporter)
    endpoints = modality.decode(paths[:, -1 - bridge.start])
    if path.suffix.lower() == ".npz":
        arrays = modality.arrays(endpoints, {})
        columns = {"columns": arrays["columns"]} if "columns" in arrays else {}
        trajectory_arrays = {"samples": arrays["samples"], "paths": values_of(modality, paths), "times": bridge.times}
        write_arrays({**trajectory_arrays, **columns}, path)
    else:
        modality.write(endpoints, {}, path)
    return Dataset(endpoints, {}, modality), path


def trajectories(run: Run, n: int, *, backward: bool = False, seed: int = 0) -> np.ndarray:
    """Simulate trajectories of a bridge from samples of its first population.

    Args:
        run: Run of the bridge.
        n: Number of trajectories. Starting points are drawn without replacement until all samples are used; for a
            bridge fitted with `--growth`, they are drawn according to their weights.
        backward: Simulate backward in time, from the last population to the first.
        seed: Random seed for the choice of starting points and for the noise.

    Returns:
        States [n, times, ...] in data units and layout. Times are equally spaced between consecutive populations, in
        ascending order also for backward trajectories.

    Raises:
        InputError: If the run is unusable.
        UsageError: If the run is not a bridge, or n is below 1.
    """
    if n < 1:
        raise UsageError(argument="n", expected="at least 1", found=str(n))
    bridge = _open_bridge(run, backward=backward)
    populations = reread_populations(bridge.record).states
    if bridge.record.growth is None:
        members = populations[bridge.start]
        generator = Rng(seed).fold_in("trajectories").stream("members").shared_generator()
        permutations = [torch.randperm(len(members), generator=generator) for _ in range(-(-n // len(members)))]
        initial_states = members[torch.cat(permutations)[:n]]
    else:
        initial_states = bridge.counted(populations)(n, Rng(seed).fold_in("push", "members"))
    paths, _ = bridge.simulate(initial_states, seed, (), SILENT)
    return values_of(bridge.modality, paths)


@dataclass(frozen=True, kw_only=True, eq=False)
class _OpenBridge:
    """A loaded bridge, to be simulated forward or backward in time."""

    record: BridgeRecord
    model: Model
    modality: Points | Images
    settings: BridgeSolverConfig
    backward: bool

    @property
    def start(self) -> int:
        """Index of the population from which trajectories start."""
        return -1 if self.backward else 0

    def counted(self, populations: Sequence[Tensor]) -> Population:
        """Return the population from which trajectories start, with its sample weights from unbalanced transport."""
        a, b = populations[-2:] if self.backward else populations[:2]
        return unbalanced_weights(a, b, self.record.growth or 0.0)[self.backward]

    @property
    def _grid(self) -> tuple[list[float], int]:
        """Times of all simulation steps, and the number of steps between stored states of a trajectory."""
        return time_grid(self.record.relative_times, self.settings.control.mean_knots, self.settings.nfe)

    @property
    def times(self) -> np.ndarray:
        """Times of the states in a trajectory, in the user's units."""
        times, stride = self._grid
        begin, end = self.record.times[0], self.record.times[-1]
        return begin + (end - begin) * np.array(times[::stride])

    def simulate(
        self, first: Tensor, seed: int, walls: tuple[ImageWalls, ...], reporter: Reporter
    ) -> tuple[Tensor, Tensor | None]:
        """Return trajectories, [n, times, ...], and a mask of the states inside walls (None without walls)."""
        network, device = cast(ForwardBackwardNetwork, self.model.network), get_engine().device
        drift = (network.backward_drift if self.backward else network.forward_drift).to(device).eval()
        (times, stride), noise = self._grid, cast(BrownianBridge, self.model.spec.path).noise
        every = 1 if walls else stride  # check walls at every step, not only at the knots
        state_batches, wall_masks = [], []
        reporter.start("simulating the drift")
        for rows, on_progress in iter_batches(
            len(first), default_batch_size(self.model.spec.space, device), reporter.progress
        ):
            batch = first[rows].to(device)
            rng, call_counter = Rng(seed, rows.start).fold_in("push"), itertools.count(1)

            def drift_with_progress(
                x: Tensor, t: Tensor, on_progress: OnProgress = on_progress, call_counter: Iterator[int] = call_counter
            ) -> Tensor:
                on_progress(min(next(call_counter) / len(times), 1.0))
                return drift(x, t, {})

            trajectories = simulate_drift(
                drift_with_progress, lambda _, initial=batch: initial, noise, times, every, rng, backward=self.backward
            )
            states_cpu = trajectories.states.cpu()
            wall_masks += [_inside(walls, self.modality, states_cpu)] if walls else []
            state_batches.append(states_cpu[:, :: stride // every].clone())
            on_progress(1.0)
        reporter.finish()
        return torch.cat(state_batches), torch.cat(wall_masks) if wall_masks else None


def _open_bridge(run: Run, *, backward: bool) -> _OpenBridge:
    record = read_bridge_record(run)
    model = load_model(run)
    spec = model.spec
    if record is None or model.family.name != "bridge" or not isinstance(model.network, ForwardBackwardNetwork):
        raise UsageError(
            "is not a bridge; its samples start from noise", remedy="Leave out --from and --backward", file=run.path
        )
    modality = spec.modality.view(Points) or spec.modality.view(Images)
    if modality is None:
        raise UsageError(f"a bridge needs numeric rows or images; this run has {spec.modality.display_name}")
    if backward and not read_counters(run).get("back"):
        resume = continue_command(run, record, "--rounds", 3)
        raise UsageError(
            "has no backward drift yet: its only round fitted the forward drift",
            remedy=f"Continue with: {resume}",
            file=run.path,
        )
    return _OpenBridge(
        record=record, model=model, modality=modality, settings=read_bridge_settings(run), backward=backward
    )


def _population(bridge: _OpenBridge, seed: int, reporter: Reporter) -> Tensor:
    """Return the samples from which trajectories start; for unbalanced transport resampled by their weights."""
    populations, growth = reread_populations(bridge.record).states, bridge.record.growth
    if growth is None:
        return populations[bridge.start]
    population = bridge.counted(populations)
    n = len(population.members)
    reporter.log(
        f"samples of the population have weights (--growth {growth:g}): {n:,} were drawn by weight; to start once from"
        " each sample, name its file with --from"
    )
    return population(n, Rng(seed).fold_in("push", "members"))


def _warn_if_far(states: Tensor, bridge: _OpenBridge, source: str, reporter: Reporter) -> None:
    """Log a warning if samples are far from the population at the start, where the drift was not trained.

    The median distance to the nearest population sample is compared with the standard deviation of the population.
    Without the population's file there is no check.
    """
    try:
        members = reread_populations(bridge.record).states[bridge.start].flatten(1)[:MAX_COMPARED].double()
    except InputError:
        return
    distance = torch.cdist(states.flatten(1)[:MAX_COMPARED].double(), members).amin(1).median()
    if distance > (members - members.mean(0)).square().sum(1).mean().sqrt():
        name = bridge.record.populations[bridge.start]
        reporter.log(
            f"{source} is far from {name}, where the bridge starts{' backward' if bridge.backward else ''}: the drift"
            " was not trained there, so the results are unreliable"
        )


def _walls(record: BridgeRecord, reporter: Reporter) -> tuple[ImageWalls, ...]:
    """Return the wall images of a bridge; empty if their files have changed."""
    changed = changed_pictures(record.costs, record.code)
    if changed:
        reporter.log(f"{', '.join(changed)} changed or missing since the fit: paths are not checked for wall crossings")
        return ()
    return walls_of(record.costs, record.frame)


def _inside(walls: tuple[ImageWalls, ...], modality: Points | Images, states: Tensor) -> Bool[Tensor, "n times"]:
    points = torch.from_numpy(values_of(modality, states))
    return torch.stack([wall.contains(points) for wall in walls]).any(0)


def _warn(wall_mask: Bool[Tensor, "n times"], bridge: _OpenBridge, source: str, reporter: Reporter) -> None:
    """Log a warning with the fractions of samples that start inside a wall and of trajectories that cross one."""
    start_fraction = wall_mask[:, bridge.start].double().mean().item()
    hit_fraction = wall_mask.any(1).double().mean().item()
    if start_fraction:
        reporter.log(
            f"{WARNING}{format_percent(start_fraction)} of the samples of {source} start inside a wall or outside"
            " the image"
        )
    if hit_fraction > start_fraction:
        reporter.log(f"{WARNING}{format_percent(hit_fraction)} of the paths cross a wall")

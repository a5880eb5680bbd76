"""Reading and writing of the run folder of a bridge: record of its options, command to repeat it, training state."""

import itertools
import math
import pathlib
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from feller.app.workflows.bridges.bridge_detection import BRIDGE_KEY
from feller.app.workflows.bridges.populations import Populations, read_populations
from feller.app.workflows.run_config import is_older_example
from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.rounds import BridgeState, init_state
from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors, named_as_now, save_tensors
from feller.core.serialization import write_json
from feller.models.families.path_process import BridgeProcess
from feller.models.spec import ModelSpec
from feller.networks.bridge_drift import ForwardBackwardDrift, ForwardBackwardNetwork
from feller.paths.brownian import BrownianBridge
from feller.sampling.sampler_config import SamplerConfig
from feller.training.checkpoint import (
    HARDWARE_KEY,
    describe_hardware,
    hardware_change_notice,
    restore_train_state,
    train_device,
    train_state_tensors,
)
from feller.training.engine import Engine


@dataclass(frozen=True, kw_only=True)
class BridgeRecord:
    """Options of a bridge except the solver settings, as recorded in recipe.json."""

    populations: tuple[str, ...]
    """Files, folders or examples with the populations, in order of time."""
    prints: tuple[str, ...]
    """Hash of each population as it was read."""
    times: tuple[float, ...]
    """Observation times in the user's units."""
    costs: tuple[str, ...] = ()
    """State costs, each as the text of --cost; the bridge minimises their sum."""
    code: tuple[str, ...] = ()
    """Hash of each file (image, point cloud or user code) named in the state costs."""
    frame: tuple[float, ...] = ()
    """Extent of the wall image: left, right, bottom, top."""
    noise: float
    """Standard deviation of the uncontrolled process over the whole time, in data units (images: pixel values -1 to
    1)."""
    growth: float | None = None
    """Weight of the penalty on creating or destroying mass, in unbalanced transport; None for balanced transport."""
    longest: int | None = None
    """Length in pixels of the longer side to which images were resized; None for the default."""
    resample: int | None = None
    """Number of trajectories per endpoint pair for importance resampling; None for the default."""
    seed: int = 0
    minutes: float | None = None
    """Total training time in minutes; None if the number of rounds limits training."""
    max_memory: float | None = None
    """Memory limit of the path optimisation in gigabytes; None for no limit."""
    fields: tuple[str, ...] = ()
    """Command-line words that set solver fields, such as `--train.steps 100`."""
    notes: tuple[str, ...] = ()
    """Notes on data conversions and default choices."""

    def __post_init__(self) -> None:
        is_increasing = all(b > a for a, b in itertools.pairwise(self.times))
        is_complete = len(self.times) == len(self.populations) == len(self.prints) >= 2
        if not is_complete or not is_increasing or len(self.frame) not in (0, 4) or not 0 <= self.noise < math.inf:
            raise InputError("the record of this bridge is damaged: expected increasing times, one for each population")

    @property
    def relative_times(self) -> tuple[float, ...]:
        """Observation times scaled to [0, 1]."""
        first, last = self.times[0], self.times[-1]
        return tuple((time - first) / (last - first) for time in self.times)

    @property
    def cost_arguments(self) -> tuple[str, ...]:
        """Command-line words that name user-defined costs, because code named only in a record is never executed."""
        return ("--cost", *self.costs) if any(".py:" in text for text in self.costs) else ()


def bridge_command(
    record: BridgeRecord, settings: BridgeSolverConfig, place: pathlib.Path, rounds: int | None = None
) -> str:
    """Return the command that repeats a bridge in another run folder.

    Args:
        record: Bridge record.
        settings: Solver settings.
        place: Run folder.
        rounds: Number of completed rounds, for a bridge with a time budget, because its number of rounds varies.
    """
    args: list[object] = ["feller", "bridge", *record.populations]
    args += ["--times", *(f"{time:g}" for time in record.times)] if len(record.times) > 2 else []
    args += ["--cost", *record.costs] if record.costs else []
    args += ["--frame", *(f"{edge:g}" for edge in record.frame)] if record.frame else []
    args += ["--growth", f"{record.growth:g}"] if record.growth is not None else []
    args += ["--longest", record.longest] if record.longest is not None else []
    if record.resample is not None:
        args += ["--resample", record.resample]
    elif settings.resampling is not None:
        args += ["--resample", settings.resampling.trajectories]
    args += ["--max-memory", f"{record.max_memory:g}"] if record.max_memory is not None else []
    args += ["--rounds", settings.rounds or rounds] if settings.rounds or rounds else []
    args += ["--noise", repr(record.noise), "--pairs", settings.pairs, *last_field_words(record.fields)]
    args += ["--seed", record.seed, "--out", place]
    return shlex.join(map(str, args))


def last_field_words(fields: Sequence[str], without: Collection[str] = ()) -> list[str]:
    """Return the command-line words in `fields` with one value per solver field: the last one.

    Words of the fields whose names are in `without`, such as train.steps, are left out.
    """
    args_by_field: dict[str, list[str]] = {}
    for arg in fields:
        if arg.startswith("--"):
            name = arg.split("=")[0].removeprefix("--").replace("_", "-")
            args_by_field.pop(name, None)
            args_by_field[name] = [arg]
        elif args_by_field:
            args_by_field[next(reversed(args_by_field))].append(arg)
    return [arg for name, args in args_by_field.items() if name not in without for arg in args]


def continue_command(run: Run, record: BridgeRecord, *more: object) -> str:
    """Return the command that resumes a bridge, followed by the words `more`."""
    args = ("feller", "bridge", "--resume", "--out", run.path, *record.cost_arguments, *more)
    return shlex.join(map(str, args))


def read_bridge_record(run: Run) -> BridgeRecord | None:
    """Read the recorded options of a bridge; None if the run is not a bridge."""
    return run.find(BridgeRecord, run.recipe, BRIDGE_KEY)


def read_bridge_settings(run: Run) -> BridgeSolverConfig:
    """Read the solver settings of a bridge."""
    return run.read_as(BridgeSolverConfig, run.recipe, "recipe")


def reread_populations(record: BridgeRecord) -> Populations:
    """Read the populations of a bridge again, and compare their hashes with the recorded hashes.

    Raises:
        InputError: If a population is missing or has changed.
    """
    populations = read_populations(record.populations, record.longest)
    for name, recorded, current in zip(record.populations, record.prints, populations.fingerprints, strict=True):
        if recorded != current and not is_older_example(name, recorded):
            raise InputError(
                f"{name} has changed since this bridge was fitted", remedy="Restore it or start a new bridge"
            )
    return populations


def begin(
    record: BridgeRecord, populations: Populations, settings: BridgeSolverConfig, engine: Engine
) -> tuple[ModelSpec, BridgeState]:
    """Return the model specification of a bridge, and its training state with a randomly initialised network.

    The network, on the device of `engine`, contains the forward drift and the backward drift.
    """
    modality = populations.modality
    spec = ModelSpec(
        modality,
        modality.space(),
        BridgeProcess(BrownianBridge(record.noise)),
        ForwardBackwardDrift(settings.architecture),
        sampling=SamplerConfig("euler-maruyama", settings.nfe),
    )
    network = spec.build(Rng(record.seed)).to(engine.device)
    if not isinstance(network, ForwardBackwardNetwork):
        raise InputError(
            f"a bridge needs two drifts, but the network of this run is a {type(network).__name__}",
            remedy="Start a new bridge",
        )
    return spec, init_state(network, settings)


def save_progress(run: Run, progress: BridgeState) -> None:
    """Save the training state and the files for sampling; replace each file atomically.

    The EMA weights, which sampling uses, are those of the best round in each direction. The other files contain the
    state after the last round.
    """
    tensors = {
        f"{direction}/{name}": value
        for direction, learner in _learners(progress).items()
        for name, value in train_state_tensors(learner).items()
    }
    tensors |= {f"knots/{leg}": knots for leg, knots in enumerate(progress.knots)}
    counters = {
        "step": progress.forward_state.step + progress.backward_state.step,
        "seconds": progress.seconds,
        "rounds": progress.num_rounds,
    }
    counters["back"] = progress.backward_state.step
    states = {
        direction: {"step": learner.step, "seconds": learner.seconds}
        for direction, learner in _learners(progress).items()
    }
    meta = {"rounds": str(progress.num_rounds), "seconds": str(progress.seconds)}
    meta |= {
        f"{direction}/{name}": str(value) for direction, entries in states.items() for name, value in entries.items()
    }
    meta |= {f"{direction}/kept": str(best_round) for direction, best_round in progress.best_rounds.items()}
    ema_tensors = _both(progress, "ema_weights")
    ema_tensors |= {
        f"{_prefix(progress, direction)}.{name}": value
        for direction, best in progress.best_weights.items()
        for name, value in best.items()
    }
    save_tensors(run.ema_weights, ema_tensors)  # first: an interrupted round is repeated with the same result
    save_tensors(run.state, tensors, {**meta, HARDWARE_KEY: describe_hardware(train_device(progress.forward_state))})
    save_tensors(run.weights, _both(progress, "weights"))
    write_json(run.progress, counters)


def load_progress(run: Run, progress: BridgeState, number: int) -> str:
    """Load the training state saved after the last round into `progress`, for a bridge with `number` segments.

    Returns:
        Notice if the state was written on different hardware, otherwise an empty string.

    Raises:
        InputError: If the state is missing, damaged, or belongs to another bridge.
    """
    tensors, meta = load_tensors(run.state)
    try:
        for direction, learner in _learners(progress).items():
            learner_tensors = {
                name.removeprefix(f"{direction}/"): value
                for name, value in tensors.items()
                if name.startswith(f"{direction}/")
            }
            learner.step, learner.seconds = int(meta[f"{direction}/step"]), float(meta[f"{direction}/seconds"])
            restore_train_state(learner, learner_tensors, has_started=learner.step > 0)
        legs = sorted(int(name.removeprefix("knots/")) for name in tensors if name.startswith("knots/"))
        progress.knots = [tensors[f"knots/{leg}"] for leg in legs]
        progress.num_rounds, progress.seconds = int(meta["rounds"]), float(meta["seconds"])
        dim = progress.network.forward_drift.centre.numel()
        is_valid = all(knots.ndim == 3 and knots.shape[2] == dim and knots.isfinite().all() for knots in progress.knots)
        if progress.num_rounds < 0 or not is_valid or len(progress.knots) not in (0, number):
            raise ValueError("knots or rounds of another bridge")
    except InputError:
        raise
    except (KeyError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{run.state} does not fit this bridge", remedy="Copy the whole run, or start a new bridge"
        ) from error
    _load_best(run, progress, meta)
    return hardware_change_notice(meta, train_device(progress.forward_state))


def _load_best(run: Run, progress: BridgeState, meta: dict[str, str]) -> None:
    """Load the drift weights of the best rounds, or of the last rounds for older runs without them."""
    rounds = {direction: meta[f"{direction}/kept"] for direction in _learners(progress) if f"{direction}/kept" in meta}
    network = progress.network
    averages = named_as_now(load_tensors(run.ema_weights)[0], network, network.state_dict()) if rounds else {}
    for direction, best_round in rounds.items():
        shapes = {name: value.shape for name, value in _learners(progress)[direction].ema_weights().items()}
        weights = {name: averages.get(f"{_prefix(progress, direction)}.{name}") for name in shapes}
        best = {name: value for name, value in weights.items() if value is not None and value.shape == shapes[name]}
        if len(best) < len(shapes) or not best_round.isdecimal():
            raise InputError(
                f"{run.ema_weights} does not fit this bridge", remedy="Copy the whole run, or start a new bridge"
            )
        progress.best_weights[direction], progress.best_rounds[direction] = best, int(best_round)


def _learners(progress: BridgeState) -> dict[str, Any]:
    return {"ahead": progress.forward_state, "back": progress.backward_state}


def _prefix(progress: BridgeState, direction: str) -> str:
    """Return the name that the drift of a direction ("ahead" or "back") has as a submodule of the bridge's network."""
    drift = _learners(progress)[direction].network
    return next(name for name, module in progress.network.named_children() if module is drift)


def _both(progress: BridgeState, method: str) -> dict[str, Tensor]:
    """Return the weights of the forward and the backward drift, named as in the bridge's network.

    `method` is the name of the method of `TrainState` that returns the weights.
    """
    return {
        f"{_prefix(progress, direction)}.{name}": value
        for direction, learner in _learners(progress).items()
        for name, value in getattr(learner, method)().items()
    }

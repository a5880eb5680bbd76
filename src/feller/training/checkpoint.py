"""Saving and loading of checkpoints.

Resuming is bit-identical on the same hardware, and equal up to rounding on other hardware.
"""

import functools
import json
import math
import pathlib
import platform
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from feller.core.errors import InputError
from feller.core.pytree import State
from feller.core.run_folder import INCOMPLETE_RUN_REMEDY, Run
from feller.core.safetensors_io import load_tensors, load_weights, save_tensors
from feller.core.serialization import read_json, write_json
from feller.training.loop import BestWeights, TrainState, gather_full
from feller.training.optimizer import optimizer_tensors, restore_optimizer

HARDWARE_KEY = "processor"
"""Metadata key for the hardware that wrote a checkpoint."""
NETWORK_KEY = "network"
"""Metadata key for the name of an auxiliary network."""
BEST_KEY, LOWEST_KEY = "best.step_and_loss", "best.lowest_losses"
"""Names of the step and the loss of the selected weights, and of the lowest losses of the held-out examples."""
STOPPED_KEY = "stopped_early"
"""Key of a training that ended before its budget, because the loss on held-out examples no longer fell."""
CPUINFO = pathlib.Path("/proc/cpuinfo")


def describe_hardware(device: torch.device) -> str:
    """Return a description of the hardware and software on which bit-exact results of a training run depend."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        threads = torch.get_num_threads()
        thread_count = f"{threads} thread{'' if threads == 1 else 's'}"
        name = f"{_cpu_model()} ({torch.backends.cpu.get_cpu_capability()}, {thread_count})"
    else:
        name = f"{platform.machine()} {device.type}"
    return f"{name}, torch {torch.__version__}"


def hardware_change_notice(metadata: dict[str, str], device: torch.device) -> str:
    """Return a notice if hardware or torch version differ from those in a checkpoint's metadata, else empty text."""
    saved, current = metadata.get(HARDWARE_KEY, ""), describe_hardware(device)
    if saved in ("", current):
        return ""
    return f"checkpoint written on {saved}; now on {current}: resuming is equal up to rounding, not bit-identical"


@functools.cache
def _cpu_model() -> str:
    """Return the CPU model, or its architecture if the system does not report a model."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


_COUNTERS = {"step": int, "seconds": float}


def save_checkpoint(run: Run, train_state: TrainState, *, writes: bool = True) -> None:
    """Write a checkpoint if `writes` is True; with a sharded state, all processes must call this function.

    `state.safetensors` is complete and replaced atomically, so a crash between files leaves a consistent state; the
    files of weights and EMA weights are copies for sampling.
    """
    counters = {name: getattr(train_state, name) for name in _COUNTERS}
    state, weights, ema_weights = train_state_tensors(train_state), train_state.weights(), train_state.ema_weights()
    if not writes:
        return
    metadata = {name: str(value) for name, value in counters.items()}
    early = {STOPPED_KEY: True} if train_state.stopped_early else {}
    hardware = {HARDWARE_KEY: describe_hardware(train_device(train_state))}
    save_tensors(run.state, state, {**metadata, **hardware, **{name: str(value) for name, value in early.items()}})
    save_tensors(run.weights, weights)
    save_tensors(run.ema_weights, ema_weights)
    write_json(run.progress, {**counters, **early})


def read_counters(run: Run) -> dict[str, Any]:
    """Return the training progress of a run: steps, seconds, and `stopped_early` if training ended before its budget.

    Raises:
        InputError: If the file is missing or damaged.
    """
    counters = read_json(run.progress, INCOMPLETE_RUN_REMEDY)
    if not isinstance(counters, dict):
        raise InputError("an object", f"{counters!r:.40}", "Resume the run", file=run.progress)
    for name, kind in _COUNTERS.items():
        value = counters.get(name)
        is_count = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        if not is_count or not 0 <= value < math.inf:
            expected = "a whole number of at least 0" if kind is int else "a finite number of at least 0"
            raise InputError(expected, f"{value!r:.40}", "Resume the run", argument=name, file=run.progress)
    if not isinstance(early := counters.get(STOPPED_KEY, False), bool):
        raise InputError("true or false", f"{early!r:.40}", "Resume the run", argument=STOPPED_KEY, file=run.progress)
    return counters


def save_aux_checkpoint(run: Run, train_state: TrainState, name: str) -> None:
    """Write the training state of the auxiliary network `name`, whose training is not finished."""
    metadata = {key: str(getattr(train_state, key)) for key in _COUNTERS}
    save_tensors(run.aux_state, train_state_tensors(train_state), {**metadata, NETWORK_KEY: name})


def load_aux_checkpoint(run: Run, train_state: TrainState, name: str) -> None:
    """Load the training state of the auxiliary network `name`, in place; do nothing if there is none.

    Raises:
        InputError: If the checkpoint is damaged.
    """
    if run.aux_state.is_file() and load_tensors(run.aux_state)[1].get(NETWORK_KEY) == name:
        load_checkpoint(run, train_state, run.aux_state)


def load_checkpoint(run: Run, train_state: TrainState, file: pathlib.Path | None = None) -> str:
    """Load a checkpoint, by default the one of the model, into a train state, in place.

    Returns:
        A notice if other hardware wrote the checkpoint, else an empty string.

    Raises:
        InputError: If the checkpoint is missing or damaged, or belongs to another network.
    """
    file = file or run.state
    tensors, metadata = load_tensors(file)
    try:
        restore_train_state(train_state, tensors)
        counters = {name: convert(metadata[name]) for name, convert in _COUNTERS.items()}
    except InputError:
        raise
    except (KeyError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{file} does not fit the model of this run", remedy="Copy the whole run folder, or start a new run"
        ) from error
    for name, value in counters.items():
        setattr(train_state, name, value)
    train_state.stopped_early = STOPPED_KEY in metadata
    return hardware_change_notice(metadata, train_device(train_state))


def train_device(train_state: TrainState) -> torch.device:
    """Return the device of a train state."""
    return next((weight.device for weight in train_state.network.parameters()), torch.device("cpu"))


def train_state_tensors(train_state: TrainState) -> dict[str, Tensor]:
    """Return network, EMA and optimizer as named tensors, gathered from all ranks."""
    groups = {
        "network": train_state.network.state_dict(),
        "average": train_state.ema.state_dict(),
        "optimiser": optimizer_tensors(train_state.optimizer),
        "scaler": _scaler_tensors(train_state.scaler) if train_state.scaler.is_enabled() else {},
        "best": _selected(train_state.best),
        "reused": {} if train_state.reused is None else dict(_named_leaves(train_state.reused)),
    }
    return {f"{group}/{name}": value for group, state in groups.items() for name, value in gather_full(state).items()}


def restore_train_state(train_state: TrainState, tensors: dict[str, Tensor], *, has_started: bool = True) -> None:
    """Load the tensors of `train_state_tensors`; without `has_started`, the optimizer has no state yet.

    Raises:
        KeyError, ValueError, RuntimeError: If the tensors belong to another network or optimizer.
    """
    names = ("network", "average", "optimiser", "scaler", "best", "reused")
    groups: dict[str, dict] = {name: {} for name in names}
    for name, value in tensors.items():
        group, name = name.split("/", 1)
        groups[group][name] = value
    load_weights(groups["network"], train_state.network)
    train_state.ema.load_state_dict(groups["average"])
    if train_state.best is not None and groups["best"]:
        step, loss = groups["best"].pop(BEST_KEY).tolist()
        lowest = groups["best"].pop(LOWEST_KEY)
        train_state.best = BestWeights(int(step), loss, groups["best"], lowest)
    train_state.reused = _nested(groups["reused"]) if groups["reused"] else None
    if has_started:
        restore_optimizer(train_state.optimizer, groups["optimiser"])
    if train_state.scaler.is_enabled() and groups["scaler"]:
        scalars = {name: value.item() for name, value in groups["scaler"].items()}
        train_state.scaler.load_state_dict({**train_state.scaler.state_dict(), **scalars})


def _named_leaves(example: State, keys: tuple[str, ...] = ()) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested dicts, each with its keys as a JSON list; the last key of an empty dict is null."""
    if isinstance(example, dict) and not example:
        yield json.dumps((*keys, None)), torch.zeros(0)
    elif isinstance(example, dict):
        for key, entry in example.items():
            yield from _named_leaves(entry, (*keys, key))
    else:
        yield json.dumps(keys), example


def _nested(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Return the nested dicts of tensors that are named by `_named_leaves`."""
    example: dict[str, Any] = {}
    for name, value in tensors.items():
        *outer, last = json.loads(name)
        entry = example
        for key in outer:
            entry = entry.setdefault(key, {})
        if last is not None:
            entry[last] = value
    return example


def _selected(best: BestWeights | None) -> dict[str, Tensor]:
    """Return the selected weights, their step and loss, and the lowest losses, as named tensors."""
    if best is None or best.lowest is None:
        return {}
    record = torch.tensor([best.step, best.loss], dtype=torch.float64)
    return {**best.tensors, BEST_KEY: record, LOWEST_KEY: best.lowest}


def _scaler_tensors(scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
    """Return the state of a gradient scaler as tensors."""
    state = scaler.state_dict()
    return {"scale": torch.tensor(state["scale"]), "_growth_tracker": torch.tensor(state["_growth_tracker"])}

"""Trainer callbacks for checkpoints and logging: JSON lines, TensorBoard, Weights & Biases."""

import importlib
import json
import math
import pathlib
import time
from dataclasses import replace
from typing import Any

from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run
from feller.core.serialization import error_path, replace_file
from feller.training.checkpoint import save_checkpoint
from feller.training.loop import StepMetrics, TrainState
from feller.training.optimizer import LoggerName
from feller.training.trainer import Callback

CHECKPOINT_SECONDS = 60.0
"""Largest interval between two checkpoints, in seconds."""
FIRST_PAUSE_SECONDS = 5.0
"""Interval in seconds between the first two checkpoints; the interval doubles after each checkpoint."""


class CheckpointSaver(Callback):
    """Callback that saves checkpoints: after the first step, then at growing intervals, and at the end."""

    def __init__(
        self, run: Run, *, writes: bool = True, at_each_log: bool = False, clock_resolution: float = 0.0
    ) -> None:
        """Initialise for a run folder.

        Args:
            run: Run folder.
            writes: True if this process writes files; other processes only take part in gathering sharded states.
            at_each_log: Save after each logged step, so that the last good weights survive a failure.
            clock_resolution: Resolution in seconds to which the recorded training time is rounded up.
        """
        self.run, self.writes, self.at_each_log, self.clock_resolution = run, writes, at_each_log, clock_resolution
        self._saved, self._pause, self._due = time.monotonic(), CHECKPOINT_SECONDS, False

    @property
    def wants_checkpoint(self) -> bool:
        return self._due or time.monotonic() - self._saved > min(self._pause, CHECKPOINT_SECONDS)

    def on_train_start(self, state: TrainState) -> None:
        self._saved, self._pause, self._due = time.monotonic(), CHECKPOINT_SECONDS, False

    def on_step_end(self, state: TrainState, metrics: StepMetrics) -> None:
        self._due = metrics.step == 1

    def on_log(self, state: TrainState, metrics: StepMetrics, numbers: dict[str, float]) -> None:
        self._due = self._due or self.at_each_log

    def on_checkpoint(self, state: TrainState) -> None:
        seconds, resolution = state.seconds, self.clock_resolution
        rounded = replace(state, seconds=resolution * math.ceil(seconds / resolution)) if resolution else state
        save_checkpoint(self.run, rounded, writes=self.writes)
        self._pause = FIRST_PAUSE_SECONDS if state.step == 1 else 2 * self._pause
        self._saved, self._due = time.monotonic(), False


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl; a last line that was cut off by a crash is ignored.

    Raises:
        InputError: If a line before the last line is damaged.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = []
    for line_number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or type(row.get("step")) is not int:
                raise ValueError("no step")
            rows.append(row)
        except (ValueError, RecursionError) as error:
            if line_number < len(lines):
                raise InputError(
                    f"{path}, line {line_number}, is not a record of a step; the file is damaged"
                ) from error
    return rows


class MetricsWriter:
    """Writer of metrics.jsonl; resuming a run first removes the rows after its last checkpoint."""

    def __init__(self, path: pathlib.Path, step: int) -> None:
        rows = [row for row in read_metrics(path) if row["step"] <= step]
        replace_file(path, "".join(json.dumps(row) + "\n" for row in rows))
        self._path, self._file = path, path.open("a", encoding="utf-8")

    def add(self, **row: int | float) -> None:
        """Append a row of metrics and flush the file."""
        with error_path(self._path):
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()


class JSONLinesLogger(Callback):
    """Callback that writes metrics to metrics.jsonl; resuming a run removes the rows after its last checkpoint."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def on_train_start(self, state: TrainState) -> None:
        self._writer = MetricsWriter(self._path, state.step)

    def on_log(self, state: TrainState, metrics: StepMetrics, numbers: dict[str, float]) -> None:
        self._writer.add(step=metrics.step, **numbers)

    def on_train_end(self, state: TrainState) -> None:
        self._writer.close()


class TensorBoardLogger(Callback):
    """Callback that writes metrics as TensorBoard scalars."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._module = _import("torch.utils.tensorboard", "tensorboard")

    def on_train_start(self, state: TrainState) -> None:
        self._writer = self._module.SummaryWriter(str(self._folder), purge_step=state.step + 1)

    def on_log(self, state: TrainState, metrics: StepMetrics, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, metrics.step)

    def on_train_end(self, state: TrainState) -> None:
        self._writer.close()


class WandbLogger(Callback):
    """Callback that sends metrics to Weights & Biases, configured by its environment variables."""

    def __init__(self, folder: pathlib.Path, config: dict[str, Any]) -> None:
        self._folder, self._config = folder, config
        self._module = _import("wandb", "wandb")

    def on_train_start(self, state: TrainState) -> None:
        self._run = self._module.init(
            project="feller", name=self._folder.name, dir=str(self._folder), config=self._config
        )

    def on_log(self, state: TrainState, metrics: StepMetrics, numbers: dict[str, float]) -> None:
        self._run.log(numbers, step=metrics.step)

    def on_train_end(self, state: TrainState) -> None:
        self._run.finish()


def make_loggers(name: LoggerName, run: Run, config: dict[str, Any]) -> tuple[Callback, ...]:
    """Return the callbacks that log a run: JSON lines, and the requested logger `name`.

    `config` holds the settings of the run, which only Weights & Biases records.

    Raises:
        UsageError: If the logger's package is not installed.
    """
    json_logger = JSONLinesLogger(run.metrics)
    match name:
        case "jsonl":
            return (json_logger,)
        case "tensorboard":
            return json_logger, TensorBoardLogger(run.path / "tensorboard")
        case "wandb":
            return json_logger, WandbLogger(run.path, config)


def _import(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"the logger {package} is not installed; run python -m pip install {package}") from error

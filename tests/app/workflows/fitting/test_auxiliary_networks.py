"""Training of auxiliary networks: its time limit, and its interruption."""

import pathlib
import signal
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from feller.app.reporter import SILENT
from feller.app.workflows.fitting.auxiliary_training import MAX_TIME_FRACTION, AuxiliaryTraining
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.training.engine import get_engine
from feller.training.loop import BatchFn, TrainState, make_train_state
from feller.training.objective import Batch, Example, Objective
from feller.training.optimizer import TrainConfig

TRAINING = TrainConfig(batch_size=4, steps=30)


class Clock:
    """A clock of the training loop, each reading of which takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


class Squares(Objective):
    """Squared outputs of a network at random points."""

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        return {"x": batch["x_1"] + rng.stream("x").normal(batch["x_1"].shape)}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        return network(example["x"]).square().sum(1)


def feed(step: int, rows: slice) -> Batch:
    return {"x_1": torch.zeros(rows.stop - rows.start, 2)}


def trained(run: Run, minutes: float | None = None, feed: BatchFn = feed) -> tuple[nn.Module, TrainState]:
    torch.manual_seed(0)
    network, model = nn.Linear(2, 2), make_train_state(nn.Linear(1, 1), TRAINING)
    training = AuxiliaryTraining(
        run=run, pretrained=frozenset(), seed=0, engine=get_engine(), minutes=minutes, model_state=model
    )
    training.train("vectors", Squares(), feed, network, TRAINING, SILENT)
    return network, model


def test_interrupted_it_goes_on_where_it_stopped(tmp_path: pathlib.Path) -> None:
    run, asked = Run(tmp_path), list[int]()

    def stopped(step: int, rows: slice) -> Batch:
        asked.append(step)
        if step == 12:
            signal.raise_signal(signal.SIGINT)
        return feed(step, rows)

    with pytest.raises(KeyboardInterrupt):
        trained(run, feed=stopped)
    assert run.aux_state.is_file()
    assert not run.state.exists()
    network, _ = trained(run, feed=stopped)
    assert asked == [*range(30)]
    whole, _ = trained(Run(tmp_path / "whole"))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), whole.parameters(), strict=True))


def test_it_takes_part_of_the_training_time(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feller.training.loop.time", Clock())
    _, unlimited = trained(Run(tmp_path))
    assert unlimited.seconds == 0
    _, enough = trained(Run(tmp_path), minutes=30 / 60 / MAX_TIME_FRACTION)
    assert enough.seconds >= 30
    _, less = trained(Run(tmp_path), minutes=20 / 60 / MAX_TIME_FRACTION)
    assert less.seconds == 20

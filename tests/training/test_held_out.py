"""Weights selected by their loss on held-out examples: the one-standard-error rule."""

import pathlib

import pytest
import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.networks.mlp import MLP
from feller.paths import Affine
from feller.spaces import Euclidean
from feller.training import held_out
from feller.training.callbacks import CheckpointSaver
from feller.training.checkpoint import load_checkpoint
from feller.training.engine import get_engine
from feller.training.held_out import HeldOutSelection
from feller.training.loop import BestWeights, StepMetrics, TrainState, make_train_state
from feller.training.objective import FlowMatching
from feller.training.optimizer import TrainConfig
from feller.training.trainer import Callback, Trainer

ROWS = Rng(5).stream("rows").normal((8, 2))
"""So few training rows that a network soon learns their noise."""
HELD_OUT = Rng(6).stream("rows").normal((512, 2))
OBJECTIVE = FlowMatching(Affine(), Euclidean((2,)))
CONFIG = TrainConfig(batch_size=64, lr=1e-2, steps=240, keep_best=True, ema_decay=0.9)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "EVERY", 20)
    monkeypatch.setattr(held_out, "MIN_EVERY", 20)
    monkeypatch.setattr(held_out, "PATIENCE", 100)


def fresh(config: TrainConfig) -> TrainState:
    return make_train_state(MLP(width=32, depth=2).build((2,), {}, Rng(0)), config)


def selection(state: TrainState, config: TrainConfig) -> HeldOutSelection:
    network = MLP(width=32, depth=2).build((2,), {}, Rng(1))
    return HeldOutSelection(OBJECTIVE, network, {"x_1": HELD_OUT, "given": {}}, config, rng=Rng(7), engine=get_engine())


class Losses(Callback):
    """A callback that measures the averaged weights at each measurement, apart from the selection."""

    def __init__(self) -> None:
        self.measured: dict[int, Tensor] = {}
        self.example = OBJECTIVE.draw({"x_1": HELD_OUT, "given": {}}, Rng(7), fresh(CONFIG).network)

    def on_step_end(self, state: TrainState, metrics: StepMetrics) -> None:
        if metrics.step % held_out.EVERY == 0:
            self.measured[metrics.step] = OBJECTIVE.loss(state.ema.network, self.example).double()

    def is_good(self, step: int) -> bool:
        """Return True if the loss after a step is within a standard error of the lowest until then."""
        before = [losses for other, losses in self.measured.items() if other <= step]
        excess = self.measured[step] - min(before, key=lambda losses: losses.mean())
        return bool(excess.mean() <= excess.std() / len(excess) ** 0.5)


def fit(state: TrainState, config: TrainConfig, *callbacks: Callback) -> TrainState:
    def batches(step: int, rows: slice) -> dict[str, Tensor | dict]:
        index = Rng(8).stream("index", step).randint(len(ROWS), (rows.stop - rows.start,))
        return {"x_1": ROWS[index], "given": {}}

    trainer = Trainer(config, [selection(state, config), *callbacks], engine=get_engine())
    return trainer.fit(state, OBJECTIVE, batches, Rng(0))


def test_last_weights_with_a_low_held_out_loss_are_kept() -> None:
    losses = Losses()
    state = fit(fresh(CONFIG), CONFIG, losses)
    best = max(step for step in losses.measured if losses.is_good(step))
    assert best < CONFIG.steps  # it overfits
    assert losses.measured[best].mean() < 0.95 * losses.measured[CONFIG.steps].mean()
    assert state.best.step == best
    assert state.best.loss == pytest.approx(losses.measured[best].mean().item(), rel=1e-6)
    assert any(not torch.equal(state.ema_weights()[name], value) for name, value in state.averaged_weights().items())


def test_overfitting_stops_a_training_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit(fresh(CONFIG), CONFIG)
    monkeypatch.setattr(held_out, "PATIENCE", 4)
    stopped = fit(fresh(CONFIG), CONFIG)
    best = whole.best
    assert best is not None
    assert stopped.best is not None
    assert stopped.step == best.step + max(80, best.step) < CONFIG.steps
    assert (stopped.stopped_early, whole.stopped_early) == (True, False)
    assert stopped.best.step == best.step
    assert all(torch.equal(stopped.ema_weights()[name], value) for name, value in whole.ema_weights().items())


def test_last_weights_without_selection() -> None:
    state = fit(fresh(TrainConfig(steps=40)), TrainConfig(steps=40))
    assert state.best is None
    assert all(torch.equal(state.ema_weights()[name], value) for name, value in state.averaged_weights().items())


def test_last_weights_before_the_first_measurement() -> None:
    state = fresh(CONFIG)
    assert isinstance(state.best, BestWeights)
    assert state.ema_weights().keys() == state.averaged_weights().keys()


def test_resumed_run_selects_the_same_weights(tmp_path: pathlib.Path) -> None:
    class Stop(Callback):
        steps = 0

        @property
        def should_stop(self) -> bool:
            return self.steps == 110

        def on_step_end(self, state: TrainState, metrics: StepMetrics) -> None:
            self.steps += 1

    whole = fit(fresh(CONFIG), CONFIG)
    run = Run(tmp_path)
    fit(fresh(CONFIG), CONFIG, Stop(), CheckpointSaver(run))
    resumed = fresh(CONFIG)
    load_checkpoint(run, resumed)
    assert resumed.step == 110
    assert 0 < resumed.best.step <= 110
    fit(resumed, CONFIG)
    assert (resumed.best.step, resumed.best.loss) == (whole.best.step, whole.best.loss)
    assert all(torch.equal(resumed.ema_weights()[name], value) for name, value in whole.ema_weights().items())

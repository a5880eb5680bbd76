"""Training loop: determinism, learning rate, checkpoints."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.batches import batch_loader
from feller.data.loading.dataset_reader import read
from feller.networks.mlp import MLP
from feller.paths import Affine
from feller.spaces import Euclidean
from feller.training.checkpoint import load_checkpoint, save_checkpoint
from feller.training.engine import get_engine
from feller.training.loop import check_finite, make_train_state, train
from feller.training.objective import FlowMatching
from feller.training.optimizer import TrainConfig, learning_rate
from tests.errors import refuses

DATA = read("example:moons")
TRAINING = TrainConfig(batch_size=96, lr=1e-2, steps=24, warmup=5)


def fresh(training: TrainConfig = TRAINING):
    return make_train_state(MLP(width=16, depth=1).build((2,), {}, Rng(0)), training)


def follow(learner, training: TrainConfig = TRAINING, seed: int = 0):
    objective = FlowMatching(Affine(), Euclidean((2,)))
    feed = batch_loader(DATA, training.batch_size, Rng(seed))
    return train(learner, objective, feed, training, rng=Rng(seed), engine=get_engine())


def tensors(learner):
    return [*learner.network.state_dict().values(), *learner.ema.state_dict().values()]


def test_loss_falls():
    losses = [
        report.loss.item() for report in follow(fresh(replace(TRAINING, steps=200)), replace(TRAINING, steps=200))
    ]
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])


def test_micro_batches_do_not_change_the_loss():
    results = []
    for size in (None, 96, 40, 7):
        training = replace(TRAINING, micro_batch=size, steps=5)
        learner = fresh(training)
        results.append([report.loss.item() for report in follow(learner, training)])
    for other in results[1:]:
        assert other == pytest.approx(results[0], rel=1e-5)


def test_training_is_deterministic_given_the_seed():
    runs = []
    for seed in (0, 0, 1):
        learner = fresh()
        for _ in follow(learner, seed=seed):
            pass
        runs.append(tensors(learner))
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))


def test_the_global_generator_is_not_used():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    learner = fresh()
    for _ in follow(learner):
        pass
    assert torch.equal(before, torch.random.get_rng_state())


def test_learning_rate_warms_up_and_decays_to_zero():
    training = TrainConfig(lr=2.0, warmup=4, steps=20, lr_decay_fraction=0.5)
    rates = [learning_rate(training, step, step / 20) for step in range(20)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4:11] == [2.0] * 7
    assert rates[-1] == pytest.approx(0.2)
    assert all(a >= b for a, b in pairwise(rates[9:]))
    assert learning_rate(training, 5000, 0.3) == 2.0
    assert learning_rate(training, 5000, 1.2) == 0


def test_warmup_is_at_most_a_fifth_of_the_run():
    training = TrainConfig(lr=2.0, warmup=100, steps=20, lr_decay_fraction=0.5)
    rates = [learning_rate(training, step, step / 20) for step in range(20)]
    assert rates[:5] == pytest.approx([0.02, 0.5, 1.0, 1.5, 2.0])
    assert rates[4:11] == [2.0] * 7
    assert learning_rate(training, 9, 9 / 10_000) == pytest.approx(0.2)


def test_minutes_end_the_run_with_decay(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr("feller.training.loop.time.monotonic", lambda: float(next(clock)))
    training = replace(TRAINING, steps=None, minutes=1.0, lr_decay_fraction=0.25)
    reports = list(follow(fresh(training), training))
    assert len(reports) == 60
    assert reports[-1].progress == 1
    assert [report.step for report in reports if report.lr < training.lr] == [1, 2, 3, 4, *range(47, 61)]
    assert reports[-1].lr < training.lr / 10


def test_nonfinite_losses_are_refused():
    training = replace(TRAINING, lr=1e30, grad_clip_norm=1e30, steps=50, warmup=1)

    def all_of_it():
        return [check_finite(report) for report in follow(fresh(training), training)]

    with refuses(InputError):
        all_of_it()


def test_checkpoint_of_another_network_is_refused(tmp_path):
    save_checkpoint(Run(tmp_path), fresh())
    other = make_train_state(MLP(width=17, depth=1).build((2,), {}, Rng(0)), TRAINING)
    with refuses(InputError):
        load_checkpoint(Run(tmp_path), other)


def test_checkpoints_are_written_atomically(tmp_path, monkeypatch):
    learner = fresh()
    run = Run(tmp_path)
    save_checkpoint(run, learner)
    good = run.state.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("feller.core.serialization.os.fsync", full)
    for _ in follow(learner):
        pass
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(run, learner)
    assert run.state.read_bytes() == good
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "field", [{"batch_size": 0}, {"lr": -1.0}, {"lr_decay_fraction": 2.0}, {"steps": 0}, {"minutes": 0.0}]
)
def test_settings_out_of_range_are_refused(field):
    with refuses(UsageError, argument=next(iter(field))):
        TrainConfig(**field)


def test_gradient_is_clipped():
    training = replace(TRAINING, optimizer="sgd", lr=1.0, warmup=0, lr_schedule="constant", grad_clip_norm=1e-2)
    learner = fresh(training)
    before = [weight.detach().clone() for weight in learner.network.parameters()]
    report = next(iter(follow(learner, training)))
    assert report.grad_norm.item() > 0.1
    moved = [weight.detach() - old for weight, old in zip(learner.network.parameters(), before, strict=True)]
    assert torch.nn.utils.get_total_norm(moved).item() == pytest.approx(1e-2, rel=1e-3)


def test_reuse_batches():
    """Steps 0, 3, 6, ... draw, as they would alone; those between repeat their examples, at new weights."""
    counted = {}
    for replay in (1, 3):
        training, learner = replace(TRAINING, steps=8, reuse_batches=replay, lr=1e-9), fresh()
        feed, asked = batch_loader(DATA, training.batch_size, Rng(0)), []

        def watched(step, rows, feed=feed, asked=asked):
            asked.append(step)
            return feed(step, rows)

        objective = FlowMatching(Affine(), Euclidean((2,)))
        reports = list(train(learner, objective, watched, training, rng=Rng(0), engine=get_engine()))
        counted[replay] = asked, [report.loss.item() for report in reports]
    assert [asked for asked, _ in counted.values()] == [list(range(8)), [0, 3, 6]]
    once, thrice = (losses for _, losses in counted.values())
    assert [thrice[k] for k in (0, 3, 6)] == pytest.approx([once[k] for k in (0, 3, 6)], rel=1e-5)
    assert thrice[:3] == pytest.approx([once[0]] * 3, rel=1e-5)
    assert thrice[1] != pytest.approx(once[1], rel=1e-3)


def test_losses_of_five_steps():
    """Losses of five steps as they were before examples could serve several."""
    training = replace(TRAINING, steps=5, warmup=1)
    losses = [report.loss.item() for report in follow(fresh(training), training)]
    assert losses == pytest.approx([2.1908243, 1.7236949, 1.7207187, 1.7042106, 2.1895673], rel=1e-5)

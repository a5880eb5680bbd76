"""Trainer: callbacks, checkpoints, precision, optimizers, loggers."""

import copy
import json
import math
import os
import pathlib
import signal
import sys
import types
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError
from feller.core.gradient import MeanGradient
from feller.core.pytree import leaves
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.serialization import from_dict
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.networks import GPT, CausalTransformer, TextDiT
from feller.networks.blocks.leaf_codecs import RealCodec, TokenCodec
from feller.networks.graph.equivariant import EGNN
from feller.networks.graph.set_transformer import SetTransformer
from feller.networks.image.dit import DiT
from feller.networks.image.unet import UNet
from feller.networks.mlp import MLP
from feller.networks.network_config import NetworkConfig
from feller.paths import Affine
from feller.privacy.dp_sgd.clip_norm import FixedClipNorm
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.noise.grid_noise import SeededNoise
from feller.spaces import Euclidean
from feller.training.callbacks import CheckpointSaver, JSONLinesLogger, TensorBoardLogger, make_loggers
from feller.training.checkpoint import load_checkpoint, save_checkpoint
from feller.training.engine import get_engine
from feller.training.loop import StepMetrics, TrainState, make_train_state, train
from feller.training.objective import FlowMatching
from feller.training.objectives.maximum_likelihood import MaximumLikelihood
from feller.training.optimizer import TrainConfig, learning_rate
from feller.training.parallelize import check_parallelize, checkpoint_blocks, parallelize
from feller.training.trainer import Callback, StepMonitor, Trainer
from tests.errors import refuses

CONFIG = TrainConfig(batch_size=16, lr=1e-2, steps=24, warmup=3, weight_decay=0.01)
OBJECTIVE = FlowMatching(Affine(), Euclidean((2,)))
OPTIMIZERS = ("adamw", "adam", "sgd", "adafactor")


def batches(step: int, rows: slice) -> dict[str, Any]:
    x_1 = Rng(5).stream("points", step).normal((rows.stop - rows.start, 2))
    return {"x_1": x_1, "given": {}}


def fresh(config: TrainConfig = CONFIG) -> TrainState:
    return make_train_state(MLP(width=16, depth=2).build((2,), {}, Rng(0)), config)


def tensors(state: TrainState) -> list[Tensor]:
    return [*state.network.state_dict().values(), *state.ema.state_dict().values()]


def same(one: TrainState, other: TrainState) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


class Recorder(Callback):
    """A callback that records its calls and stops after some steps."""

    def __init__(self, until: float = math.inf) -> None:
        self.heard, self.until, self.steps = list[str](), until, 0

    @property
    def should_stop(self) -> bool:
        return self.steps >= self.until

    def on_train_start(self, state: TrainState) -> None:
        self.heard.append("start")

    def on_step_end(self, state: TrainState, metrics: StepMetrics) -> None:
        self.steps += 1

    def on_log(self, state: TrainState, metrics: StepMetrics, numbers: dict[str, float]) -> None:
        self.heard.append(f"log {metrics.step}")

    def on_checkpoint(self, state: TrainState) -> None:
        self.heard.append(f"checkpoint {state.step}")

    def on_interrupt(self, state: TrainState) -> None:
        self.heard.append("interrupt")

    def on_train_end(self, state: TrainState) -> None:
        self.heard.append("end")


def fit(config: TrainConfig, state: TrainState, *callbacks: Callback, **more: Any) -> Trainer:
    trainer = Trainer(config, callbacks, monitor=more.pop("monitor", None))
    trainer.fit(state, OBJECTIVE, batches, Rng(3), **more)
    return trainer


def test_callbacks_are_called_in_order(tmp_path: pathlib.Path) -> None:
    recorder, state = Recorder(), fresh()
    trainer = fit(CONFIG, state, recorder, CheckpointSaver(Run(tmp_path)))
    assert recorder.steps == state.step == 24
    assert recorder.heard == ["start", "log 1", "checkpoint 1", "log 10", "log 20", "log 24", "checkpoint 24", "end"]
    assert not trainer.interrupted
    assert Run(tmp_path).state.is_file()


def test_should_stop_ends_the_training(tmp_path: pathlib.Path) -> None:
    recorder, state = Recorder(until=5), fresh()
    trainer = fit(CONFIG, state, recorder)
    assert (state.step, trainer.interrupted) == (5, False)
    assert recorder.heard[-3:] == ["log 5", "checkpoint 5", "end"]
    fit(CONFIG, state, Recorder(until=0))
    assert state.step == 5


def test_interrupts_end_after_the_step_and_save(tmp_path: pathlib.Path) -> None:
    recorder, state, run = Recorder(), fresh(), Run(tmp_path)

    def stopping(step: int, rows: slice) -> dict[str, Any]:
        if step == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return batches(step, rows)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        trainer = Trainer(CONFIG, [recorder, CheckpointSaver(run)])
        trainer.fit(state, OBJECTIVE, stopping, Rng(3))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (trainer.interrupted, state.step) == (True, 7)
    assert recorder.heard[-3:] == ["checkpoint 7", "interrupt", "end"]
    whole, again = fresh(), fresh()
    load_checkpoint(run, again)
    fit(CONFIG, again)
    fit(CONFIG, whole)
    assert same(whole, again)


def test_failing_checks_save_no_checkpoint(tmp_path: pathlib.Path) -> None:
    run, state = Run(tmp_path), fresh()

    class Broken(StepMonitor):
        def check(self, metrics: StepMetrics) -> None:
            if metrics.step >= 10:
                raise InputError("spoiled")

    with pytest.raises(InputError, match="spoiled"):
        fit(CONFIG, state, CheckpointSaver(run), monitor=Broken())
    kept = fresh()
    load_checkpoint(run, kept)
    assert kept.step == 1


@pytest.mark.portable
@pytest.mark.parametrize(
    ("optimizer", "schedule"), [*((name, "linear") for name in OPTIMIZERS), ("adamw", "cosine"), ("adamw", "constant")]
)
def test_resumed_training_is_exact(tmp_path: pathlib.Path, optimizer: Any, schedule: Any) -> None:
    config = replace(CONFIG, optimizer=optimizer, lr_schedule=schedule)
    whole, first, second, run = fresh(config), fresh(config), fresh(config), Run(tmp_path)
    fit(config, whole)
    fit(config, first, Recorder(until=11), CheckpointSaver(run))
    load_checkpoint(run, second)
    fit(config, second)
    assert second.step == 24
    assert same(whole, second)
    assert not same(whole, fresh(config))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_resumes_exactly_and_is_close(tmp_path: pathlib.Path, precision: Any) -> None:
    config, run = replace(CONFIG, precision=precision), Run(tmp_path)
    whole, first, second, exact = fresh(config), fresh(config), fresh(config), fresh()
    fit(config, whole)
    fit(config, first, Recorder(until=11), CheckpointSaver(run))
    load_checkpoint(run, second)
    assert second.scaler.is_enabled() == (precision == "fp16")
    fit(config, second)
    fit(CONFIG, exact)
    assert same(whole, second)
    assert not same(whole, exact)
    for one, other in zip(tensors(whole), tensors(exact), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0.05)


def test_float16_skips_overflowing_steps_and_halves_the_scale() -> None:
    config = replace(CONFIG, precision="fp16", steps=3)
    state = fresh(config)
    state.scaler.load_state_dict({**state.scaler.state_dict(), "scale": 2.0**127})
    before = [value.clone() for value in state.network.state_dict().values()]
    reports = list(train(state, OBJECTIVE, batches, config, rng=Rng(3), engine=get_engine()))
    assert state.scaler.get_scale() == 2.0**124
    assert all(torch.equal(a, b) for a, b in zip(before, state.network.state_dict().values(), strict=True))
    assert not math.isfinite(reports[0].grad_norm.item())
    assert "gradient" not in StepMonitor().core_numbers(reports[0])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_private_noise_is_added_once_per_step(optimizer: Any, precision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, optimizer=optimizer, precision=precision, steps=4, micro_batch=5, grad_clip_norm=1e9)
    state, added = fresh(config), list[int]()
    real = SeededNoise.add_gaussian

    def counting(self: Any, total: Tensor, scale: float) -> Tensor:
        added.append(total.numel())
        return real(self, total, scale)

    monkeypatch.setattr(SeededNoise, "add_gaussian", counting)
    gradient = DPSGD(sigma=2.0, clip=FixedClipNorm(0.1), noise=SeededNoise(2, "noise"))
    fit(config, state, gradient=gradient, monitor=Silent())
    weights = [weight.numel() for weight in state.network.parameters()]
    assert added == 4 * weights


class Silent(StepMonitor):
    """A step monitor without checks."""

    def check(self, metrics: StepMetrics) -> None:
        return


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_private_training_needs_float32(precision: Any) -> None:
    """In bfloat16 norms are off by some thousandths, by which the clip norm would be exceeded."""
    config = replace(CONFIG, precision=precision)
    gradient = DPSGD(sigma=2.0, clip=FixedClipNorm(0.1), noise=SeededNoise(2, "noise"))
    assert not MeanGradient.needs_float32
    with refuses(UsageError):
        fit(config, fresh(config), gradient=gradient)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA has TensorFloat32")
def test_unsupported_precisions_are_refused() -> None:
    with refuses(UsageError):
        fit(replace(CONFIG, precision="tf32"), fresh())


@pytest.mark.parametrize(
    "wrong", [{"optimizer": "lion"}, {"lr_schedule": "step"}, {"precision": "fp8"}, {"logger": "x"}]
)
def test_unknown_choices_are_refused(wrong: dict[str, Any]) -> None:
    with refuses(InputError) as caught:
        from_dict(TrainConfig, wrong)
    assert str(caught.value).startswith(next(iter(wrong)))


def test_learning_rate_schedules() -> None:
    cosine, constant = (TrainConfig(lr=2.0, warmup=0, lr_schedule=name) for name in ("cosine", "constant"))
    assert [learning_rate(cosine, 500, share) for share in (0.0, 0.5, 1.0)] == pytest.approx([2.0, 1.0, 0.0], abs=1e-12)
    assert [learning_rate(constant, 500, share) for share in (0.3, 0.99)] == [2.0, 2.0]
    assert learning_rate(replace(cosine, warmup=10**6), 0, 0.1) == pytest.approx(0.5 * (1 + math.cos(0.1 * math.pi)))


NETWORKS = {
    "mlp": (lambda: MLP(width=16, depth=2).build((2,), {}, Rng(0)), (2,)),
    "unet": (lambda: UNet(channels=4, heads=2).build((1, 8, 8), {}, Rng(0)), (1, 8, 8)),
    "dit": (lambda: DiT(width=16, depth=2, heads=2).build((1, 8, 8), {}, Rng(0)), (1, 8, 8)),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_checkpointed_activations_give_the_same_gradients(kind: str) -> None:
    build, shape = NETWORKS[kind]
    x, t = Rng(1).stream("x").normal((3, *shape)), torch.full((3,), 0.3)
    gradients, saved = [], []
    for checkpointed in (False, True):
        network, held = build(), set[int]()
        with torch.no_grad():  # last layers may begin at zero
            for k, weight in enumerate(network.parameters()):
                weight += 0.1 * Rng(2).stream("weights", k).normal(tuple(weight.shape))
        names = [*network.state_dict()]
        if checkpointed:
            checkpoint_blocks(network)
        assert [*network.state_dict()] == names

        def keep(value: Tensor, held: set[int] = held) -> Tensor:
            held.add(value.untyped_storage().data_ptr())
            return value

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            loss = network(x, t, {}).square().mean()
        saved.append(len(held))
        loss.backward()
        gradients.append([weight.grad for weight in network.parameters()])
    assert saved[1] < saved[0]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_channels_last_training_is_close_and_resumes_exactly(tmp_path: pathlib.Path, optimizer: Any) -> None:
    config, run = replace(CONFIG, steps=6, channels_last=True, optimizer=optimizer), Run(tmp_path)

    def learned(
        config: TrainConfig, until: float = math.inf, *callbacks: Callback, resumes: bool = False
    ) -> TrainState:
        state = make_train_state(UNet(channels=8, heads=2).build((1, 8, 8), {}, Rng(0)), config)
        if resumes:
            load_checkpoint(run, state)
        parallelize(state, config, get_engine())
        trainer = Trainer(config, (Recorder(until=until), *callbacks))
        return trainer.fit(state, FlowMatching(Affine(), Euclidean((1, 8, 8))), pictures, Rng(3))

    def pictures(step: int, rows: slice) -> dict[str, Any]:
        return {"x_1": Rng(5).stream("pictures", step).normal((rows.stop - rows.start, 1, 8, 8)), "given": {}}

    whole, plain = learned(config), learned(replace(config, channels_last=False))
    layers = [module for module in whole.network.modules() if isinstance(module, nn.Conv2d) and module.in_channels > 1]
    assert layers
    assert all(layer.weight.is_contiguous(memory_format=torch.channels_last) for layer in layers)
    for layer in layers:
        tensors_of = (layer.weight, layer.weight.grad, *whole.optimizer.state[layer.weight].values())
        shaped = [value for value in tensors_of if isinstance(value, Tensor) and value.shape == layer.weight.shape]
        assert all(value.is_contiguous(memory_format=torch.channels_last) for value in shaped)
    learned(config, 3, CheckpointSaver(run))
    assert same(whole, learned(config, resumes=True))
    for one, other in zip(tensors(whole), tensors(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=2e-3)


def test_channels_last_needs_convolutions() -> None:
    config = replace(CONFIG, channels_last=True)
    with refuses(UsageError):
        parallelize(fresh(config), config, get_engine())
    with refuses(UsageError):
        check_parallelize(replace(config, fsdp=True), OBJECTIVE, UNet(), get_engine())


BLOCKS = ("unet", "dit", "gpt", "causal", "text", "points", "set")


def case(kind: str) -> tuple[nn.Module, Any, dict[str, Tensor]]:
    """Return a network with blocks, states and conditions."""
    draw = Rng(1).stream("x")
    picture, text, place = draw.normal((3, 1, 8, 8)), draw.randint(6, (3, 9)), draw.normal((3, 7, 3))
    atoms = {"element": text[:, :7] % 5, "place": place - place.mean(1, keepdim=True)}
    shapes = {"element": (7,), "place": (7, 3)}
    element, small = TokenCodec(5), {"width": 16, "depth": 2, "heads": 2}
    settings: dict[str, tuple[NetworkConfig, Any, Any, dict[str, Tensor]]] = {
        "unet": (UNet(channels=4, heads=2), (1, 8, 8), picture, {}),
        "dit": (DiT(**small), (1, 8, 8), picture, {}),
        "gpt": (
            GPT(DocumentVocabulary(3, 2, 2), context=9, **small),
            (9,),
            text,
            {"sample": torch.arange(9).expand(3, 9) // 5},
        ),
        "causal": (CausalTransformer(6, **small), (9,), text, {}),
        "text": (TextDiT(6, has_mask=False, **small), (9,), text, {}),
        "points": (EGNN({"element": element}, width=16, pair_width=8, depth=2), shapes, atoms, {}),
        "set": (SetTransformer({"element": element, "place": RealCodec()}, **small), shapes, atoms, {}),
    }
    network, shape, x, cond = settings[kind]
    return network.build(shape, {}, Rng(0)), x, cond


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", BLOCKS)
def test_checkpointed_blocks_give_bit_identical_gradients(kind: str, precision: Any) -> None:
    gradients = []
    for checkpointed in (False, True):
        network, x, cond = case(kind)
        with torch.no_grad():  # last layers may begin at zero
            for k, weight in enumerate(network.parameters()):
                weight += 0.1 * Rng(2).stream("weights", k).normal(tuple(weight.shape))
        if checkpointed:
            checkpoint_blocks(network)
        t = torch.full((3,), 0.3)
        with get_engine().autocast(precision):
            outputs = network(x, dict.fromkeys(x, t) if isinstance(x, dict) else t, cond)
            loss = torch.stack([leaf.float().square().mean() for leaf in leaves(outputs)]).sum()
        loss.backward()
        gradients.append([weight.grad for weight in network.parameters()])
    assert sum(gradient is not None and bool(gradient.any()) for gradient in gradients[0]) > 10
    for one, other in zip(*gradients, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


CURVES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "points": (MLP(width=64, depth=2), (2,)),
    "images": (UNet(8), (1, 8, 8)),
}


@pytest.mark.parametrize("kind", CURVES)
def test_loss_curves_in_bfloat16_follow_float32(kind: str) -> None:
    """Each mean over ten of fifty steps differs by less than two per cent."""
    architecture, shape = CURVES[kind]

    def some(step: int, rows: slice) -> dict[str, Any]:
        n = rows.stop - rows.start
        x_1 = Rng(5).stream("some", step).normal((n, 1, *(1,) * (len(shape) - 1))).sign() + torch.zeros(n, *shape)
        return {"x_1": x_1, "given": {}}

    curves = []
    for precision in ("fp32", "bf16"):
        config = replace(CONFIG, precision=precision, steps=50, batch_size=32, lr=3e-3)
        state = make_train_state(architecture.build(shape, {}, Rng(0)), config)
        objective = FlowMatching(Affine(), Euclidean(shape))
        losses = [metrics.loss for metrics in train(state, objective, some, config, rng=Rng(3), engine=get_engine())]
        curves.append(torch.stack(losses).view(5, 10).mean(1))
        assert all(weight.dtype == torch.float32 for weight in tensors(state) if weight.is_floating_point())
    assert not torch.equal(*curves)
    assert curves[0][-1] < 0.9 * curves[0][0]
    torch.testing.assert_close(curves[1], curves[0], rtol=0.02, atol=0)


def test_copies_of_checkpointed_networks_are_independent() -> None:
    network = NETWORKS["mlp"][0]()
    checkpoint_blocks(network)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    x, t = torch.ones(2, 2), torch.full((2,), 0.5)
    torch.testing.assert_close(other(x, t, {}), NETWORKS["mlp"][0]()(x, t, {}))


def test_unsupported_gradient_checkpointing_is_refused() -> None:
    with pytest.raises(UsageError):
        checkpoint_blocks(nn.Linear(2, 2))
    config = TrainConfig(gradient_checkpointing=True)
    with pytest.raises(UsageError):
        check_parallelize(config, MaximumLikelihood(Affine(), Euclidean((2,))), MLP(width=8, depth=1), get_engine())
    state = fresh(replace(CONFIG, gradient_checkpointing=True))
    parallelize(state, replace(CONFIG, gradient_checkpointing=True), get_engine())
    plain = fresh()
    fit(CONFIG, plain)
    fit(CONFIG, state)
    for one, other in zip(tensors(plain), tensors(state), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_metrics_of_a_resumed_training_follow_the_checkpoint(tmp_path: pathlib.Path) -> None:
    run = Run(tmp_path)
    state = fresh()
    fit(CONFIG, state, Recorder(until=11), JSONLinesLogger(run.metrics), CheckpointSaver(run))
    fit(CONFIG, state, JSONLinesLogger(run.metrics))  # goes on, and is lost
    again = fresh()
    load_checkpoint(run, again)
    fit(CONFIG, again, JSONLinesLogger(run.metrics))
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 10, 11, 20, 24]
    assert [*rows[0]] == ["step", "loss", "lr", "gradient", "seconds"]


def test_tensorboard_logger(tmp_path: pathlib.Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fit(CONFIG, fresh(), TensorBoardLogger(tmp_path), JSONLinesLogger(tmp_path / "metrics.jsonl"))
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    losses = {event.step: event.value for event in events.Scalars("loss")}
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert losses == pytest.approx({row["step"]: row["loss"] for row in rows})


def test_wandb_logger(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent, finished = list[tuple[int, dict[str, float]]](), list[bool]()

    def init(**settings: Any) -> types.SimpleNamespace:
        assert settings["config"] == {"lr": 1e-2}
        return types.SimpleNamespace(
            log=lambda numbers, step: sent.append((step, numbers)), finish=lambda: finished.append(True)
        )

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))  # pyrefly: ignore
    fit(CONFIG, fresh(), *make_loggers("wandb", Run(tmp_path), {"lr": 1e-2}))
    assert [step for step, _ in sent] == [1, 10, 20, 24]
    assert {*sent[0][1]} == {"loss", "lr", "gradient", "seconds"}
    assert finished == [True]


@pytest.mark.parametrize(("logger", "module"), [("wandb", "wandb"), ("tensorboard", "torch.utils.tensorboard")])
def test_loggers_without_their_package_are_refused(
    logger: Any, module: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # pyrefly: ignore
    with refuses(UsageError):
        make_loggers(logger, Run(tmp_path), {})


def test_states_of_another_optimizer_are_refused(tmp_path: pathlib.Path) -> None:
    run, state = Run(tmp_path), fresh()
    fit(CONFIG, state, Recorder(until=2))
    save_checkpoint(run, state)
    with refuses(InputError):
        load_checkpoint(run, fresh(replace(CONFIG, optimizer="sgd")))

"""Replicated and sharded training of two processes equals that of one."""

import copy
import os
import pathlib
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import distributed

from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors
from feller.training.engine import Engine, get_engine
from feller.training.loop import TrainState, make_train_state
from feller.training.optimizer import TrainConfig
from feller.training.parallelize import apply_fsdp, check_even_batches, checkpoint_blocks
from tests.errors import refuses
from tests.training.shared import MIXED, NETWORKS, ONE_STEP, SHARDED, TRAINING, kept, large, learned, save

LAUNCHER = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone")


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> pathlib.Path:
    """Return the results of two processes."""
    return launched(tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> pathlib.Path:
    """Return the results of two processes in bfloat16."""
    return launched(tmp_path_factory.mktemp("mixed"), "mixed")


def launched(folder: pathlib.Path, *words: str, timeout: float = 280) -> pathlib.Path:
    done = subprocess.run(
        [sys.executable, *LAUNCHER, "-m", "tests.training.shared", str(folder), *words],
        cwd=pathlib.Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def one(folder: pathlib.Path, *what, **how) -> dict[str, torch.Tensor]:
    run = Run(folder / "one")
    save(run, learned(*what, **how), writes=True)
    return kept(run)


def alike(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Assert the same names, shapes and, to float64 rounding, values."""
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-8, atol=1e-10, msg=lambda text, name=name: name + text)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_replicated_training_equals_one_process(two: pathlib.Path, tmp_path: pathlib.Path, kind: str) -> None:
    """Parts of 6 and 7 examples, gradients that are cut, weights that decay."""
    alike(kept(Run(two / f"replicated-{kind}")), one(tmp_path, kind, TRAINING))


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_sharded_training_equals_one_process(two: pathlib.Path, tmp_path: pathlib.Path, kind: str) -> None:
    alike(kept(Run(two / f"sharded-{kind}")), one(tmp_path, kind, SHARDED))


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_sharded_step_in_bfloat16_equals_one_process(mixed: pathlib.Path, tmp_path: pathlib.Path, kind: str) -> None:
    """Gradients agree to bfloat16 rounding, and shards, EMA and optimizer state stay float32."""
    torch.set_default_dtype(torch.float32)
    ours, expected = kept(Run(mixed / f"mixed-{kind}")), one(tmp_path, kind, MIXED, until=1, dtype=torch.float32)
    start = NETWORKS[kind][0]().state_dict()
    if kind == "low-rank":
        start = make_train_state(NETWORKS[kind][0](), MIXED).weights()
    assert ours.keys() == expected.keys()
    assert {value.dtype for value in ours.values() if value.is_floating_point()} == {torch.float32}
    assert {(mixed / f"dtypes-{kind}-{rank}").read_text() for rank in range(2)} == {"torch.float32"}
    gap = torch.cat([(ours[name] - expected[name]).flatten() for name in start])
    step = torch.cat([(expected[name] - start[name]).flatten() for name in start])
    assert step.norm() > 0.1
    assert gap.norm() < 0.02 * step.norm()


def test_shards_of_a_single_process_train_as_the_whole(tmp_path: pathlib.Path, monkeypatch) -> None:
    """The code of two processes in one: a mesh of one rank, with augmentation, dropout and gradient checkpointing."""

    def shard(state: TrainState, training: TrainConfig, engine: Engine) -> None:
        checkpoint_blocks(state.network)
        apply_fsdp(state, training, engine)

    expected = one(tmp_path, "photographs", SHARDED, until=2)
    monkeypatch.setattr("tests.training.shared.parallelize", shard)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        alike(one(tmp_path, "photographs", SHARDED, until=2), expected)
    finally:
        distributed.destroy_process_group()


@pytest.mark.slow
def test_sharded_step_of_the_size_large_equals_one_process(tmp_path: pathlib.Path) -> None:
    """One step of gradient descent of 130 million weights in float32, with augmentation, dropout and checkpointing."""
    torch.set_default_dtype(torch.float32)
    ours = load_tensors(Run(launched(tmp_path, "large", timeout=900) / "large").weights)[0]
    expected = learned("large", replace(ONE_STEP, fsdp=False), until=1, dtype=torch.float32).weights()
    start = large().state_dict()
    held = [int((tmp_path / f"held-{rank}").read_text()) for rank in range(2)]
    assert sum(held) == sum(weight.numel() for weight in start.values())
    assert max(held) < 0.51 * sum(held)
    gap, step = (
        torch.stack([(a[name] - b[name]).norm() for name in start]).norm()
        for a, b in ((ours, expected), (expected, start))
    )
    print(f"gap of the step of large: {gap / step:.2e}, step {step:.2e}")
    assert step > 0
    assert gap < 1e-4 * step


@pytest.mark.slow
def test_each_process_holds_half_of_the_weights(two: pathlib.Path) -> None:
    held = [int((two / f"held-{rank}").read_text()) for rank in range(2)]
    whole = sum(weight.numel() for weight in NETWORKS["mlp"][0]().parameters())
    assert sum(held) == whole
    assert max(held) < 0.6 * whole


@pytest.mark.slow
def test_sharded_states_resume_in_any_layout(two: pathlib.Path, tmp_path: pathlib.Path) -> None:
    whole = one(tmp_path, "mlp", SHARDED)
    for name in ("resumed-sharded", "resumed-whole"):
        alike(kept(Run(two / name)), whole)
    alike(one(tmp_path, "mlp", SHARDED, Run(two / "half")), whole)


@pytest.mark.slow
def test_private_training_equals_one_process(two: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The same coins, and the noise of the first process once: after the sums of all, on its grid of 1e-11."""
    ours, expected = kept(Run(two / "private")), one(tmp_path, "mlp", TRAINING, private=True)
    alike(ours, expected)
    plain = one(tmp_path, "mlp", TRAINING)
    assert all(not torch.allclose(ours[name], plain[name]) for name in ours if name.endswith(".bias"))


@pytest.mark.slow
def test_different_data_are_found_in_all_processes(two: pathlib.Path) -> None:
    assert all("values of data" in (two / f"other-{rank}").read_text() for rank in range(2))
    get_engine().check_identical("data", "whatever one process has")


@pytest.mark.slow
def test_a_key_is_shared(two: pathlib.Path) -> None:
    keys = [(two / f"key-{rank}").read_bytes() for rank in range(2)]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 32
    assert get_engine().shared_secret() is None


@pytest.mark.parametrize(
    "training", [replace(SHARDED, batch_size=13), replace(SHARDED, batch_size=1, micro_batch=None)]
)
def test_uneven_batches_are_refused(training: TrainConfig) -> None:
    two = copy.copy(get_engine())
    two.world_size = 2
    with refuses(UsageError):
        check_even_batches(training, two)
    check_even_batches(training, get_engine())

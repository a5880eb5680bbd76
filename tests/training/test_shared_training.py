"""Replicated and sharded training of two processes equals that of one."""

import copy
import os
import pathlib
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.training.engine import get_engine
from feller.training.optimizer import TrainConfig
from feller.training.parallelize import check_even_batches
from tests.errors import refuses
from tests.training.shared import NETWORKS, SHARDED, TRAINING, kept, learned, save

LAUNCHER = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone")


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> pathlib.Path:
    """Return the results of two processes."""
    folder = tmp_path_factory.mktemp("two")
    done = subprocess.run(
        [sys.executable, *LAUNCHER, "-m", "tests.training.shared", str(folder)],
        cwd=pathlib.Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
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

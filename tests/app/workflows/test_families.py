"""Two processes, plain or sharded, fit every family as one does."""

import os
import pathlib
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors
from feller.models.spec import load_spec
from tests.app.workflows.families import FAMILIES, SHARDED, materials

pytestmark = pytest.mark.slow
LAUNCHER = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone")
ROOT = pathlib.Path(__file__).parents[3]
PARTS = ("tokenizer", "vectors", "durations", "rhythm")
FOUND = ("found",)
"""What takes no steps is bit for bit the same."""


def start(folder: pathlib.Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "XDG_DATA_HOME": str(folder.parent / "home"),
        },
        capture_output=True,
        text=True,
        timeout=1200,
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, pathlib.Path]:
    """What one process and what two made of the same materials."""
    home = tmp_path_factory.mktemp("families")
    for name, launcher in (("one", ()), ("two", LAUNCHER)):
        (home / name).mkdir()
        materials(home / name)
        done = start(home / name, *launcher, "-m", "tests.app.workflows.families", "all")
        assert done.returncode == 0, done.stderr
        assert set(done.stdout.splitlines()) == {"{}"}, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    return home / "one", home / "two"


def weights(run: pathlib.Path) -> dict[str, Tensor]:
    names = [run / f"{name}.safetensors" for name in ("weights", "average", *PARTS)]
    found = {f"{file.stem}/{name}": value for file in names if file.exists() for name, value in load(file).items()}
    return {name: value.double() for name, value in found.items() if value.is_floating_point()}


def load(file: pathlib.Path) -> dict[str, Tensor]:
    return load_tensors(file)[0]


def first_weights(run: pathlib.Path, seed: int) -> dict[str, Tensor]:
    if (run / "base.safetensors").is_file():
        return load(run / "base.safetensors")
    return load_spec(Run(run)).build(Rng(seed)).state_dict()


def alike(one: pathlib.Path, two: pathlib.Path) -> None:
    """Weights differ by rounding alone: by a small share of the way that training took them."""
    ours, expected = weights(two), weights(one)
    assert ours.keys() == expected.keys()
    begin = {f"weights/{name}": value.double() for name, value in first_weights(one, 3).items()}
    moved = torch.cat([(expected[name] - begin[name]).flatten() for name in begin if name in expected])
    apart = torch.cat([(expected[name] - ours[name]).flatten() for name in begin if name in expected])
    assert moved.norm() > 0
    assert apart.norm() < 0.01 * moved.norm()
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-2, atol=1e-3, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in (*FOUND, "bridge")])
def test_two_processes_fit_as_one(both: tuple[pathlib.Path, pathlib.Path], family: str) -> None:
    alike(both[0] / family, both[1] / family)


@pytest.mark.parametrize("family", FOUND)
def test_what_is_found_at_once_is_the_same(both: tuple[pathlib.Path, pathlib.Path], family: str) -> None:
    one, two = (weights(folder / family) for folder in both)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_bridge_is_that_of_one_process(both: tuple[pathlib.Path, pathlib.Path]) -> None:
    """Two rounds, of which the second walks with the weights of the first."""
    one, two = (load(folder / "bridge" / "state.safetensors") for folder in both)
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-2, atol=2e-3, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("family", SHARDED)
def test_sharded_processes_fit_as_one(both: tuple[pathlib.Path, pathlib.Path], family: str) -> None:
    alike(both[0] / family, both[1] / f"sharded-{family}")

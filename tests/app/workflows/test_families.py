"""Two processes, plain or sharded, fit every family as one does."""

import pytest
import torch

from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors
from feller.models.spec import load_spec
from tests.app.workflows.families import FAMILIES, SHARDED, materials
from tests.app.workflows.launched import finish, launcher, start

pytestmark = pytest.mark.slow
PARTS = ("tokenizer", "vectors", "durations", "rhythm")
CLOSED_FORM = ("found",)
"""Fitted without steps, and bit for bit the same."""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Return the folders of the fits of one process and of two, from the same data."""
    home = tmp_path_factory.mktemp("families")
    for name, launch in (("one", ()), ("two", launcher(2))):
        (home / name).mkdir()
        materials(home / name)
        process = start("all", cwd=home / name, launcher=launch, program=("-m", "tests.app.workflows.families"))
        status, out, err = finish(process, timeout=1200)
        assert status == 0, err
        assert set(out.splitlines()) == {"{}"}, out + err
        assert "Traceback" not in err
    return home / "one", home / "two"


def weights(run):
    names = [run / f"{name}.safetensors" for name in ("weights", "average", *PARTS)]
    found = {f"{file.stem}/{name}": value for file in names if file.exists() for name, value in load(file).items()}
    return {name: value.double() for name, value in found.items() if value.is_floating_point()}


def load(file):
    return load_tensors(file)[0]


def first_weights(run, seed):
    if (run / "base.safetensors").is_file():
        return load(run / "base.safetensors")
    return load_spec(Run(run)).build(Rng(seed)).state_dict()


def check_alike(one, two):
    """Check that weights differ by a small fraction of the distance that training moved them."""
    ours, expected = weights(two), weights(one)
    assert ours.keys() == expected.keys()
    begin = {f"weights/{name}": value.double() for name, value in first_weights(one, 3).items()}
    moved = torch.cat([(expected[name] - begin[name]).flatten() for name in begin if name in expected])
    apart = torch.cat([(expected[name] - ours[name]).flatten() for name in begin if name in expected])
    assert moved.norm() > 0
    assert apart.norm() < 0.01 * moved.norm()
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-2, atol=1e-3, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in (*CLOSED_FORM, "bridge")])
def test_two_processes_fit_as_one(both, family):
    check_alike(both[0] / family, both[1] / family)


@pytest.mark.parametrize("family", CLOSED_FORM)
def test_closed_form_fit_is_the_same(both, family):
    one, two = (weights(folder / family) for folder in both)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_two_processes_fit_one_bridge(both):
    """Two rounds; the second simulates with the weights of the first."""
    one, two = (load(folder / "bridge" / "state.safetensors") for folder in both)
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-2, atol=2e-3, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("family", SHARDED)
def test_sharded_processes_fit_as_one(both, family):
    check_alike(both[0] / family, both[1] / f"sharded-{family}")

"""Products of paths: leaves move independently given both ends, with one network for all."""

import torch

from feller.core.rng import Rng
from feller.paths import Affine, DataPrediction, Mixture, ProductPath
from feller.paths.schedules import VE, Cosine
from tests.oracle import F64, close, f64

PATH = ProductPath({"real": Affine(Cosine()), "inner": ProductPath({"token": Mixture()})})
X_0 = {"real": torch.zeros(4, 2, dtype=F64), "inner": {"token": torch.zeros(4, 3, dtype=torch.long)}}
X_1 = {"real": torch.ones(4, 2, dtype=F64), "inner": {"token": torch.ones(4, 3, dtype=torch.long)}}


def test_leaves_share_one_time() -> None:
    x_t = PATH.sample(X_0, X_1, f64(0.0, 0.3, 0.6, 1.0), Rng(0).stream("path"))
    close(x_t["real"][:, 0], torch.sin(torch.pi / 2 * f64(0.0, 0.3, 0.6, 1.0)), 1e-15)
    assert x_t["inner"]["token"][0].tolist() == [0] * 3
    assert x_t["inner"]["token"][3].tolist() == [1] * 3


def test_leaves_may_have_times_of_their_own() -> None:
    """A leaf that is given has t = 1."""
    t = {"real": f64(0.0, 0.0, 0.0, 0.0), "inner": {"token": f64(1.0, 1.0, 1.0, 1.0)}}
    x_t = PATH.sample(X_0, X_1, t, Rng(0).stream("path"))
    assert torch.equal(x_t["real"], X_0["real"])
    assert torch.equal(x_t["inner"]["token"], X_1["inner"]["token"])


def test_targets_and_characteristics_are_those_of_the_leaves() -> None:
    t = f64(0.1, 0.3, 0.6, 0.9)
    x_t = PATH.sample(X_0, X_1, t, Rng(0).stream("path"))
    target = PATH.target(x_t, X_0, X_1, t)
    assert torch.equal(target["real"], PATH.leaf_paths["real"].target(x_t["real"], X_0["real"], X_1["real"], t))
    assert torch.equal(target["inner"]["token"], X_1["inner"]["token"])
    now = PATH.characteristics({"real": target["real"], "inner": {"token": torch.zeros(4, 3, 2)}}, x_t, t)
    assert now["real"].velocity is target["real"]
    assert now["inner"]["token"].jumps is not None


def test_one_network_call_for_all_leaves() -> None:
    calls = []

    def network(x, t, given):
        calls.append(t)
        return {"real": x["real"], "inner": {"token": torch.zeros(4, 3, 2)}}

    t = f64(0.1, 0.3, 0.6, 0.9)
    PATH.process(network, {})(X_0, t)
    assert len(calls) == 1
    assert calls[0]["real"] is t
    assert calls[0]["inner"]["token"] is t


def test_each_leaf_starts_its_own_way() -> None:
    path = ProductPath({"a": Affine(VE(0.1, 5.0), DataPrediction()), "b": Affine()})
    start = path.initial_state({"a": torch.ones(1), "b": torch.ones(1)})
    assert (start["a"].item(), start["b"].item()) == (5.0, 1.0)

"""Product paths."""

import torch
from torch import Tensor

from feller.core.pytree import State
from feller.core.rng import Rng
from feller.paths import Affine, DataPrediction, Mixture, ProductPath
from feller.paths.schedules import VE, Cosine
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from tests.oracle import F64, close, f64

PATH = ProductPath({"real": Affine(Cosine()), "inner": ProductPath({"token": Mixture()})})
X_0 = {"real": torch.zeros(4, 2, dtype=F64), "inner": {"token": torch.zeros(4, 3, dtype=torch.long)}}
X_1 = {"real": torch.ones(4, 2, dtype=F64), "inner": {"token": torch.ones(4, 3, dtype=torch.long)}}


def test_leaves_share_one_time() -> None:
    x_t = PATH.sample(X_0, X_1, f64(0.0, 0.3, 0.6, 1.0), Rng(0).stream("path"))
    close(x_t["real"][:, 0], torch.sin(torch.pi / 2 * f64(0.0, 0.3, 0.6, 1.0)), 1e-15)
    assert x_t["inner"]["token"][0].tolist() == [0] * 3
    assert x_t["inner"]["token"][3].tolist() == [1] * 3


def test_leaves_may_have_their_own_times() -> None:
    """A leaf that is given has t = 1."""
    t = {"real": f64(0.0, 0.0, 0.0, 0.0), "inner": {"token": f64(1.0, 1.0, 1.0, 1.0)}}
    x_t = PATH.sample(X_0, X_1, t, Rng(0).stream("path"))
    assert torch.equal(x_t["real"], X_0["real"])
    assert torch.equal(x_t["inner"]["token"], X_1["inner"]["token"])


def test_targets_and_characteristics_per_leaf() -> None:
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


def test_initial_state_per_leaf() -> None:
    path = ProductPath({"a": Affine(VE(0.1, 5.0), DataPrediction()), "b": Affine()})
    start = path.initial_state({"a": torch.ones(1), "b": torch.ones(1)})
    assert (start["a"].item(), start["b"].item()) == (5.0, 1.0)


def test_an_observed_leaf_stays_at_the_data() -> None:
    """A leaf that is known has t = 1 of its own and no process."""
    inner = ProductPath({"image": Affine(), "label": Mixture()})

    def network(x: State, t: State, given: dict[str, Tensor]) -> State:
        assert (t["label"] == 1).all()
        return {"image": -x["image"] + x["label"], "label": torch.zeros(*x["label"].shape, 3)}

    process = inner.process(network, {})

    def given_label(x: State, t: Tensor) -> State:
        now = process(x, {"image": t, "label": torch.ones_like(t)})
        return {"image": now["image"], "label": 0.0 * now["label"]}

    x = {"image": torch.zeros(4, 1, dtype=F64), "label": torch.tensor([[0], [1], [2], [2]])}
    end = simulate(given_label, x, linear_grid(5), Euler(), Rng(0))
    assert torch.equal(end["label"], x["label"])
    close(end["image"][:, 0] / (1 - 0.8**5), (0.0, 1.0, 2.0, 2.0), 1e-12)

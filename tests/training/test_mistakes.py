"""Mistakes of users name the argument; unusual valid input is accepted."""

import json
import math
import subprocess
import sys
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.paths import Affine, Geodesic
from feller.paths.processes import Characteristics
from feller.paths.time_distributions import linear_grid
from feller.sampling import Midpoint
from feller.sampling.likelihood import log_prob
from feller.spaces import Sphere, Torus
from feller.training.couplings import (
    ClassConditional,
    ConditionalOT,
    Coupling,
    GlobalBatchCoupling,
    GroundCost,
    IndependentCoupling,
    MinibatchOT,
    SinkhornCoupling,
)
from feller.training.objective import FlowMatching
from tests.training.mistakes import (
    FLOW,
    LABELLED,
    MISTAKES,
    PICTURES,
    RNG,
    ROUND,
    SPHERE,
    TURNED,
    Net,
    X,
    answered,
    draw,
    far,
)


class Labels(GroundCost):
    """A user-defined cost of the conditions."""

    def __call__(self, x_0: Tensor, x_1: Tensor, cond: dict[str, Tensor]) -> Tensor:
        return torch.zeros(len(x_0), len(x_1), dtype=torch.float64) + cond["label"]


@pytest.fixture(scope="module")
def errors() -> dict[str, dict[str, Any]]:
    """Return the errors of all mistakes, from a process without runtime type checks."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.training.mistakes"], capture_output=True, text=True, check=True
    )
    return json.loads(found.stdout)


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_names_its_argument(name: str, errors: dict[str, dict[str, Any]]) -> None:
    error = errors[name]
    assert error["kind"] in ("UsageError", "InputError"), error.get("line")
    assert error["argument"] is not None, error["line"]
    assert error["argument"].partition("[")[0] == MISTAKES[name][1]
    assert error["expected"]
    assert error["found"]
    assert len(error["line"].splitlines()) == 1


def test_an_error_of_a_shape_names_the_space_in_full() -> None:
    with pytest.raises(UsageError) as error:
        draw(FLOW, torch.zeros(16, 3))
    assert repr(FLOW.space) in str(error.value.expected)


def test_invalid_log_prob_calls_are_refused() -> None:
    """A constant velocity, and a reference that is not at t = 0."""
    with pytest.raises(UsageError):
        log_prob(lambda x, t: Characteristics(torch.ones_like(x)), X, [1.0, 0.0], Midpoint(), RNG)
    with pytest.raises(UsageError):
        log_prob(Affine().process(Net(), {}), X, linear_grid(4, 1.0, 0.5), Midpoint(), RNG)


@pytest.mark.parametrize(
    "x_1",
    [torch.zeros(2, 16).T, X[:1], X.double(), X.bfloat16(), X.requires_grad_(False)],
    ids=["not contiguous", "one example", "double", "bfloat16", "frozen"],
)
def test_unusual_valid_data_are_accepted(x_1: Tensor) -> None:
    example = draw(FLOW, x_1)
    assert example["x_t"].dtype == x_1.dtype
    assert FLOW.loss(lambda x, t, given: x, example).shape == (len(x_1),)


@pytest.mark.parametrize("row", [0, 7])
def test_points_off_the_manifold_are_found(row: int) -> None:
    for flow, x in ((ROUND, SPHERE), (TURNED, torch.eye(3).expand(8, 3, 3))):
        with pytest.raises(InputError) as error:
            draw(replace(flow), far(x, row))
        assert (error.value.argument, error.value.row) == ("x_1", row)
    later = replace(ROUND)
    draw(later, SPHERE)
    with pytest.raises(InputError):
        later.draw({"x_1": far(SPHERE, row)}, RNG.step(1))
    later, seen = replace(TURNED), 0
    draw(later, torch.eye(3).expand(8, 3, 3))
    for step in range(40):
        try:
            later.draw({"x_1": far(torch.eye(3).expand(8, 3, 3), row)}, RNG.step(step))
        except InputError as error:
            seen += error.row == row
    assert 1 <= seen < 40  # a few points of each


def test_padding_and_rounded_angles_may_lie_off_the_manifold() -> None:
    turn = FlowMatching(Geodesic(Torus((2,))), Torus((2,)), cond_dropout=0.0)
    angles = torch.tensor([[-1e-7, 1.0], [2 * math.pi, 6.0]])
    assert draw(turn, angles)["x_t"].shape == (2, 2)
    with pytest.raises(InputError):
        draw(turn, torch.tensor([[0.0, 1.0], [350.0, 6.0]]))
    rows = FlowMatching(Geodesic(Sphere(2, (3,))), Sphere(2, (3,)), cond_dropout=0.0)
    x, valid = SPHERE[:, None].expand(8, 3, 3).clone(), torch.tensor([True, True, False]).expand(8, 3)
    x[:, 2] = 5.0
    assert draw(rows, x, valid=valid)["x_t"].shape == (8, 3, 3)
    x[5, 1] = 5.0
    with pytest.raises(InputError) as error:
        draw(rows, x, valid=valid)
    assert error.value.row == 5


def test_graph_breaks_name_the_rng() -> None:
    with pytest.raises(torch._dynamo.exc.Unsupported, match="Rng"):
        torch.compile(lambda x: x + RNG.step(3).seed, fullgraph=True, backend="eager")(X)
    torch._dynamo.reset()


def test_empty_private_batches_are_accepted() -> None:
    example = FLOW.draw({"x_1": X[:0]}, Rng(0, 0, 16))
    assert FLOW.loss(Net(), example).shape == (0,)


def test_other_errors_of_the_network_are_unchanged() -> None:
    def broken(x: Tensor, t: Tensor, given: Any) -> Tensor:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        answered(broken)


def test_reused_random_numbers_are_warned_of_once() -> None:
    objective = replace(FLOW)
    objective.draw({"x_1": X}, RNG)
    with pytest.warns(UserWarning, match=r"step\(i\)"):
        objective.draw({"x_1": X + 1}, RNG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective.draw({"x_1": X}, RNG)
        objective.draw({"x_1": X}, RNG)
        other = replace(FLOW)
        for step in range(4):
            other.draw({"x_1": X}, RNG.step(step))
        assert objective == other


@pytest.mark.parametrize("coupling", [MinibatchOT(), SinkhornCoupling(), GlobalBatchCoupling()])
def test_a_coupling_that_ignores_conditions_is_warned_of_once(coupling: Coupling) -> None:
    objective = replace(FLOW, coupling=coupling)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective.draw({"x_1": X, "valid": torch.ones(16, 2, dtype=torch.bool)}, RNG.step(0))
    with pytest.warns(UserWarning, match="label"):
        objective.draw({"x_1": X, **LABELLED}, RNG.step(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective.draw({"x_1": X, **LABELLED}, RNG.step(2))


@pytest.mark.parametrize(
    "coupling",
    [
        IndependentCoupling(),
        ClassConditional(),
        ConditionalOT(),
        GlobalBatchCoupling(ClassConditional()),
        MinibatchOT(cost=Labels()),
    ],
)
def test_a_coupling_that_sees_conditions_is_not_warned_of(coupling: Coupling) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replace(FLOW, coupling=coupling).draw({"x_1": X, **LABELLED}, RNG.step(1))


def test_given_times_are_used() -> None:
    t = torch.linspace(0, 1, 16)
    example = FLOW.draw({"x_1": X + 1, "t": t}, RNG.step(7))
    assert torch.equal(example["t"], t)
    assert torch.equal(example["x_t"][-1], X[-1] + 1)
    assert example["given"] == {}


def test_unscaled_images_are_warned_of_once() -> None:
    objective, levels = replace(PICTURES), torch.full((2, 1, 28, 28), 255.0)
    with pytest.warns(UserWarning, match="255"):
        objective.draw({"x_1": levels}, RNG.step(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective.draw({"x_1": levels}, RNG.step(1))
        replace(PICTURES).draw({"x_1": levels / 127.5 - 1}, RNG.step(2))
        replace(FLOW).draw({"x_1": X + 99}, RNG.step(3))  # points have units of their own


def test_conditions_may_stand_beside_the_data() -> None:
    dropping = replace(FLOW, cond_dropout=0.5, null={"label": 10})
    one, other = draw(dropping, X, **LABELLED), draw(dropping, X, given=LABELLED)
    assert torch.equal(one["given"]["label"], other["given"]["label"])
    assert set(one["given"]["label"].tolist()) == {0, 10}

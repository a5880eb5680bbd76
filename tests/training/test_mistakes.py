"""What people do wrong with objectives, paths and solvers, and what is right though it looks strange."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.paths import Affine
from feller.paths.processes import Characteristics
from feller.paths.time_distributions import linear_grid
from feller.sampling import Midpoint
from feller.sampling.likelihood import log_prob
from feller.training.couplings import (
    AcrossRanks,
    Cost,
    Coupling,
    Entropic,
    Independent,
    LabelAware,
    MinibatchOT,
    WithinClasses,
)
from tests.training.mistakes import FLOW, LABELLED, MISTAKES, PICTURES, RNG, Net, X, answered, draw


class Labels(Cost):
    """A cost of the user's, which sees conditions."""

    def __call__(self, x_0: Tensor, x_1: Tensor, given: dict[str, Tensor]) -> Tensor:
        return torch.zeros(len(x_0), len(x_1), dtype=torch.float64) + given["label"]


@pytest.fixture(scope="module")
def errors() -> dict[str, dict[str, Any]]:
    """Make all mistakes in a process whose types nobody checks."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.training.mistakes"], capture_output=True, text=True, check=True
    )
    return json.loads(found.stdout)


@pytest.mark.parametrize("name", MISTAKES)
def test_one_error_names_what_is_wrong(name: str, errors: dict[str, dict[str, Any]]) -> None:
    error = errors[name]
    assert error["kind"] in ("UsageError", "InputError"), error.get("line")
    assert error["argument"] is not None, error["line"]
    assert error["argument"].partition("[")[0] == MISTAKES[name][1]
    assert error["expected"]
    assert error["found"]
    assert len(error["line"].splitlines()) == 1


def test_other_mistakes_that_have_no_argument() -> None:
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
def test_what_is_right_is_taken(x_1: Tensor) -> None:
    example = draw(FLOW, x_1)
    assert example["x_t"].dtype == x_1.dtype
    assert FLOW.loss(lambda x, t, given: x, example).shape == (len(x_1),)


def test_a_private_batch_or_a_share_may_be_empty() -> None:
    example = FLOW.draw({"x_1": X[:0]}, Draws(0, 0, 16))
    assert FLOW.loss(Net(), example).shape == (0,)


def test_a_weight_that_fails_for_another_reason_fails_as_it_did() -> None:
    def broken(x: Tensor, t: Tensor, given: Any) -> Tensor:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        answered(broken)


def test_the_same_numbers_in_two_steps_are_warned_of_once() -> None:
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


@pytest.mark.parametrize("coupling", [MinibatchOT(), Entropic(), AcrossRanks()])
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
    "coupling", [Independent(), WithinClasses(), LabelAware(), AcrossRanks(WithinClasses()), MinibatchOT(cost=Labels())]
)
def test_a_coupling_that_sees_conditions_is_not_warned_of(coupling: Coupling) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replace(FLOW, coupling=coupling).draw({"x_1": X, **LABELLED}, RNG.step(1))


def test_times_of_a_batch_are_used() -> None:
    t = torch.linspace(0, 1, 16)
    example = FLOW.draw({"x_1": X + 1, "t": t}, RNG.step(7))
    assert torch.equal(example["t"], t)
    assert torch.equal(example["x_t"][-1], X[-1] + 1)
    assert example["given"] == {}


def test_pictures_in_levels_are_warned_of_once() -> None:
    objective, levels = replace(PICTURES), torch.full((2, 1, 28, 28), 255.0)
    with pytest.warns(UserWarning, match="255"):
        objective.draw({"x_1": levels}, RNG.step(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective.draw({"x_1": levels}, RNG.step(1))
        replace(PICTURES).draw({"x_1": levels / 127.5 - 1}, RNG.step(2))
        replace(FLOW).draw({"x_1": X + 99}, RNG.step(3))  # points have units of their own


def test_conditions_beside_the_data_are_those_under_given() -> None:
    dropping = replace(FLOW, cond_dropout=0.5, null={"label": 10})
    one, other = draw(dropping, X, **LABELLED), draw(dropping, X, given=LABELLED)
    assert torch.equal(one["given"]["label"], other["given"]["label"])
    assert set(one["given"]["label"].tolist()) == {0, 10}

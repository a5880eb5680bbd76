"""The claim about cells: exact transport against sorting, the units of the problem, and verdicts."""

import importlib.util
from dataclasses import replace

import pytest
import torch

from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.problem import BridgeProblem
from feller.core.rng import Rng
from feller.training.couplings.minibatch_ot import optimal_permutation
from feller_papers.claims import FAILS, HOLDS, UNTESTABLE
from feller_papers.gsbm import cells
from feller_papers.gsbm.cells import TimeCourse
from feller_papers.gsbm.setting import Budget, Setting

F64 = torch.float64
TINY = Setting(seeds=(0,), cells=Budget(1, pairs=32, control_steps=3, steps=3))


def test_straight_transport_is_sorting_on_the_line() -> None:
    """In five columns of which one varies: the middle of the sorted cells, moved by 3."""
    pytest.importorskip("ot")
    a, b = (torch.zeros(40, 5, dtype=F64) for _ in range(2))
    a[:, 2], b[:, 2] = (Rng(0).stream(name).normal((40,), F64) for name in "ab")
    middle = torch.zeros(40, 5, dtype=F64)
    middle[:, 2] = 0.25 * a[:, 2].sort().values + 0.75 * b[:, 2].sort().values
    assert cells.transport_distance(a, b, 0.75, middle) == pytest.approx(0.0, abs=1e-9)
    middle[:, 4] = 3.0
    assert cells.transport_distance(a, b, 0.75, middle) == pytest.approx(3.0)


def test_populations_of_other_sizes() -> None:
    """One cell goes to two: both lines count half."""
    pytest.importorskip("ot")
    a, b = torch.zeros(1, 5, dtype=F64), torch.zeros(2, 5, dtype=F64)
    b[:, 0] = torch.tensor([2.0, 6.0])
    assert cells.transport_distance(a, b, 0.5, torch.zeros(1, 5, dtype=F64)) == pytest.approx((1 + 3) / 2)


def test_the_held_out_hour_is_not_used() -> None:
    course = TimeCourse.load()
    kept = course.drop("24")
    assert kept.hours == ("0", "48", "72")
    assert [len(one) for one in kept.cells] == [69, 79, 49]
    assert course.neighbours("48") == ("24", "72")
    problem = cells.bridge_problem(kept)
    assert problem.times == pytest.approx((0.0, 48 / 72, 1.0))
    assert 5 < problem.noise < 10  # half of about 15


@pytest.mark.parametrize("hour", cells.HELD_OUT_HOURS)
def test_forward_and_backward_predictions_are_at_the_held_out_hour(monkeypatch: pytest.MonkeyPatch, hour: str) -> None:
    """Cells whose value is their hour, and drifts of one unit per hour in both directions."""
    still = tuple(torch.full((20, 5), float(one), dtype=F64) for one in cells.HOURS)
    course = TimeCourse(cells.HOURS, still)
    monkeypatch.setattr(cells, "bridge_problem", lambda kept: replace(cells_of(kept), noise=0.0))
    monkeypatch.setattr(cells, "iterate_rounds", lambda *given: [])
    monkeypatch.setattr(
        cells,
        "ema_drift",
        lambda state, backward: lambda x, t, given: torch.full_like(x, -72.0 if backward else 72.0),
    )
    found = cells.predict_cells(course, hour, TINY, 0)
    assert found.shape == (1000, 5)
    assert (found - float(hour)).abs().max() < 1e-3


def cells_of(course: TimeCourse) -> BridgeProblem:
    return BridgeProblem.between([one.float() for one in course.cells], 1.0, None, [float(one) for one in course.hours])


def test_first_pairs_are_those_of_the_least_distance() -> None:
    problem = cells_of(TimeCourse.load().drop("24"))
    state = cells.initial_state(problem, TINY.cells.apply(BridgeSolverConfig()), 0)
    assert [tuple(knots.shape) for knots in state.knots] == [(32, 15, 5)] * 2
    for knots in state.knots:
        x_0, x_1 = knots[:, 0], knots[:, -1]
        assert torch.equal(optimal_permutation(x_0, x_1), torch.arange(32))
        assert torch.allclose(knots[:, 7], (x_0 + x_1) / 2, atol=1e-4)
    assert state.network.backward_drift.scale > 5


def test_the_mean_of_the_seeds_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ot")
    at = TimeCourse.load().at

    def verdicts(shift: float) -> list[str]:
        monkeypatch.setattr(cells, "predict_cells", lambda course, hour, setting, seed: at(hour) + shift)
        return [claim.verdict for claim in cells.left_out(TINY)]

    assert verdicts(0.0) == [HOLDS, HOLDS]
    assert verdicts(20.0) == [FAILS, FAILS]


def test_without_pot_there_is_nothing_to_compare_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (claim,) = cells.left_out(TINY)
    assert claim.verdict == UNTESTABLE
    assert "feller[bridges]" in claim.ours

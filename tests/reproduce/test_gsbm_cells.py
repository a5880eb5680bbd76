"""The claim about cells: straight transport against sorting, the problem's units, and what is told of both."""

import importlib.util

import pytest
import torch
from torch import Tensor

from feller.bridging import BridgeProblem
from feller.control.bridges.walk import Walk, grid
from feller.draws import Draws
from feller.reproduce.claims import FAILS, HOLDS, UNTESTABLE
from feller.reproduce.gsbm import cells
from feller.reproduce.gsbm.cells import Course
from feller.reproduce.gsbm.setting import Effort, Setting

F64 = torch.float64
TINY = Setting(seeds=(0,), cells=Effort(1, pairs=32, control=3, steps=3))


def test_straight_transport_is_sorting_on_the_line() -> None:
    """In five columns of which one varies: the middle of the sorted cells, moved by 3."""
    pytest.importorskip("ot")
    a, b = (torch.zeros(40, 5, dtype=F64) for _ in range(2))
    a[:, 2], b[:, 2] = (Draws(0).at(name).normal((40,), F64) for name in "ab")
    middle = torch.zeros(40, 5, dtype=F64)
    middle[:, 2] = 0.25 * a[:, 2].sort().values + 0.75 * b[:, 2].sort().values
    assert cells.straight(a, b, 0.75, middle) == pytest.approx(0.0, abs=1e-9)
    middle[:, 4] = 3.0
    assert cells.straight(a, b, 0.75, middle) == pytest.approx(3.0)


def test_populations_of_other_sizes() -> None:
    """One cell goes to two: both lines count half."""
    pytest.importorskip("ot")
    a, b = torch.zeros(1, 5, dtype=F64), torch.zeros(2, 5, dtype=F64)
    b[:, 0] = torch.tensor([2.0, 6.0])
    assert cells.straight(a, b, 0.5, torch.zeros(1, 5, dtype=F64)) == pytest.approx((1 + 3) / 2)


def test_what_is_left_out_is_not_looked_at() -> None:
    course = Course.measured()
    kept = course.without("24")
    assert kept.hours == ("0", "48", "72")
    assert [len(one) for one in kept.cells] == [69, 79, 49]
    assert course.around("48") == ("24", "72")
    problem = cells.posed(kept)
    assert problem.times == pytest.approx((0.0, 48 / 72, 1.0))
    assert 5 < problem.noise < 10  # half of about 15


class Steady:
    """A bridge whose trajectories stand at the hour, at every time of two legs."""

    def __init__(self, problem: BridgeProblem) -> None:
        self.times, _ = grid(problem.times, 15, 28)

    def walk(self, begin: Tensor, seed: int) -> Walk:
        at = 72 * torch.tensor(self.times)[None, :, None].expand(len(begin), -1, 5)
        return Walk(tuple(self.times), at, at, 0)


@pytest.mark.parametrize("hour", cells.LEFT_OUT)
def test_the_hour_of_the_trajectories_is_the_one_that_was_left_out(monkeypatch: pytest.MonkeyPatch, hour: str) -> None:
    monkeypatch.setattr(cells, "solve_bridge", lambda problem, how, seed: Steady(problem))
    found = cells.bridged(Course.measured(), hour, TINY, 0)
    assert found.shape == (1000, 5)
    assert (found - float(hour)).abs().max() < 1e-4


def test_the_mean_of_the_seeds_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ot")
    at = Course.measured().at

    def verdicts(shift: float) -> list[str]:
        monkeypatch.setattr(cells, "bridged", lambda course, hour, setting, seed: at(hour) + shift)
        return [claim.verdict for claim in cells.left_out(TINY)]

    assert verdicts(0.0) == [HOLDS, HOLDS]
    assert verdicts(20.0) == [FAILS, FAILS]


def test_without_pot_there_is_nothing_to_compare_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (claim,) = cells.left_out(TINY)
    assert claim.verdict == UNTESTABLE
    assert "feller[bridges]" in claim.ours

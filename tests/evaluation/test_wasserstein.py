"""Exact transport against sorting on the line, closed forms and floors."""

import math

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.evaluation.two_sample import wasserstein

F64 = torch.float64


@pytest.mark.parametrize("order", [1, 2])
def test_on_the_line_it_is_sorting(order: int) -> None:
    a, b = (Draws(0).at(name).normal((101, 1), F64) for name in "ab")
    b = 2 * b + 1
    wanted = (a.sort(0).values - b.sort(0).values).abs().pow(order).mean() ** (1 / order)
    assert wasserstein(a, b, order) == pytest.approx(wanted.item(), rel=1e-12)


def test_order_one_and_two_differ_as_they_should() -> None:
    """Both points of a pair move, by 3 and by 4 to the side."""
    a = torch.tensor([[0.0, 0.0], [100.0, 0.0]])
    b = torch.tensor([[0.0, 3.0], [100.0, 4.0]])
    assert wasserstein(a, b, 1) == pytest.approx(3.5)
    assert wasserstein(a, b, 2) == pytest.approx(math.sqrt(12.5))


@pytest.mark.parametrize("order", [1, 2])
def test_sets_of_other_sizes(order: int) -> None:
    """A set is as far from another as from two copies of it."""
    pytest.importorskip("ot")
    a, b = (Draws(0).at(name).normal((n, 3), F64) for name, n in {"a": 40, "b": 80}.items())
    assert wasserstein(a, b, order) == pytest.approx(wasserstein(torch.cat([a, a]), b, order), rel=1e-9)


@pytest.mark.parametrize(("variance", "floor"), [(0.5, 0.142), (0.2, 0.087)])
def test_floors_of_known_sets(variance: float, floor: float) -> None:
    """Two draws of 1,000; eight other pairs gave 0.128 to 0.146 and 0.081 to 0.092."""
    a, b = (variance**0.5 * Draws(0).at(name).normal((1000, 2), F64) for name in "ab")
    assert wasserstein(a, b) == pytest.approx(floor, rel=0.2)


def test_floor_of_eight_modes() -> None:
    """How many members a mode gets is by chance: 2.0 to 3.4 in eight pairs, the reference has 2.87."""

    def modes(name: str) -> Tensor:
        draw = Draws(0).at(name)
        angle = math.pi / 4 * draw.integers(8, (1000,)).double()
        return 16 * torch.stack([angle.cos(), angle.sin()], 1) + draw.normal((1000, 2), F64)

    assert 1.9 < wasserstein(modes("a"), modes("b")) < 3.5


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    a = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="one point or more"):
        wasserstein(a, a[:0])
    with pytest.raises(ValueError, match="finite"):
        wasserstein(a, a + torch.inf)
    with pytest.raises(ValueError, match="order"):
        wasserstein(a, a, 0)
    monkeypatch.setitem(__import__("sys").modules, "ot", None)
    with pytest.raises(UsageError, match=r"between 3 and 2 points needs POT: pip install 'feller\[bridges\]'"):
        wasserstein(a, a[:2])

"""Copies are found out, and samples of the right law are not accused."""

import pytest
import torch

from feller.data.modality import Dataset
from feller.data.rows.points import Points
from feller.draws import Draws
from feller.evaluate.attacks.copying import apart, copied

KIND = Points(("x", "y"), (0.0, 0.0), (1.0, 1.0))


def points(n: int, seed: int) -> Dataset:
    return Dataset(Draws(seed).at("x").normal((n, 2)), {}, KIND)


def test_distances_of_all_pairs() -> None:
    a, b = points(3, 0), points(5, 1)
    x, y = KIND.encode(a.values), KIND.encode(b.values)
    torch.testing.assert_close(apart(a, b), (x[:, None] - y).double().square().sum(2), atol=1e-5, rtol=0)


def test_the_right_law_is_not_accused() -> None:
    found = copied(points(900, 0), points(1_000, 1), points(800, 2), Draws(0))
    assert (found.copies, found.copies_held_out) == (0.0, 0.0)
    assert found.nearest_ratio == pytest.approx(1.0, abs=0.15)
    assert found.nearness is not None
    assert found.nearness.auc == pytest.approx(0.5, abs=0.05)


def test_copies_are_found_out() -> None:
    train = points(300, 1)
    found = copied(train.subset(torch.arange(150).repeat(3)), train, points(300, 2), Draws(0))
    assert found.copies == 1.0
    assert found.nearest_ratio == 0.0
    assert found.nearness is not None
    assert found.nearness.auc > 0.7
    assert found.nearness.epsilon > 2


def test_without_held_out_examples() -> None:
    found = copied(points(20, 0), points(30, 1), points(0, 2), Draws(0))
    assert (found.copies, found.copies_held_out, found.nearest_ratio, found.nearness) == (0.0, None, None, None)

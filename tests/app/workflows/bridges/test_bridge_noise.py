"""The noise that is chosen is one that is not refused."""

import math

import pytest
import torch

from feller.app.workflows.bridges.populations import Populations, check_noise, usual_noise
from feller.core.errors import UsageError
from feller.data.points.euclidean_points import Points
from tests.errors import refuses


def crowd(*deviations):
    members = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    states = tuple(deviation * members for deviation in deviations)
    kind = Points(("x", "y"), mean=(0.0, 0.0), scale=(1.0, 1.0))
    return Populations(tuple("ab"), kind, states, (), ("", ""))


def test_half_the_deviation_is_chosen_or_what_the_narrowest_bears():
    assert usual_noise(crowd(1.0, 1.0), 100) == pytest.approx(0.5)
    narrow = crowd(1.0, 0.01)
    assert usual_noise(narrow, 100) == pytest.approx(0.05)
    check_noise(0.0, crowd(1.0, 1.0), 100)
    check_noise(usual_noise(narrow, 100), narrow, 100)
    with refuses(UsageError, argument="noise"):
        check_noise(0.06, narrow, 100)
    with refuses(UsageError, argument="noise"):  # what is advised is not refused
        check_noise(1e9, crowd(194.1), 100)


@pytest.mark.parametrize("noise", [-1.0, math.nan, 1e-6])
def test_refused_noise(noise):
    with refuses(UsageError, argument="noise"):
        check_noise(noise, crowd(1.0, 1.0), 100)

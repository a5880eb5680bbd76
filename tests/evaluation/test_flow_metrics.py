import math

import pytest
import torch
from torch import nn

from feller.core.rng import Rng
from feller.data.points.euclidean_points import Points
from feller.evaluation.flow_metrics import straightness
from feller.models.families.path_process import PathProcess
from feller.models.model import Model
from feller.models.spec import ModelSpec
from feller.networks.mlp import MLP
from feller.paths import Affine, Geodesic, Mixture
from feller.paths.affine import SigmaProportional
from feller.spaces import Euclidean, Sphere, Tokens


class Field(nn.Module):
    nulls: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, velocity):
        super().__init__()
        self.velocity, self.weight = velocity, nn.Parameter(torch.zeros(()))

    def forward(self, x, t, given):
        return self.velocity(x)


def model(velocity, space=Euclidean((2,)), path=Affine()):  # noqa: B008
    points = Points(("x", "y"), (0.0, 0.0), (1.0, 1.0))
    return Model.from_spec(ModelSpec(points, space, PathProcess(path), MLP()), Field(velocity))


def test_constant_velocity_is_straight():
    assert straightness(model(torch.ones_like), Rng(0)) == pytest.approx(1, abs=1e-6)


def test_a_half_turn_is_the_chord_over_the_arc_squared():
    """A turn by pi: chord 2 r, arc pi r."""
    found = straightness(model(lambda x: math.pi * torch.stack([-x[:, 1], x[:, 0]], 1)), Rng(0), steps=200)
    assert found == pytest.approx((2 / math.pi) ** 2, abs=1e-3)


def test_a_great_circle_is_straight():
    def spin(x):
        north = torch.zeros_like(x)
        north[:, 2] = 1
        way = north - x[:, 2:] * x
        return way / way.norm(dim=1, keepdim=True).clamp(min=1e-6) * 0.1

    assert straightness(model(spin, Sphere(2), Geodesic(Sphere(2))), Rng(0)) == pytest.approx(1, abs=1e-3)


def test_models_without_a_flow_have_none():
    assert straightness(model(torch.ones_like, path=Affine(noise=SigmaProportional())), Rng(0)) is None
    assert straightness(model(torch.ones_like, Tokens(4, (2,)), Mixture()), Rng(0)) is None

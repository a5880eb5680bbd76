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


def test_straightness_of_a_constant_velocity():
    assert straightness(model(torch.ones_like), Rng(0)) == pytest.approx(1, abs=1e-6)


def test_straightness_of_a_half_turn():
    found = straightness(model(lambda x: math.pi * torch.stack([-x[:, 1], x[:, 0]], 1)), Rng(0), steps=200)
    assert found == pytest.approx((2 / math.pi) ** 2, abs=1e-3)


def test_straightness_of_a_great_circle():
    def spin(x):
        north = torch.zeros_like(x)
        north[:, 2] = 1
        way = north - x[:, 2:] * x
        return way / way.norm(dim=1, keepdim=True).clamp(min=1e-6) * 0.1

    assert straightness(model(spin, Sphere(2), Geodesic(Sphere(2))), Rng(0)) == pytest.approx(1, abs=1e-3)


def test_no_flow_has_no_straightness():
    assert straightness(model(torch.ones_like, path=Affine(noise=SigmaProportional())), Rng(0)) is None
    assert straightness(model(torch.ones_like, Tokens(4, (2,)), Mixture()), Rng(0)) is None

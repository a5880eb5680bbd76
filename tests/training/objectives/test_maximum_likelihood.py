"""Maximum likelihood training of flows."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.paths import Affine, DataPrediction, VelocityPrediction, schedules
from feller.sampling import RK4, ExactDivergence, GaussianProbe, Hutchinson
from feller.spaces import Euclidean, Sphere
from feller.training.objectives.maximum_likelihood import MaximumLikelihood
from tests.oracle import F64, Normal, close, column, f64


class Answer(torch.nn.Module):
    """The exact prediction for data N(m, s^2), with m and s as weights."""

    def __init__(self, m: float, s: float, kind=VelocityPrediction()) -> None:  # noqa: B008
        super().__init__()
        self.m, self.log_s = torch.nn.Parameter(f64(m)), torch.nn.Parameter(f64(s).log())
        self.kind, self.null_values = kind, {"label": 3}

    def forward(self, x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return Normal(m=self.m, s=self.log_s.exp()).predict(self.kind, x, t)


def nll(x: Tensor, m: float, s: float) -> Tensor:
    return (((x - m) / s) ** 2 + math.log(2 * math.pi)).sum(1) / 2 + math.log(s) * x.shape[1]


OBJECTIVE = MaximumLikelihood(Affine(), Euclidean(), RK4(), steps=40)


@pytest.mark.parametrize("kind", [VelocityPrediction(), DataPrediction()], ids=repr)
def test_loss_is_the_negative_log_likelihood(kind) -> None:
    """1.2057913526447 at 0.3 for N(1, 0.25): reference, section 19 item 3; a data network is infinite at t = 1."""
    last = 1.0 if isinstance(kind, VelocityPrediction) else 1 - 1e-9
    objective = replace(OBJECTIVE, path=Affine(prediction=kind), end_time=last)
    example = objective.draw({"x_1": column(0.3, -0.2)}, Rng(0))
    loss = objective.loss(Answer(1.0, 0.5, kind), example)
    assert loss[0].item() == pytest.approx(1.2057913526447, abs=1e-5)
    close(loss, nll(column(0.3, -0.2), 1.0, 0.5), 1e-5)


def test_gradient_of_the_gaussian_likelihood() -> None:
    x = Rng(0).stream("x").normal((50, 3), F64) * 0.8 + 0.4
    network = Answer(1.0, 0.5)
    OBJECTIVE.loss(network, OBJECTIVE.draw({"x_1": x}, Rng(0), network)).sum().backward()
    close(network.m.grad, ((1.0 - x) / 0.25).sum(), 1e-2)
    close(network.log_s.grad, (1 - ((x - 1) / 0.5) ** 2).sum(), 1e-1)


def test_padding_is_ignored() -> None:
    x = torch.cat([column(0.3, -0.2), column(1e3, 0.7)], 1)
    valid = torch.tensor([[True, False], [True, True]])
    example = OBJECTIVE.draw({"x_1": x, "given": {"valid": valid}}, Rng(0))
    loss = OBJECTIVE.loss(Answer(1.0, 0.5), example)
    close(loss, [nll(column(0.3), 1.0, 0.5).item(), nll(f64(-0.2, 0.7)[None], 1.0, 0.5).item()], 2e-5)


def test_loss_with_a_scaled_source() -> None:
    """Variance exploding from N(0, 25), for a perfect network of data N(1, 0.25): an affine map."""
    normal, x = Normal(schedules.VE(0.1, 5.0)), column(0.3, 4.0)
    objective = replace(OBJECTIVE, path=Affine(normal.schedule))
    (mean, variance), (then, later) = normal.moments(0.0), normal.moments(1.0)
    ratio = math.sqrt(later / variance)
    example = objective.draw({"x_1": x}, Rng(0))
    loss = objective.loss(lambda x, t, given: normal.predict(VelocityPrediction(), x, t), example)
    close(loss, nll(x, then - ratio * mean, 5 * ratio), 1e-3)


def test_steps_are_taken_in_the_space() -> None:
    """A field that turns the sphere about an axis keeps its uniform law: -log p is log 4 pi everywhere."""
    space = Sphere()
    axis = f64(0.3, -2.0, 1.1)
    x = space.project(Rng(0).stream("x").normal((6, 3), F64))
    for divergence in (ExactDivergence(), Hutchinson(2, GaussianProbe())):
        objective = MaximumLikelihood(Affine(), space, divergence=divergence)
        example = objective.draw({"x_1": x}, Rng(0))
        loss = objective.loss(lambda x, t, given: torch.linalg.cross(axis.expand_as(x), x), example)
        close(loss, torch.full((6,), math.log(4 * math.pi), dtype=F64), 1e-10)


def test_conditions_are_dropped_and_probes_drawn() -> None:
    x, label = torch.zeros(2000, 1, dtype=F64), torch.zeros(2000, dtype=torch.long)
    objective = replace(OBJECTIVE, cond_dropout=0.25)
    drawn = objective.draw({"x_1": x, "given": {"label": label}}, Rng(0), Answer(0.0, 1.0))
    assert 400 < (drawn["given"]["label"] == 3).sum().item() < 600  # five standard deviations
    assert drawn["probes"].abs().eq(1).all()
    assert objective.divergence.probes(x, Rng(0).stream("probe")).equal(drawn["probes"])

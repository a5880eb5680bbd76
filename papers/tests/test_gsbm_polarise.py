"""The polarising drift: constants of the reference, the formula by hand, and a crowd that is left alone."""

import math

import pytest
import torch
from tests.oracle import F64, close, f64

from feller.core.rng import Rng
from feller_papers.gsbm.polarise import Polarise


def test_directions() -> None:
    many, two = Polarise.for_dim(1000), Polarise.for_dim(2)
    assert many.directions.double().sum().item() == pytest.approx(203.8768, abs=2e-3)
    assert two.directions.double().sum().item() == pytest.approx(177.6724, abs=1e-3)
    assert (many.directions[0] @ many.directions[-1]).item() == pytest.approx(0.5575, abs=1e-4)
    close(many.directions.norm(dim=1), 500 * [1.0], 1e-5)


def test_damping() -> None:
    drift = Polarise.for_dim(2)
    t = f64(0, 0.25, 0.5, 0.75, 0.9, 0.95, 1)
    close(drift.damp(t), [0.99837, 0.98767, 0.91108, 0.48487, 0.05097, 0.00393, 1e-20], 5e-6)
    assert drift.damp(torch.linspace(0, 1, 500, dtype=F64)).mean().item() == pytest.approx(0.71440, abs=5e-6)


def test_by_hand() -> None:
    """Two members of whom one disagrees; and a member of length 0, who has no opinion."""
    xi = f64(0.6, 0.8).expand(500, 2)
    drift = Polarise(3.0, 8.0, xi)
    x = f64(4, 0, 0, -1, 0, 0).reshape(1, 3, 2)
    mean = (f64(4, 0) / 2 + f64(0, 1)) / 3
    pull = 3 * mean / mean.norm().sqrt() * drift.damp(f64(0.5))
    wanted = torch.stack([pull, -pull, 0 * pull])
    close(drift(x, f64(0.5)[:, None])[0], wanted.tolist(), 1e-9)
    known = drift.with_population(lambda t: x.expand(len(t), 3, 2))
    close(known(x[0], f64(0.5).expand(3)), wanted.tolist(), 1e-9)
    far = 100 * x[0]  # whose own mean would be another
    close(known(far, f64(0.5).expand(3)), wanted.tolist(), 1e-9)


def test_batches_of_several_times() -> None:
    drift = Polarise.for_dim(5)
    x, t = Rng(0).stream("x").normal((3, 8, 5)), torch.tensor([[0.1], [0.4], [0.8]])
    apart = torch.stack([drift(x[k], t[k].expand(8)) for k in range(3)])
    close(drift(x, t), apart.tolist(), 1e-6)
    close(drift(x.flatten(0, 1), t.expand(3, 8).flatten()), apart.flatten(0, 1).tolist(), 1e-6)


def test_means_are_those_of_each_time() -> None:
    drift = Polarise.for_dim(3)
    members = Rng(0).stream("x").normal((500, 7, 3))
    asked = []

    def crowd(t: torch.Tensor) -> torch.Tensor:
        asked.append(t)
        return members[(t * 499).round().long()]

    known = drift.with_population(crowd)
    close(torch.cat(asked), torch.linspace(0, 1, 500).tolist(), 1e-6)
    for k in (0, 123, 499):
        t = torch.tensor(k / 499)
        close(known(members[k], t.expand(7)), drift(members[k], t.expand(7)).tolist(), 1e-5)


@pytest.mark.slow
def test_a_crowd_left_alone_spreads() -> None:
    """1000 questions: total variance 253.7 -> 514.2 and a first step of 2.31 in the reference."""
    drift, draws = Polarise.for_dim(1000), Rng(0)
    deviation = torch.full((1000,), 0.5)
    deviation[0] = 2.0
    x = deviation * draws.stream("start").normal((2048, 1000))
    assert drift(x, torch.zeros(2048)).norm(dim=1).mean().item() == pytest.approx(2.31, abs=0.05)
    steps = 60
    for k in range(steps):
        noise = draws.stream("noise", k).normal((2048, 1000))
        x = x + drift(x, torch.full((2048,), k / steps)) / steps + 0.5 * math.sqrt(1 / steps) * noise
    variance = x.var(0).sum().item()
    top = torch.linalg.matrix_norm(x - x.mean(0), 2).item() ** 2 / 2048
    assert variance == pytest.approx(514.2, rel=0.02)
    assert 9 < top < 14

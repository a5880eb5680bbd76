"""Reconstruction of rows from noisy sums, against lower bounds of the error."""

import math

import pytest
import torch
from torch import nn

from feller.core.rng import Rng
from feller.evaluation.attacks.gradient_releases import ClippedGradientFn, jacobian
from feller.evaluation.attacks.reconstruction import (
    AttackOutcome,
    RowPrior,
    attack_rows,
    minimize_lbfgs,
    reconstruction_scores,
    step_information,
)

F64 = torch.float64


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return Rng(seed).stream("x").normal(shape, F64)


def test_minimize_lbfgs_on_quadratics() -> None:
    a = normal(6, 6)
    a = a @ a.T + torch.eye(6, dtype=F64)
    goal = normal(5, 6, seed=1)

    def look(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        away = z - goal
        return (away @ a * away).sum(1) / 2, away @ a

    found = minimize_lbfgs(look, torch.zeros(5, 6, dtype=F64), torch.eye(6, dtype=F64) * 20, 60)
    torch.testing.assert_close(found, goal, atol=1e-6, rtol=0)
    at_once = minimize_lbfgs(look, torch.zeros(5, 6, dtype=F64), a, 1)  # the right curvature needs a single step
    torch.testing.assert_close(at_once, goal, atol=1e-9, rtol=0)


def test_row_prior() -> None:
    rows = normal(500, 3) @ normal(3, 5, seed=1)
    rows[:, 4] = 2.0
    law = RowPrior.fit(rows, 10)
    assert law.directions.shape == (3, 5)
    torch.testing.assert_close(law.directions @ law.directions.T, torch.eye(3, dtype=F64))
    torch.testing.assert_close(
        (law.directions.T * law.variances) @ law.directions, rows.T.cov(correction=0), atol=1e-9, rtol=0
    )
    assert law.variances.tolist() == sorted(law.variances.tolist(), reverse=True)
    torch.testing.assert_close(law.replace_coordinates(rows, law.whiten(rows)), rows)
    assert RowPrior.fit(rows, 2).directions.shape == (2, 5)


def linear(n: int, noise: float, seed: int) -> tuple[RowPrior, list[AttackOutcome], torch.Tensor]:
    """Attack rows of which a linear map is told with noise."""
    rows = normal(4_000, 3, seed=10) @ normal(3, 3, seed=11)
    law, a = RowPrior.fit(rows, 3), normal(7, 3, seed=12)
    gram = law.directions @ a.T @ a @ law.directions.T / noise**2
    generator = torch.Generator().manual_seed(seed)
    information = gram.expand(n, 3, 3)
    return law, attack_rows(lambda z: z @ a.T, rows[:n], noise, law, information, generator, 5), gram


@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_linear_releases_attain_the_bounds(noise: float) -> None:
    """There both bounds are reached: van Trees' by the posterior mean, Cramér and Rao's in its sharper form."""
    law, found, gram = linear(150, noise, 0)
    one = reconstruction_scores(found, law)
    assert one.error == pytest.approx(one.bound, abs=4 * one.standard_error)
    assert one.num_violations == 0
    exact = torch.linalg.inv(gram).trace().item() / 3
    errors = torch.cat([each.unbiased for each in found])
    assert one.unbiased == pytest.approx(exact, abs=4 * errors.std().item() / math.sqrt(len(errors)))
    assert one.unbiased_bound == pytest.approx(3 / gram.trace().item())
    assert exact > one.unbiased_bound
    measured = torch.cat([each.normalized_error for each in found])
    assert measured.mean().item() == pytest.approx(1.0, abs=4 * math.sqrt(2 / (3 * len(measured))))


def test_violations_are_counted() -> None:
    law, found, gram = linear(60, 0.5, 0)
    charged = [AttackOutcome(one.errors, one.unbiased_error, gram / 16, one.estimate) for one in found]
    assert reconstruction_scores(found, law).num_violations == 0
    assert reconstruction_scores(charged, law).num_violations == 2


class Small(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.last = nn.Linear(d, 6), nn.Linear(6, d)
        for weight in self.parameters():
            weight.data = torch.randn(weight.shape, generator=generator, dtype=F64) * 0.7

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(x)))


def loss(network: nn.Module, example: dict[str, torch.Tensor]) -> torch.Tensor:
    return (network(example["x"]) - example["target"]).square().sum(1)


def releases(network: nn.Module, clip: float, noise: torch.Tensor) -> ClippedGradientFn:
    """Let each row meet noise of its own in each step, [n, steps, d]."""

    def spell(z: torch.Tensor) -> dict[str, torch.Tensor]:
        x = z[:, None]
        return {"x": (x + noise).flatten(0, 1), "target": (x - noise).flatten(0, 1)}

    return ClippedGradientFn(loss, network, clip, spell)


def test_what_a_row_adds_is_the_clipped_gradient_of_each_step() -> None:
    network, z, noise = Small(3), normal(4, 3, seed=1), normal(4, 2, 3, seed=100)
    added = releases(network, 0.8, noise)
    expected = []
    for row, met in zip(z, noise, strict=True):
        for x in met:
            value = loss(network, {"x": (row + x)[None], "target": (row - x)[None]}).sum()
            flat = torch.cat([each.flatten() for each in torch.autograd.grad(value, list(network.parameters()))])
            expected.append(flat * min(1.0, 0.8 / flat.norm().item()))
    torch.testing.assert_close(added(z), torch.stack(expected).view(4, -1))
    one, ways = releases(network, 0.8, noise[2:3]), torch.eye(3, dtype=F64)
    ahead = torch.cat([(one(z[2:3] + 1e-6 * way) - one(z[2:3] - 1e-6 * way)) / 2e-6 for way in ways])
    torch.testing.assert_close(jacobian(one, z[2:3], ways), ahead, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("scale", "steps"), [(0.1, 1), (0.5, 1), (2.0, 1), (0.3, 3)])
def test_no_attack_on_gradients_errs_less_than_is_possible(scale: float, steps: int) -> None:
    """1,000 seeded trials, five draws of the noise for each of 50 rows, four times; rows are of the law, as they are.

    The mean of 50 rows lies four standard errors below the truth about once in ten thousand audits.
    """
    d, network = 2, Small(2)
    rows = normal(2_000, d, seed=7)
    law = RowPrior.fit(rows, d)
    generator = torch.Generator().manual_seed(5)
    some, met = rows[:50], normal(50, steps, d, seed=100)
    grams = [
        step_information(releases(network, 1.0, met[i : i + 1]), some[i : i + 1], law, steps).sum(0) for i in range(50)
    ]
    information = torch.stack(grams) / scale**2
    found = attack_rows(releases(network, 1.0, met), some, scale, law, information, generator, 5, starts=4)
    one = reconstruction_scores(found, law)
    assert one.num_violations == 0
    assert one.error > one.bound - 4 * one.standard_error
    assert (
        one.error < 1.15 * law.variances.mean().item() + 4 * one.standard_error
    )  # hardly worse than to answer the mean
    assert one.unbiased > 0.9 * one.unbiased_bound
    charged = [AttackOutcome(each.errors, each.unbiased_error, each.information / 16, each.estimate) for each in found]
    assert reconstruction_scores(charged, law).num_violations > 0  # noise of a quarter of what is charged

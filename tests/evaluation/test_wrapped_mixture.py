"""Normal laws wound around a torus: the density against many images, and a fit against a known law."""

import math
from itertools import pairwise

import pytest
import torch

from feller.core.rng import Draws
from feller.evaluation.density_baselines import LEAST, MOST, WrappedMixture, wrapped_mixture

F64 = torch.float64
TURN = 2 * math.pi
KNOWN = WrappedMixture(
    torch.tensor([0.3, 0.7], dtype=F64).log(),
    torch.tensor([[0.1, 3.0], [4.0, 6.2]], dtype=F64),
    torch.tensor([[0.3, 0.8], [0.5, 0.2]], dtype=F64),
)
"""Two components, both across the seam."""


def sample(n: int, seed: int = 0) -> torch.Tensor:
    draw = Draws(seed).at("x")
    which = (draw.uniform((n,), F64) < 0.7).long()
    return (KNOWN.means[which] + KNOWN.scales[which] * draw.normal((n, 2), F64)).remainder(TURN)


@pytest.mark.parametrize("scale", [LEAST, 0.5, MOST])
def test_the_density_is_that_of_all_images(scale: float) -> None:
    mixture = WrappedMixture(KNOWN.log_weights, KNOWN.means, torch.full_like(KNOWN.means, scale))
    x = TURN * Draws(1).at("x").uniform((40, 2), F64)
    x[0] = KNOWN.means[0] + math.pi  # the cut, where two images are equally near
    images = TURN * torch.arange(-8, 9, dtype=F64)
    away = (x[:, None] - mixture.means)[..., None] + images
    each = (-(away / scale).square() / 2).logsumexp(3) - math.log(scale) - math.log(TURN) / 2
    truth = (mixture.log_weights + each.sum(2)).logsumexp(1)
    torch.testing.assert_close(mixture.log_density(x), truth, atol=2e-4 if scale == MOST else 1e-9, rtol=1e-9)


def test_the_density_adds_up_to_one() -> None:
    at = TURN * (torch.arange(400, dtype=F64) + 0.5) / 400
    density = KNOWN.log_density(torch.cartesian_prod(at, at)).exp()
    assert float(density.mean() * TURN**2) == pytest.approx(1, abs=1e-8)


def test_each_step_makes_the_data_likelier() -> None:
    x, mixture = sample(500), WrappedMixture(KNOWN.log_weights, KNOWN.means.flip(1), torch.ones_like(KNOWN.means))
    values = []
    for _ in range(30):
        mixture, value = mixture.improved(x)
        values.append(value)
    assert all(after >= before - 1e-12 for before, after in pairwise(values))
    assert values[-1] > values[0] + 0.5
    assert float(mixture.log_density(x).mean()) >= values[-1] - 1e-12


def test_a_known_law_is_found() -> None:
    """From 4,000 examples the means come within 0.05, 4 of their standard errors."""
    found = wrapped_mixture(sample(4000), Draws(0), components=2)
    order = found.log_weights.argsort()
    assert (found.log_weights[order].exp() - KNOWN.log_weights.exp()).abs().max() < 0.03
    away = (found.means[order] - KNOWN.means + math.pi).remainder(TURN) - math.pi
    assert away.abs().max() < 0.05 * 2
    assert (found.scales[order] / KNOWN.scales - 1).abs().max() < 0.08
    unseen = sample(4000, seed=1)
    gap = (KNOWN.log_density(unseen) - found.log_density(unseen)).mean()
    assert abs(float(gap)) < 0.01


def test_few_examples_and_repeated_ones_are_no_trouble() -> None:
    x = torch.tensor([[0.5, 1.0]], dtype=F64).repeat(7, 1)
    found = wrapped_mixture(x, Draws(0))
    assert torch.isfinite(found.log_density(x)).all()
    assert float(found.scales.min()) == LEAST
    with pytest.raises(ValueError, match="expected angles"):
        wrapped_mixture(x[:0], Draws(0))

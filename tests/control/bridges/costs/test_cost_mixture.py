"""Densities of crowds against torch's own mixtures."""

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from feller.control.bridges.costs import Population, gaussian_mixture
from feller.control.bridges.costs.gaussian_mixture import log_density, scott
from feller.core.rng import Draws
from tests.oracle import F64, close

CENTRES = 3 * Draws(0).at("centres").normal((4, 6, 3), F64) + 20
WIDTHS = Draws(0).at("widths").uniform((4, 6), F64) + 0.03
X = CENTRES[:, [0, 1, 2, 3, 3]] + Draws(0).at("x").normal((4, 5, 3), F64)


def truth(x: Tensor, centres: Tensor, widths: Tensor) -> Tensor:
    parts = Independent(Normal(centres, widths[..., None].expand(centres.shape)), 1)
    mixed = MixtureSameFamily(Categorical(torch.ones_like(widths)), parts)
    return mixed.log_prob(x.movedim(1, 0)).movedim(0, 1)


def test_values_and_gradients(monkeypatch) -> None:
    x = X.clone().requires_grad_()
    wanted = truth(x, CENTRES, WIDTHS)
    (slope,) = torch.autograd.grad(wanted.square().sum(), x)
    for at_once in (1, 50, 400_000):
        monkeypatch.setattr(gaussian_mixture, "AT_ONCE", at_once)
        found = log_density(x, CENTRES, WIDTHS)
        close(found, wanted.tolist(), 1e-9)
        close(torch.autograd.grad(found.square().sum(), x)[0], slope.tolist(), 1e-7)


def test_single_precision_suffices_for_narrow_crowds() -> None:
    narrow = 0.03 * torch.ones(4, 6, dtype=F64)
    x = CENTRES[:, :5] + 0.03 * Draws(1).at("x").normal((4, 5, 3), F64)
    found = log_density(x.float(), CENTRES.float(), narrow.float())
    close(found.double(), truth(x, CENTRES, narrow).tolist(), 0.03)


def test_one_width_for_all_and_far_states() -> None:
    crowd = Population(X, CENTRES, 0.2)
    close(crowd.log_density(X), truth(X, CENTRES, 0.2 * torch.ones_like(WIDTHS)).tolist(), 1e-9)
    assert torch.isfinite(crowd.log_density(X + 1e4)).all()


def test_scott() -> None:
    samples = 3 * Draws(0).at("s").normal((2, 4000, 2), F64)
    close(scott(samples), 2 * [3 * 4000 ** (-1 / 6)], 0.02)

"""Fisher information of noisy sums about one row."""

import math

import pytest
import torch
from scipy import integrate, stats

from feller.core.errors import UsageError
from feller.privacy.leakage.fisher_information import (
    FisherLeakage,
    max_eigenvalue,
    mixture_factors,
    subsampled_fisher,
    subsampled_fisher_trace,
    unbiased_mse_bound,
)
from tests.errors import refuses
from tests.oracle import F64, f64

TABLE = [  # q, rho, across, along
    (0.01, 0.25, 0.01063, 0.01127),
    (0.01, 0.5, 0.01276, 0.01580),
    (0.01, 1.0, 0.02571, 0.04718),
    (0.01, 2.0, 0.16396, 0.30371),
    (0.03, 0.5, 0.03781, 0.04597),
    (0.03, 1.0, 0.07077, 0.11639),
    (0.03, 2.0, 0.28806, 0.40120),
    (0.1, 1.0, 0.19349, 0.25886),
]


@pytest.mark.parametrize(("q", "rho", "across", "along"), TABLE)
def test_mixture_factors_table(q: float, rho: float, across: float, along: float) -> None:
    found = mixture_factors(q, f64(rho))
    assert found.orthogonal.item() == pytest.approx(across, abs=1e-5)
    assert found.radial.item() == pytest.approx(along, abs=1e-5)

    def seen(u: float) -> float:
        return stats.norm.pdf(u) * q / (q + (1 - q) * math.exp(-(rho**2) / 2 - rho * u))

    exact, _ = integrate.quad(seen, -12, 12, epsabs=0, epsrel=1e-11, limit=400)
    assert found.orthogonal.item() == pytest.approx(exact, rel=1e-9)
    exact, _ = integrate.quad(lambda u: u**2 * seen(u), -12, 12, epsabs=0, epsrel=1e-11, limit=400)
    assert found.radial.item() == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(("q", "rho"), [(0.01, 1.0), (0.2, 3.0), (1e-4, 0.7), (0.9, 6.0), (0.5, 0.01)])
def test_radial_factor_is_the_fisher_information_of_the_mixture(q: float, rho: float) -> None:
    """Integral of the squared derivative by the norm over the density."""

    def integrand(u: float) -> float:
        there, away = stats.norm.pdf(u - rho), stats.norm.pdf(u)
        return (q * (u - rho) * there) ** 2 / (q * there + (1 - q) * away)

    exact, _ = integrate.quad(integrand, -14, 14 + rho, points=(0, rho), epsabs=0, epsrel=1e-11, limit=400)
    assert q * mixture_factors(q, f64(rho)).radial.item() == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("q", [1e-6, 0.01, 0.3])
def test_mixture_factors_limits(q: float) -> None:
    """q at rho 0, 1 at large rho or q = 1; increasing in between."""
    silent, loud = mixture_factors(q, f64(0.0)), mixture_factors(q, f64(40.0))
    assert silent.orthogonal.item() == pytest.approx(q, rel=1e-12)
    assert silent.radial.item() == pytest.approx(q, rel=1e-12)
    assert loud.orthogonal.item() == pytest.approx(1, abs=1e-9)
    assert loud.radial.item() == pytest.approx(1, abs=1e-9)
    full = mixture_factors(1.0, f64(0.0, 0.3, 50.0, 1e4))
    assert full.orthogonal.tolist() == full.radial.tolist() == [1.0] * 4
    between = mixture_factors(q, torch.linspace(0, 30, 61, dtype=F64))
    assert (between.orthogonal.diff() >= -1e-12).all()
    assert (between.orthogonal <= 1 + 1e-12).all()


def plane(q: float, scale: float, pull: torch.Tensor) -> torch.Tensor:
    """Return the information of a noisy sum in the plane about a row, by quadrature and differences.

    Args:
        q: Chance of the row to be in the sample.
        scale: Standard deviation of the noise.
        pull: (z) -> what the row adds, [2].
    """
    line = torch.arange(-9, 9 + 0.01, 0.05, dtype=F64) * scale
    x, y = torch.meshgrid(line, line, indexing="ij")

    def density(at: torch.Tensor) -> torch.Tensor:
        def law(a: torch.Tensor) -> torch.Tensor:
            return (-((x - a[0]) ** 2 + (y - a[1]) ** 2) / (2 * scale**2)).exp() / (2 * math.pi * scale**2)

        return q * law(at) + (1 - q) * law(torch.zeros(2, dtype=F64))

    p, h = density(pull(torch.zeros(2, dtype=F64))), 1e-4
    slopes = [(density(pull(h * e)) - density(pull(-h * e))) / (2 * h) for e in torch.eye(2, dtype=F64)]
    cell = (line[1] - line[0]).item() ** 2
    return torch.stack([torch.stack([(a * b / p).sum() * cell for b in slopes]) for a in slopes])


@pytest.mark.parametrize("q", [0.05, 0.4])
def test_subsampled_fisher_in_the_plane(q: float) -> None:
    """Of a curved pull: across and along its own direction, against the density's own integral."""
    scale, matrix = 0.8, torch.tensor([[0.7, -0.4], [0.3, 0.9]], dtype=F64)

    def pull(z: torch.Tensor) -> torch.Tensor:
        return (matrix @ z + f64(0.6, -0.5)).tanh()

    zero = torch.zeros(2, dtype=F64)
    jacobian, value = torch.func.jacrev(pull)(zero), pull(zero)
    norm = value.norm()
    pulled = value @ jacobian / norm
    found = subsampled_fisher(q, scale, norm[None], (jacobian.T @ jacobian)[None], pulled[None])[0]
    exact = plane(q, scale, pull)
    assert found == pytest.approx(exact, rel=1e-5)
    trace = subsampled_fisher_trace(q, scale, norm[None], jacobian.square().sum()[None], pulled.square().sum()[None])
    assert trace.item() == pytest.approx(exact.trace().item(), rel=1e-5)
    assert trace.item() <= q * jacobian.square().sum().item() / scale**2
    assert max_eigenvalue(found[None]).item() == pytest.approx(torch.linalg.eigvalsh(exact)[-1].item(), rel=1e-5)


def test_fisher_leakage_adds_up() -> None:
    """Per coordinate; the bound is its inverse, and the spread of what is known caps it."""
    none = FisherLeakage.zeros(3, 4)
    assert none.mse_bound().tolist() == [math.inf] * 3
    one = none.add_step(f64(4.0, 0.0, 8.0))
    both = one.add_step(f64(4.0, 0.0, 0.0), times=2.0)
    assert both.eta2.tolist() == [3.0, 0.0, 2.0]
    assert both.steps == 2
    assert both.mse_bound().tolist() == pytest.approx([1 / 3, math.inf, 0.5])
    assert both.mse_bound_with_prior(0.5).tolist() == pytest.approx([1 / 7, 0.25, 1 / 6])
    assert unbiased_mse_bound(f64(0.25, 0.0)).tolist() == [4.0, math.inf]
    with refuses(UsageError, argument="dim", found="0"):
        FisherLeakage.zeros(3, 0)
    with refuses(UsageError, found="1"):
        none.add_step(f64(1.0))
    with refuses(UsageError, found="NaN or infinity"):
        none.add_step(f64(1.0, math.nan, 0.0))


def test_max_eigenvalue() -> None:
    direction = f64(0.6, 0.8, 0.0, 0.0)
    assert max_eigenvalue(5 * torch.outer(direction, direction)[None]).item() == pytest.approx(5)

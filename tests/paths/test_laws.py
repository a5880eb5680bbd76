"""Conditional paths of one entry: vectors of the generator matching reference, section 13, and the forward equation."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths.jumps.conditional_path import ConcentrationSchedule, ConditionalPath
from feller.paths.jumps.gaussian import GaussianConditionalPath
from feller.paths.jumps.jump_step_rules import EulerJump, IntegratedRate, MaximalCoupling
from feller.paths.jumps.radial import AngleNodes, angle_velocity, cdf_at_nodes, cdf_kappa_derivative
from feller.paths.jumps.rotation import RotationConditionalPath
from feller.paths.jumps.von_mises import VonMisesConditionalPath
from feller.paths.schedules import VE, Cosine, Linear, Polynomial
from feller.spaces import SO3
from feller.spaces.rotations import rotation
from tests.errors import refuses
from tests.oracle import F64, close, f64

STEEP = ConcentrationSchedule(0.01, 1.0, 200.99**4)
"""Section 9 of the reference."""
GAUSSIAN = [
    GaussianConditionalPath(),
    GaussianConditionalPath(Cosine()),
    GaussianConditionalPath(Polynomial(2.0)),
    GaussianConditionalPath(VE(0.1, 5.0)),
]
ANGULAR = [
    VonMisesConditionalPath(),
    VonMisesConditionalPath(STEEP),
    RotationConditionalPath(),
    RotationConditionalPath(ConcentrationSchedule()),
]


def one(value: float) -> Tensor:
    return torch.tensor(value, dtype=F64)


def u(n: int, law: ConditionalPath, seed: int = 0) -> Tensor:
    return Rng(seed).stream("u").uniform((n, law.num_uniforms), F64)


def source(law: ConditionalPath, n: int) -> Tensor:
    draw = Rng(3).stream("source")
    if isinstance(law, RotationConditionalPath):
        return SO3().project(SO3().sample_base(n, draw).double())
    return draw.normal((n,), F64) if isinstance(law, GaussianConditionalPath) else 2 * math.pi * draw.uniform((n,), F64)


def end(law: ConditionalPath) -> Tensor:
    return rotation(f64(0.5, -1.0, 2.0)) if isinstance(law, RotationConditionalPath) else one(1.0)


def coordinate(law: ConditionalPath, x: Tensor) -> Tensor:
    """Return the argument of `cumulative`: the state, the signed offset, or the angle from the end."""
    if isinstance(law, GaussianConditionalPath):
        return x
    angle, direction = law.angle_and_direction(x, end(law))
    return angle * direction if isinstance(law, VonMisesConditionalPath) else angle


def cumulative(law: ConditionalPath, t: float):
    """Return the distribution function of the coordinate at t, without the library's tables."""
    if isinstance(law, GaussianConditionalPath):
        alpha, sigma, *_ = (float(v) for v in law.alpha_sigma(one(t)))
        return stats.norm(alpha, sigma).cdf
    kappa = float(law.concentration(one(t)))
    if isinstance(law, VonMisesConditionalPath):
        return stats.vonmises(kappa).cdf if kappa < 1e5 else stats.norm(0, kappa**-0.5).cdf
    grid = torch.linspace(0, min(math.pi, 40 / math.sqrt(1 + kappa)), 200_001, dtype=F64)
    c = torch.cos(grid / 2)
    density = torch.sin(grid / 2).square() * (torch.exp(kappa * (c - 1)) + torch.exp(-kappa * (c + 1)))
    total = torch.cumulative_trapezoid(density, grid)

    def cdf(x):
        place = (torch.as_tensor(x, dtype=F64) / grid[-1] * 200_000).long().clamp(0, 199_999)
        return (total[place] / total[-1]).numpy()

    return cdf


def ks(sample: Tensor, cdf) -> float:
    return float(stats.kstest(sample.double().numpy(), cdf).statistic)


def test_vector_of_the_linear_gaussian_kernel() -> None:
    """Section 13.1."""
    x = f64(-2.0, -1.0, -0.5, 0.0, 0.25, 0.4, 0.5, 1.0, 1.25, 1.5, 2.0, 2.5)
    law, z, t = GaussianConditionalPath(), one(1.0), one(0.4)
    rate = law.time_derivative(x, z, t).neg().clamp(min=0)
    expected = (31.666667, 11.296296, 4.583333, 0.185185, 0, 0, 0, 0, 0, 0.879630, 5.740741, 12.916667)
    close(rate, expected, 6e-7)
    p = law.log_density(x, z, t).exp()
    table = (0.000223, 0.043703, 0.215863, 0.532413, 0.644447, 0.664904, 0.655733, 0.403285, 0.243757, 0.123852)
    close(p[:10], table, 6e-7)
    landing = (law.time_derivative(x, z, t) * p).clamp(min=0) / 0.9997861198
    close(landing[3:10], (0, 0.738587, 1.108410, 1.244944, 0.672285, 0.166490, 0), 6e-7)


def test_destinations_of_the_linear_gaussian_kernel() -> None:
    """Section 13.1: between the golden ratio and minus its inverse, with the printed density; E[s] = .392123."""
    law, z, t = GaussianConditionalPath(), one(1.0), one(0.4)
    even = ((torch.arange(20_000, dtype=F64) + 0.5) / 20_000)[:, None]
    y = law.sample_increase(z, t, t, even)
    assert y.min() > 0.0291796068 - 1e-9
    assert y.max() < 1.3708203932 + 1e-9
    close(((y - 0.4) / 0.6).mean(), 0.392123, 2e-6)
    for place, density in ((0.25, 0.738587), (0.5, 1.244944), (1.0, 0.672285)):
        close((((y > place - 0.01) & (y < place + 0.01)).double().mean()) / 0.02, density, 5e-3)


def test_vector_of_the_cosine_path() -> None:
    """Section 13.1: zeta and the total rate, by the integral of the rate."""
    law, x = GaussianConditionalPath(Cosine()), torch.linspace(-9, 9, 400_001, dtype=F64)
    _, _, d_alpha, d_sigma = law.alpha_sigma(one(0.4))
    close(d_alpha / -d_sigma, 1.3763819205, 6e-11)
    rate = law.time_derivative(x, one(1.0), one(0.4)).neg().clamp(min=0) * law.log_density(x, one(1.0), one(0.4)).exp()
    close(torch.trapezoid(rate, x), 0.7934505766, 1e-8)


def test_vector_of_the_survival_probability() -> None:
    """Section 13.5: exp of the explicit change with rate 2; the other ways; and what they have in common.

    A state with rate 2 at t has s^2 - s = 1 + 2 (1 - t) for z = 1.
    """
    law, z = GaussianConditionalPath(), one(1.0)
    for t, expected in ((0.6, 0.8847510442), (0.9, 0.7408182207)):
        s = (1 + math.sqrt(1 + 4 * (1 + 2 * (1 - t)))) / 2
        x, now, later = one(t + (1 - t) * s), one(t), one(t + 0.05)
        close(law.time_derivative(x, z, now), -2.0, 1e-12)
        close(IntegratedRate().log_density_change(law, x, z, now, later).exp(), expected, 6e-11)
        close(EulerJump().log_density_change(law, x, z, now, later).exp(), 0.9048374180, 6e-11)
        close(torch.exp(-EulerJump().hazard(-EulerJump().log_density_change(law, x, z, now, later))), 0.9, 1e-12)
        assert IntegratedRate().log_density_change(law, x, z, now, one(1.0)) == -math.inf
        near = IntegratedRate().log_density_change(law, x, z, now, now + 1e-6)
        close(near / 1e-6, -2.0, 1e-4)  # equal to the frozen rate to first order
    x = torch.linspace(-3, 3, 101, dtype=F64)
    assert (IntegratedRate().log_density_change(law, x, z, one(0.3), one(0.31)).neg().clamp(min=0) >= 0).all()
    assert EulerJump().hazard(one(1.5)) == math.inf


def test_integrated_rate_needs_the_linear_gaussian_path() -> None:
    for law in (GaussianConditionalPath(Cosine()), VonMisesConditionalPath()):
        with refuses(UsageError):
            law.integrated_derivative(one(0.3), one(0.1), one(0.2), one(0.3))


def test_vector_of_the_von_mises_path() -> None:
    """Section 13.6; its rates come from finite differences, 1.4e-4 above the closed form."""
    law, t = VonMisesConditionalPath(STEEP), one(0.2)
    kappa = law.concentration(t)
    close(kappa, 68.598834, 6e-7)
    at = AngleNodes(kappa[None, None])
    close(cdf_kappa_derivative(law, at, kappa[None]).max() * law.concentration.time_derivative(t), 5.226200, 2e-4)
    rates = law.time_derivative(f64(math.pi, math.pi / 2), one(0.0), t).neg()
    torch.testing.assert_close(rates, f64(2941.99, 1465.44), rtol=2e-4, atol=0)
    i_0, i_1 = (float(f(kappa)) for f in (torch.special.i0e, torch.special.i1e))
    close(rates, law.concentration.time_derivative(t) * f64(1 + i_1 / i_0, i_1 / i_0), 1e-9)
    crossing = math.acos(i_1 / i_0)
    close(law.time_derivative(one(crossing), one(0.0), t), 0.0, 1e-9)
    assert abs(crossing - 0.1225) < 2e-3


@pytest.mark.parametrize("law", [*GAUSSIAN[:3], *ANGULAR], ids=repr)
def test_densities_integrate_to_one(law: ConditionalPath) -> None:
    for t in (0.02, 0.2, 0.4):
        if isinstance(law, GaussianConditionalPath):
            x = torch.linspace(-12, 12, 20_001, dtype=F64)
            total = torch.trapezoid(law.log_density(x, end(law), one(t)).exp(), x)
        else:
            angle = torch.linspace(0, math.pi, 100_001, dtype=F64)
            axis = f64(0.0, 0.6, 0.8).expand(len(angle), 3) if isinstance(law, RotationConditionalPath) else one(1.0)
            p = law.log_density(law.at_angle(end(law), angle, axis), end(law), one(t)).exp()
            volume = 16 * math.pi * torch.sin(angle / 2).square() if isinstance(law, RotationConditionalPath) else 2.0
            total = torch.trapezoid(p * volume, angle)
        close(total, 1.0, 1e-6)


@pytest.mark.parametrize("law", [*GAUSSIAN, *ANGULAR], ids=repr)
def test_time_derivative_of_the_log_density(law: ConditionalPath) -> None:
    x, z, h = source(law, 40), end(law), 1e-6
    for t in (0.1, 0.35):
        up, down = (law.log_density(x, z, one(t + d)) for d in (h, -h))
        expected, slope = (up - down) / (2 * h), law.time_derivative(x, z, one(t))
        torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-5 * float(slope.abs().max()))
        close(
            law.log_density_change(x, z, one(t), one(0.4)),
            law.log_density(x, z, one(0.4)) - law.log_density(x, z, one(t)),
            1e-8,
        )


@pytest.mark.parametrize("law", ANGULAR, ids=repr)
@pytest.mark.parametrize("t", [0.02, 0.15, 0.4, 0.9])
def test_angular_velocity_solves_the_continuity_equation(law: ConditionalPath, t: float) -> None:
    """d/dkappa of the distribution plus density times speed is 0, with differences of the distribution in kappa."""
    kappa = law.concentration(f64(t))
    at, small = AngleNodes(kappa[:, None]), 1e-4 * kappa
    angle = at.angles
    slope = (cdf_at_nodes(law, at, kappa + small) - cdf_at_nodes(law, at, kappa - small)) / (2 * small[:, None])
    density = law.uniform_density(angle) * law.log_unnormalized(angle, kappa[:, None]).exp()
    density = density / torch.trapezoid(density, angle)[:, None]
    flux = density * angle_velocity(law, at, kappa)
    close((slope + flux)[:, 1:-1] / slope.max(), torch.zeros(1, angle.shape[1] - 2, dtype=F64), 2e-3)
    close(cdf_kappa_derivative(law, at, kappa) / slope.max(), slope / slope.max(), 1e-4)


@pytest.mark.parametrize("t", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("law", GAUSSIAN[:3], ids=repr)
def test_gaussian_flow_and_jumps_solve_the_forward_equation(law: ConditionalPath, t: float) -> None:
    """dp = -(u p)' by differences; and dp = J int lambda p - lambda p, with J from the density of landings."""
    x, z, h = torch.linspace(-8, 8, 8001, dtype=F64), one(1.0), 1e-5
    p = law.log_density(x, z, one(t)).exp()
    dp = (law.log_density(x, z, one(t + h)).exp() - law.log_density(x, z, one(t - h)).exp()) / (2 * h)
    moved = torch.gradient(law.velocity(x, z, one(t)) * p, spacing=(x,))[0]
    size = float(dp.abs().max())
    close((dp + moved)[1:-1] / size, torch.zeros(len(x) - 2, dtype=F64), 2e-3)
    out = law.time_derivative(x, z, one(t)).neg().clamp(min=0) * p
    even = ((torch.arange(40_000, dtype=F64) + 0.5) / 40_000)[:, None]
    y = law.sample_increase(z.expand(40_000), one(t), one(t), even)
    landed = torch.searchsorted(y.sort().values, x).double() / 40_000
    gained = landed * torch.trapezoid(out, x) - torch.cumulative_trapezoid(torch.cat([out[:1], out]), dx=16 / 8000)
    change = torch.cumulative_trapezoid(torch.cat([dp[:1], dp]), dx=16 / 8000)
    close(gained / change.abs().max(), change / change.abs().max(), 2e-3)


@pytest.mark.parametrize("law", [*GAUSSIAN, *ANGULAR], ids=repr)
def test_velocity_is_the_derivative_of_the_sample(law: ConditionalPath) -> None:
    """Tables of two times have other nodes and errors of 5e-6, 5e-3 in their difference over time."""
    x_0, z, h = source(law, 12), end(law), 1e-3
    for t in (0.05, 0.2, 0.5):
        x = law.sample(x_0, z, one(t))
        later, before = (law.sample(x_0, z, one(t + d)) for d in (h, -h))
        expected = ((later - before) / (2 * h)).flatten()
        velocity = law.velocity(x, z, one(t)).flatten()
        close(velocity, expected, 5e-3 + 1e-3 * float(expected.norm()))


@pytest.mark.parametrize("law", [*GAUSSIAN, *ANGULAR], ids=repr)
def test_samples_have_their_distribution(law: ConditionalPath) -> None:
    """KS of 8,000 below 1.95 / sqrt(n): false alarm 1e-3 for a right law, and seeds are fixed."""
    for t in (0.1, 0.5, 0.95):
        x = coordinate(law, law.sample(source(law, 8000), end(law), one(t)))
        if isinstance(law, GaussianConditionalPath) or float(law.concentration(one(t))) < 1e8:
            assert ks(x, cumulative(law, t)) < 0.0218


@pytest.mark.parametrize("back", [False, True], ids=["forward", "back"])
@pytest.mark.parametrize("law", [*GAUSSIAN, *ANGULAR], ids=repr)
def test_maximal_coupling_is_exact_in_one_step(law: ConditionalPath, back: bool) -> None:
    """Of those at t who jump, and land where the law rises, come those at s, however far; and back from s to t.

    KS of 8,000 below 1.95 / sqrt(n), false alarm 1e-3 each for a right law; seeds are fixed.
    """
    n, z = 8000, end(law)
    for t, s in ((0.0, 0.3), (0.2, 0.21), (0.1, 0.5)):
        t, s = max(t, 0.0 if not isinstance(law, RotationConditionalPath) else 0.01), s
        x = law.sample(source(law, n), z, one(s if back else t))
        change = law.log_density_change(x, z, one(t), one(s))
        leave = 1 - torch.exp(-(change if back else -change).clamp(min=0))
        which = Rng(1).stream("coin").uniform((n,), F64) < leave
        kernel = law.sample_decrease if back else law.sample_increase
        m = int(which.sum())
        y = x.clone()
        y[which] = kernel(z.expand(m, *z.shape), one(t), one(s), u(m, law)).to(y)
        assert ks(coordinate(law, y), cumulative(law, t if back else s)) < 0.0218


@pytest.mark.parametrize("back", [False, True], ids=["forward", "back"])
@pytest.mark.parametrize("law", [*GAUSSIAN, *ANGULAR], ids=repr)
def test_destinations_are_the_limit_of_short_steps(law: ConditionalPath, back: bool) -> None:
    even, z = u(200, law), end(law).expand(200, *end(law).shape)
    kernel = law.sample_decrease if back else law.sample_increase
    at = kernel(z, one(0.3), one(0.3), even)
    near = kernel(z, one(0.3 - 1e-5), one(0.3 + 1e-5), even)
    close(near, at, 2e-3)


@pytest.mark.parametrize("law", [RotationConditionalPath(), RotationConditionalPath(ConcentrationSchedule())], ids=repr)
def test_jumps_of_rotations_solve_the_forward_equation(law: RotationConditionalPath) -> None:
    """d/dt of means equals the rate of jumps times what a jump changes, for polynomials of all entries of a rotation.

    Means by quadrature over angle, height and longitude of the axis; landings by 2^14 points of low discrepancy.
    """
    places, weights = (torch.as_tensor(part) for part in np.polynomial.legendre.leggauss(120))
    heights, shares = (torch.as_tensor(part) for part in np.polynomial.legendre.leggauss(8))
    turns = 2 * math.pi * torch.arange(16, dtype=F64) / 16
    angle, height, turn = torch.meshgrid((places + 1) * math.pi / 2, heights, turns, indexing="ij")
    volume = 4 * torch.sin(angle / 2).square() * (weights * math.pi / 2)[:, None, None] * shares[:, None] * math.pi / 8
    flat = (1 - height.square()).sqrt()
    axis = torch.stack([flat * turn.cos(), flat * turn.sin(), height], -1)
    x, volume, z = rotation((angle[..., None] * axis).reshape(-1, 3)), volume.flatten(), end(law)

    def functions(x: Tensor) -> Tensor:
        trace = torch.diagonal(x, dim1=1, dim2=2).sum(1)
        return torch.cat([x.flatten(1), torch.stack([trace**2, x[:, 0, 0] * x[:, 1, 2], x[:, 0, 1] ** 2], 1)], 1)

    close(volume.sum(), 8 * math.pi**2, 1e-9)
    u = torch.quasirandom.SobolEngine(3, scramble=True, seed=1).draw(2**14, dtype=F64).clamp(1e-9, 1 - 1e-9)
    for t in (0.02, 0.1) if law.concentration.kappa_min else (0.1, 0.3, 0.5):
        now, h = one(t), 1e-5
        up, down = (law.log_density(x, z, one(t + d)).exp() for d in (h, -h))
        expected = (volume * (up - down) / (2 * h)) @ functions(x)
        leaving = volume * law.log_density(x, z, now).exp() * law.time_derivative(x, z, now).neg().clamp(min=0)
        arrived = functions(law.sample_increase(z.expand(len(u), 3, 3), now, now, u)).mean(0)
        found = leaving.sum() * arrived - leaving @ functions(x)
        assert expected.abs().max() > 1e-3
        close(found / expected.abs().max(), expected / expected.abs().max(), 3e-3)


def test_destination_times_of_step_rules() -> None:
    t, s = f64(0.2), f64(0.3)
    assert IntegratedRate().destination_times(t, s) == (s, s)
    assert MaximalCoupling().destination_times(t, s) == (t, s)


def test_rotation_destinations_are_orthogonal_with_uniform_axes() -> None:
    """Mean of the axis within 5 standard errors, 4,000 landings; false alarm 2e-6."""
    law, z = RotationConditionalPath(), end(RotationConditionalPath())
    y = law.sample_increase(z.expand(4000, 3, 3), one(0.1), one(0.1), u(4000, law))
    close(y.mT @ y, torch.eye(3, dtype=F64).expand(4000, 3, 3), 1e-12)
    _, axis = law.angle_and_direction(y, z)
    assert (axis.mean(0).abs() < 5 / math.sqrt(3 * 4000)).all()


@pytest.mark.parametrize("law", [VonMisesConditionalPath(STEEP), RotationConditionalPath()], ids=repr)
def test_float32_is_accurate_up_to_the_last_time(law: ConditionalPath) -> None:
    """Concentrations up to 1.6e9: finite, near double precision; far away the flow is -kappa' / kappa tan(w / 2)."""
    x, z = source(law, 30), end(law)
    for t in (0.0, 0.3, 0.7, 1 - 2**-24):
        time = torch.tensor(t)
        for method in (law.log_density, law.time_derivative, law.velocity):
            single, double = method(x.float(), z.float(), time), method(x, z, time.double())
            assert single.dtype == torch.float32
            assert single.isfinite().all()
            size = float(double.abs().max())
            torch.testing.assert_close(single.double() / size, double / size, rtol=1e-2, atol=1e-3)
    law = VonMisesConditionalPath(STEEP)
    ratio = (
        law.velocity(one(2.0), one(0.5), one(0.8))
        * law.concentration(one(0.8))
        / law.concentration.time_derivative(one(0.8))
    )
    close(ratio, -math.tan(0.75), 2e-2)


def test_times_and_ends_broadcast() -> None:
    """Candidates [K] against states [b, n, 1] at times [b, 1, 1]: each entry is that entry alone."""
    for law in (GaussianConditionalPath(), VonMisesConditionalPath()):
        x, z, t = source(law, 6).view(2, 3, 1), f64(0.1, 0.9, 2.0, 3.0), f64(0.2, 0.7)[:, None, None]
        for method in (law.log_density, law.time_derivative, law.velocity):
            together = method(x, z, t)
            assert together.shape == (2, 3, 4)
            close(together[1, 2, 3], method(x[1, 2, 0], z[3], t[1, 0, 0]), 1e-4)
        landed = law.sample_increase(z.expand(2, 4), t[:, :, 0], t[:, :, 0] + 0.1, u(8, law).view(2, 4, 1))
        alone = law.sample_increase(z[3:], t[1, :, 0], t[1, :, 0] + 0.1, u(8, law).view(2, 4, 1)[1, 3:])
        close(landed[1, 3], alone[0], 1e-5)


@pytest.mark.parametrize(("least", "scale", "factor"), [(-1.0, 1.0, 2.0), (0.0, 0.0, 2.0), (0.0, 1.0, 1.0)])
def test_concentrations_must_increase(least: float, scale: float, factor: float) -> None:
    with refuses(UsageError):
        ConcentrationSchedule(least, scale, factor)


def test_concentration_schedules_of_the_reference() -> None:
    close(ConcentrationSchedule()(f64(0.0, 1.0)), (0.0, 400.0), 1e-9)
    torch.testing.assert_close(STEEP(f64(0.5, 1.0)), f64(4.0396e4, 1.632e9), rtol=1e-3, atol=0)
    assert GaussianConditionalPath().default_rule == IntegratedRate()
    assert GaussianConditionalPath(Cosine()).default_rule == VonMisesConditionalPath().default_rule == MaximalCoupling()
    assert GaussianConditionalPath(Linear()).initial_state(f64(2.0)) == 2.0

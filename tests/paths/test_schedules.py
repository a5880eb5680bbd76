"""The tables of the flow matching reference, sections 5 and 8, of adjoint matching, 2, and of discrete paths, 4."""

import itertools
import math

import pytest
import torch

from feller.core.errors import UsageError
from feller.paths.discrete.token_schedules import KineticOptimal, KineticOptimalPerToken
from feller.paths.schedules import VE, VP, Cosine, CustomSchedule, Linear, LinearVP, Polynomial, Schedule
from tests.errors import refuses
from tests.oracle import F64, close, f64

SCHEDULES = [Linear(), Polynomial(2.0), Polynomial(3.0), VP(), LinearVP(), Cosine()]
AT_3 = {  # alpha, sigma, alpha', sigma', alpha / sigma, lambda', W, eta
    Linear(): (0.3, 0.7, 1, -1, 0.4285714286, 4.7619047619, 1, 2.3333333333),
    Polynomial(2.0): (0.09, 0.91, 0.6, -0.6, 0.0989010989, 7.3260073260, 0.6, 6.0666666667),
    Polynomial(3.0): (0.027, 0.973, 0.27, -0.27, 0.0277492292, 10.2774922919, 0.27, 9.73),
    VP(): (0.0843525702, 0.9964359708, 0.5917332798, -0.0500927551, 0.0846542805, 7.0652719257, 0.5938497778, 7.015),
    LinearVP(): (0.3, 0.9539392014, 1, -0.3144854510, 0.3144854510, 3.6630036630, 1.0482848367, 3.3333333333),
    Cosine(): (
        *(0.4539904997, 0.8910065242, 1.3995897753, -0.7131266094),
        *(0.5095254495, 3.8832220775, 1.5707963268, 3.0828613730),
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_values_at_three_tenths(schedule: Schedule) -> None:
    scales = schedule(f64(0.3))
    values = (*scales, scales.alpha / scales.sigma, scales.d_log_snr, scales.wronskian, scales.score_coefficient)
    for value, expected in zip(values, AT_3[schedule], strict=True):
        assert float(value) == pytest.approx(expected, abs=6e-11)


def test_values_at_seven_tenths() -> None:
    vp, linear_vp, cosine = (schedule(f64(0.7)) for schedule in (VP(), LinearVP(), Cosine()))
    close(torch.stack(list(vp)), (0.6295500003, 0.7769599713, 1.9106842510, -1.5481766310), 6e-11)
    close(torch.stack([linear_vp.sigma, linear_vp.d_sigma]), (0.7141428429, -0.9801960588), 6e-11)
    close(torch.stack([cosine.alpha, cosine.sigma]), (0.8910065242, 0.4539904997), 6e-11)


@pytest.mark.parametrize("schedule", [*SCHEDULES, VE()], ids=repr)
def test_time_from_snr_comes_back(schedule: Schedule) -> None:
    t = torch.linspace(0.01, 0.99, 99, dtype=F64)
    scales = schedule(t)
    snr = scales.alpha / scales.sigma
    close(schedule.t_from_snr(snr), t, 1e-12)
    close(Schedule.t_from_snr(schedule, snr), t, 1e-12)  # by bisection, as a new kind would have it


def test_vp_is_accurate_near_the_data() -> None:
    """Sigma^2 = T = beta_min (1 - t) there; the naive form 1 - exp(-T) would be off by its rounding, 1e-16 / T."""
    rest = f64(1e-6, 1e-9, 1e-12)
    t = 1 - rest
    sigma = VP()(t).sigma
    elapsed = (1 - t) ** 2 * 19.9 / 2 + (1 - t) * 0.1
    torch.testing.assert_close(sigma, elapsed.sqrt() * (1 - elapsed / 4), rtol=1e-12, atol=0)
    torch.testing.assert_close(1 - VP().t_from_snr(VP()(t).alpha / sigma), 1 - t, rtol=1e-3, atol=2e-16)


def test_end_values_of_vp_and_ve() -> None:
    scales = VP()(f64(0.0, 1.0))
    close(scales.alpha, (0.0065716, 1.0), 5e-8)
    close(scales.sigma, (0.9999784, 0.0), 5e-8)
    assert scales.alpha[0].item() == pytest.approx(math.exp(-5.025), abs=1e-15)
    assert VP()(f64(1.0)).d_sigma.item() == LinearVP()(f64(1.0)).d_sigma.item() == -math.inf
    exploding = VE(0.01, 50.0)(f64(0.0, 1.0))
    close(exploding.sigma, (50.0, 0.01), 1e-12)
    assert (exploding.alpha, exploding.d_alpha) == (1.0, 0.0)


def test_identities() -> None:
    t = torch.linspace(0, 1, 101, dtype=F64)
    for schedule in (VP(), LinearVP(), Cosine()):
        close(schedule(t).alpha ** 2 + schedule(t).sigma ** 2, torch.ones_like(t), 1e-15)
    for schedule in (Linear(), Polynomial(2.0), Polynomial(3.0)):
        close(schedule(t).alpha + schedule(t).sigma, torch.ones_like(t), 0.0)
    inside = t[1:-1]
    close(VP()(inside).score_coefficient, ((1 - inside) * 19.9 + 0.1) / 2, 1e-12)  # beta / 2
    close(Cosine()(t).wronskian, torch.full_like(t, math.pi / 2), 1e-15)
    close(VE()(t).wronskian, -VE()(t).d_sigma, 1e-12)


@pytest.mark.parametrize(
    ("schedule", "t", "kappa", "eta", "noise"),
    [
        (Linear(), 0.3, 3.3333333333, 2.3333333333, 2.1602468995),
        (Linear(), 0.7, 1.4285714286, 0.4285714286, 0.9258200998),
        (Cosine(), 0.3, 3.0828613730, 3.0828613730, 2.4830873416),
        (Cosine(), 0.7, 0.8003607045, 0.8003607045, 1.2651961939),
        (VP(), 0.3, 7.0150000000, 7.0150000000, 3.7456641601),
        (VP(), 0.7, 3.0350000000, 3.0350000000, 2.4637369990),
    ],
)
def test_memoryless_noise(schedule: Schedule, t: float, kappa: float, eta: float, noise: float) -> None:
    scales = schedule(f64(t))
    assert float(scales.d_alpha / scales.alpha) == pytest.approx(kappa, abs=6e-11)
    assert float(scales.score_coefficient) == pytest.approx(eta, abs=6e-11)
    assert (2 * schedule(f64(t)).score_coefficient).sqrt().item() == pytest.approx(noise, abs=6e-11)


def test_memoryless_noise_is_infinite_at_the_source_only() -> None:
    assert Linear()(f64(0.0)).score_coefficient.item() == math.inf
    assert Linear()(f64(1.0)).score_coefficient.item() == 0.0


def test_custom_schedule_derivatives() -> None:
    mine = CustomSchedule(lambda t: torch.sin(math.pi / 2 * t), lambda t: torch.cos(math.pi / 2 * t))
    t = torch.linspace(0, 1, 11, dtype=F64)
    for ours, expected in zip(mine(t), Cosine()(t), strict=True):
        close(ours, expected, 1e-15)
    constant = CustomSchedule(lambda t: torch.ones_like(t), lambda t: 1 - t)(t)
    assert constant.d_alpha.tolist() == [0.0] * 11


def test_a_power_below_one_is_refused() -> None:
    with refuses(ValueError, argument="n", found="0.5"):
        Polynomial(0.5)


@pytest.mark.parametrize(
    ("mass", "kappa", "energy"),
    [
        (0.0, (0.024472, 0.146447, 0.5, 0.853553, 0.975528), 9.869604),
        (1 / 256, (0.041093, 0.177909, 0.529412, 0.863903, 0.977335), 9.099339),
        (1 / 17, (0.081900, 0.253132, 0.597597, 0.887484, 0.981433), 7.031169),
        (0.5, (0.156434, 0.382683, 0.707107, 0.923880, 0.987688), 2.467401),
        (0.9, (0.184638, 0.428897, 0.743416, 0.935437, 0.989651), 0.414094),
    ],
)
def test_vectors_of_kinetic_optimal_schedules(mass: float, kappa: tuple[float, ...], energy: float) -> None:
    """The kinetic-optimal reference, section 4: alpha' / sigma is 2 angle cot((1 - t) angle), the energy constant."""
    t = f64(0.1, 0.25, 0.5, 0.75, 0.9)
    alpha, sigma, rate, _ = KineticOptimal(mass)(t)
    close(alpha, kappa, 6e-7)
    angle = math.sqrt(energy) / 2
    close(rate / sigma, 2 * angle / torch.tan((1 - t) * angle), 2e-5)
    # p_t at the target is alpha + sigma p, elsewhere sigma (1 - p) in all: the Fisher information of the two.
    fisher = rate**2 * (1 - mass) * (1 / sigma + (1 - mass) / (alpha + sigma * mass))
    close(fisher, torch.full_like(t, energy), 1.1e-6)  # one entry of the table is cut, not rounded


@pytest.mark.parametrize("mass", [1 - 1e-3, 1 - 1e-9, 1 - 1e-15, 1.0])
def test_kinetic_optimal_schedule_for_masses_near_one(mass: float) -> None:
    """They go to 1 - (1 - t)^2, and differ from it by no more than the mass left: also there the ends are exact."""
    t = torch.linspace(0, 1, 21, dtype=F64)
    alpha, sigma, rate, _ = KineticOptimal(mass)(t)
    assert (alpha[0], alpha[-1], sigma[0], sigma[-1]) == (0, 1, 1, 0)
    close(alpha, 1 - (1 - t) ** 2, (1 - mass) + 1e-15)
    close(rate, 2 * (1 - t), 2 * (1 - mass) + 1e-14)


def test_kinetic_optimal_schedule_is_accurate_at_both_ends() -> None:
    """Near t = 0 of the mask alpha is (pi t / 2)^2, near t = 1 sigma is (pi (1 - t) / 2)^2."""
    small = f64(1e-3, 1e-6, 1e-9)
    torch.testing.assert_close(KineticOptimal()(small).alpha, (math.pi * small / 2) ** 2, rtol=1e-5, atol=0)
    late = 1 - small
    torch.testing.assert_close(KineticOptimal()(late).sigma, (math.pi * (1 - late) / 2) ** 2, rtol=1e-5, atol=0)


def test_per_token_schedule_equals_the_schedule_of_each_token() -> None:
    masses = (0.5, 0.25, 0.0, 0.25)
    x, t = torch.tensor([[0, 1, 2], [3, 2, 0]]), f64(0.3, 0.8)[:, None]
    scales = KineticOptimalPerToken(masses)(t, x)
    for i, j in itertools.product(range(2), range(3)):
        alone = KineticOptimal(masses[int(x[i, j])])(t[i])
        for ours, expected in zip(scales, alone, strict=True):
            close(ours[i, j].reshape(1), expected, 1e-15)


def test_masses_are_probabilities() -> None:
    for wrong in (
        lambda: KineticOptimal(-0.1),
        lambda: KineticOptimal(1.1),
        lambda: KineticOptimalPerToken((0.5, 2.0)),
    ):
        with refuses(ValueError, argument="mass"):
            wrong()
    with refuses(ValueError, found="none"):
        KineticOptimalPerToken(())


def test_kinetic_energies_of_mixture_schedules() -> None:
    """The kinetic energy over [0, 1 - 1e-9] of p = 1 / 2: no other schedule needs less than the great circle."""

    def action(schedule: Schedule) -> float:
        edge = torch.logspace(-9, -0.30103, 20001, dtype=F64)
        t = torch.cat([torch.linspace(0, 0.5, 20001, dtype=F64), (1 - edge).flip(0)])
        alpha, sigma, rate, _ = (torch.as_tensor(v, dtype=F64).expand(t.shape) for v in schedule(t))
        return float(torch.trapezoid(rate**2 * 0.5 * (1 / sigma + 0.5 / (alpha + sigma * 0.5)), t))

    assert action(KineticOptimal(0.5)) == pytest.approx(2.467401, abs=2e-5)
    assert action(CustomSchedule(lambda t: 1 - (1 - t) ** 2, lambda t: (1 - t) ** 2)) == pytest.approx(
        2.492901, abs=2e-5
    )
    assert action(KineticOptimal(0.0)) == pytest.approx(2.890740, abs=2e-5)
    assert action(Linear()) == pytest.approx(10.708207, abs=2e-4)


def test_alpha_is_not_negative_in_float32() -> None:
    t = torch.tensor([0.0, 1e-8, 2**-24, 2**-23, 1e-6])
    assert (torch.as_tensor(KineticOptimal()(t).alpha) >= 0).all()
    assert (torch.as_tensor(KineticOptimalPerToken((0.0, 0.5))(t, torch.zeros(5, dtype=torch.long)).alpha) >= 0).all()


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_rates_and_levels_are_finite_and_positive(value: float) -> None:
    for kind, name in ((VP, "beta_min"), (VP, "beta_max"), (VE, "sigma_min"), (VE, "sigma_max"), (Polynomial, "n")):
        with refuses(UsageError, argument=name):
            kind(**{name: value})


def test_levels_that_do_not_fall_are_refused() -> None:
    for low, high, name in ((80.0, 0.1, "sigma_max"), (1.0, 1.0, "sigma_max"), (0.0, 1.0, "sigma_min")):
        with refuses(UsageError, argument=name):
            VE(low, high)
    with refuses(UsageError, argument="beta_max"):
        VP(0.0, 0.0)

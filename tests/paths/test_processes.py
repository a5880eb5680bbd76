"""Sums, multiples and reversal of processes; jumps."""

import math

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import RandomStream, Rng
from feller.paths import Affine, ScorePrediction, VelocityPrediction
from feller.paths.affine import ConstantDiffusion, DiffusionCoefficient, MemorylessDiffusion, SigmaProportional
from feller.paths.processes import Characteristics, Jumps, reverse, superpose
from feller.paths.schedules import Cosine, Linear, Schedule
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from tests.errors import refuses
from tests.oracle import F64, Normal, chain, close, f64


def jumps_to(place: float, hazard: float, parts: tuple[int, ...]) -> Jumps:
    """Return jumps to one state, with the same cumulative hazard for all entries at any time."""
    return Jumps(
        lambda s: torch.full(parts, hazard, dtype=F64),
        lambda s, which, draw: torch.full((int(which.sum()),), place, dtype=F64),
    )


def share(x: Tensor, place: float) -> float:
    return (x == place).double().mean().item()


def within(observed: float, expected: float, n: int) -> bool:
    """Within five standard deviations of a proportion: false alarm 6e-7."""
    return abs(observed - expected) < 5 * math.sqrt(expected * (1 - expected) / n)


def test_jump_probability_is_one_minus_exp_of_the_hazard() -> None:
    """1 - exp(-hazard), 40,000 parts, false alarm 6e-7."""
    x = torch.zeros(20_000, 2, dtype=F64)
    y = jumps_to(1.0, 0.3, (20_000, 2)).apply(x, 0.5, Rng(0).stream("jumps"))
    assert within(share(y, 1.0), 1 - math.exp(-0.3), 40_000)
    assert x.abs().sum() == 0  # the input is left alone


def test_hazards_of_zero_and_infinity() -> None:
    x = torch.zeros(500, 2, dtype=F64)
    assert share(jumps_to(1.0, math.inf, (500, 2)).apply(x, 1.0, Rng(0).stream("jumps")), 1.0) == 1
    assert share(jumps_to(1.0, 0.0, (500, 2)).apply(x, 1.0, Rng(0).stream("jumps")), 1.0) == 0


def test_destinations_are_sampled_for_jumping_entries_only() -> None:
    asked = []

    def land(s: float, which: Tensor, draw: RandomStream) -> Tensor:
        asked.append(int(which.sum()))
        return torch.ones(asked[-1], dtype=F64)

    jumps = Jumps(lambda s: torch.full((1000,), 0.1, dtype=F64), land)
    y = jumps.apply(torch.zeros(1000, dtype=F64), 0.5, Rng(0).stream("jumps"))
    assert asked == [int(y.sum())]


def test_a_hazard_per_example_moves_whole_rows() -> None:
    jumps = Jumps(lambda s: f64(math.inf, 0.0), lambda s, which, draw: torch.ones(int(which.sum()), 3, dtype=F64))
    y = jumps.apply(torch.zeros(2, 3, dtype=F64), 0.5, Rng(0).stream("jumps"))
    assert y.tolist() == [[1, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize("first", [0.3, math.inf])
@pytest.mark.parametrize("weight", [0.3, 0.8])
def test_superposed_jumps_add_hazards_and_mix_destinations(first: float, weight: float) -> None:
    """Kinds with hazards in the ratio w : 1 - w land in that ratio, 40,000 parts; false alarm 2 x 6e-7.

    Where both must jump, hazards are infinite and the odds just before decide.
    """
    n = 40_000

    def kind(place: float) -> Jumps:
        return Jumps(
            lambda s: torch.full((n,), first if s >= 1 else 0.3, dtype=F64),
            lambda s, which, draw: torch.full((int(which.sum()),), place, dtype=F64),
        )

    y = (kind(1.0) * weight + kind(2.0) * (1 - weight)).apply(torch.zeros(n, dtype=F64), 1.0, Rng(1).stream("jumps"))
    jumped = 1 - math.exp(-first)
    assert within(share(y, 1.0), jumped * weight, n)
    assert within(share(y, 2.0), jumped * (1 - weight), n)


def test_infinite_hazards_do_not_change_other_entries() -> None:
    """Part 0 has infinite hazards of equal odds; part 1 has hazards 1 : 3, which at other times are 1 : 0."""
    n = 20_000

    def hazard(sizes: tuple[float, float], before: tuple[float, float]):
        return lambda s: f64(*(sizes if s >= 1 else before)).repeat(n, 1)

    def land(place: float):
        return lambda s, which, draw: torch.full((int(which.sum()),), place, dtype=F64)

    one = Jumps(hazard((math.inf, 1.0), (5.0, 1.0)), land(1.0))
    two = Jumps(hazard((math.inf, 3.0), (5.0, 0.0)), land(2.0))
    y = (one + two).apply(torch.zeros(n, 2, dtype=F64), 1.0, Rng(2).stream("jumps"))
    assert within(share(y[:, 0], 1.0), 0.5, n)
    assert within(share(y[:, 1], 1.0), 0.25 * (1 - math.exp(-4)), n)


def test_weights_per_example() -> None:
    weight = f64(0.0, 2.0)
    now = Characteristics(f64(math.inf, 3.0)[:, None], f64(math.inf, 1.0)[:, None]) * weight
    assert now.velocity.tolist() == [[0], [6]]  # zero drops a part, also where it is infinite
    assert now.diffusion.tolist() == [[0], [2]]
    jumps = Jumps(lambda s: f64(math.inf, 1.0), lambda s, which, draw: f64()) * weight
    assert jumps.hazard(1.0).tolist() == [0, 2]


def test_zero_drops_every_part() -> None:
    full = Characteristics(f64(math.inf), f64(1.0), jumps_to(1.0, math.inf, (1,)))
    assert full * 0.0 == Characteristics()
    assert full.jumps is not None
    assert (full.jumps * 0.0).hazard(1.0).tolist() == [0]
    assert (0.0 * full + Characteristics(f64(2.0))).velocity.tolist() == [2]


def test_characteristics_add() -> None:
    flow, noise = Characteristics(velocity=f64(1.0, 2.0)), Characteristics(diffusion=f64(3.0, 4.0))
    both = 0.5 * (flow + flow) + noise * 2.0
    assert both.velocity.tolist() == [1, 2]
    assert both.diffusion.tolist() == [6, 8]
    assert both.jumps is None


def test_superposition_with_weights_one_and_zero_is_the_single_process() -> None:
    def flow(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(velocity=-x)

    def leap(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(jumps=jumps_to(7.0, 0.05, tuple(x.shape)))

    x = torch.linspace(-1, 1, 200, dtype=F64)[:, None]
    for weights, pure in (((1.0, 0.0), flow), ((0.0, 1.0), leap)):
        mixed = superpose((weights[0], flow), (weights[1], leap))
        ends = [simulate(process, x, linear_grid(10), Euler(), Rng(3)) for process in (mixed, pure)]
        assert torch.equal(*ends)


def test_superposition_works_on_trees() -> None:
    def flow(x: dict[str, Tensor], t: Tensor) -> dict[str, Characteristics]:
        return {name: Characteristics(velocity=torch.ones_like(leaf)) for name, leaf in x.items()}

    now = superpose((0.25, flow), (torch.tensor([0.0, 1.0]), flow))({"a": torch.zeros(2, 3)}, torch.zeros(2))
    assert now["a"].velocity[:, 0].tolist() == [0.25, 1.25]


@pytest.mark.parametrize(
    "noise", [None, ConstantDiffusion(0.7), SigmaProportional(2.0), MemorylessDiffusion(5.0)], ids=repr
)
@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=repr)
def test_a_reversed_process_ends_at_the_source_distribution(
    schedule: Schedule, noise: DiffusionCoefficient | None
) -> None:
    """From N(m, s^2) at t = 1 back to N(0, 1) at t = 0, by exact moments of the chain.

    Their error falls as 1 / n; the extrapolation 2 x fine - coarse leaves that out. Without the drift that pays for the
    noise the variance would end above 4.
    """
    data = Normal(schedule)
    forwards = Affine(schedule, noise=noise).process(lambda x, t, given: data.predict(VelocityPrediction(), x, t), {})
    backwards = reverse(forwards, lambda x, t: data.predict(ScorePrediction(), x, t))
    coarse, fine = (f64(*chain(Euler(), backwards, linear_grid(n), data.m, data.s**2)) for n in (32, 64))
    close(fine, (0.0, 1.0), 0.1)
    close(2 * fine - coarse, (0.0, 1.0), 0.003)


def test_reverse_refuses_jumps() -> None:
    process = reverse(lambda x, t: Characteristics(jumps=jumps_to(0.0, 1.0, (2,))), lambda x, t: x)
    with refuses(ValueError):
        process(torch.zeros(2), torch.zeros(2))


@pytest.mark.parametrize("parts", [(), (1,), (4,)])
def test_jumps_do_not_depend_on_the_batch(parts: tuple[int, ...]) -> None:
    def moved(first: int, n: int) -> Tensor:
        now = Jumps(
            lambda s: 0.09 * torch.ones(n, *parts, dtype=F64),
            lambda s, which, draw: torch.ones(int(which.sum()), dtype=F64),
        )
        return now.apply(torch.zeros(n, *parts, dtype=F64), 1.0, Rng(0, first_example=first).stream("simulate"))

    assert torch.equal(moved(0, 40), torch.cat([moved(i, 1) for i in range(40)]))


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, f64(0.5, -0.5), f64(math.nan, 1.0)], ids=repr)
def test_weights_of_a_superposition_are_finite_and_not_negative(weight: float | Tensor) -> None:
    """A negative multiple of noise or jumps is no process; the noise was left out."""

    def still(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(velocity=torch.zeros_like(x))

    other = 1 - weight
    with refuses(UsageError, argument="terms"):
        superpose((weight, still), (other, still))


def test_negative_noise_is_refused_at_the_first_step() -> None:
    def gathering(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(diffusion=-torch.ones_like(x))

    with refuses(UsageError, found="-1"):
        simulate(gathering, f64(0.0)[:, None], [0.0, 0.5], Euler(), Rng(0))


@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_coefficients_of_noise_are_not_negative(value: float) -> None:
    for kind, name in ((ConstantDiffusion, "g"), (SigmaProportional, "c"), (MemorylessDiffusion, "max_variance")):
        with refuses(UsageError, argument=name):
            kind(**{name: value})

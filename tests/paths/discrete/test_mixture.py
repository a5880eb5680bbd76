"""Mixture paths of tokens: the flow matching reference, sections 13 and 14."""

import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import Mixture
from feller.paths.discrete.rates import CHUNK_SIZE
from feller.paths.schedules import Cosine, Linear, LinearVP, Polynomial, Schedule
from feller.paths.time_distributions import linear_grid
from feller.sampling import RK4, DormandPrince, Euler, Heun, Midpoint, Solver, simulate, trajectory
from feller.spaces import MaskSource, Tokens
from tests.errors import refuses
from tests.oracle import F64, close, f64
from tests.training.losses.test_loss import P_0, Q, posteriors

SCHEDULES = [Linear(), Polynomial(2.0), Polynomial(3.0)]
P, DATA = f64(*P_0), f64(*Q)


def marginal(kappa: float) -> Tensor:
    return kappa * DATA + (1 - kappa) * P


def alpha(schedule: Schedule, t: float) -> float:
    return float(schedule(f64(t)).alpha)


def transition(path: Mixture, t: float, s: float, posterior: Tensor) -> Tensor:
    """Return P(X_s = y | X_t = x), [y, x], from what `characteristics` says of each x with logits of the posterior."""
    x = torch.arange(3)
    jumps = path.characteristics(posterior.log(), x, torch.full((3,), t, dtype=F64)).jumps
    jump = -torch.expm1(-jumps.hazard(s))
    return (torch.diag(1 - jump) + jump[:, None] * posterior).T


def test_vector_of_posteriors_and_rates() -> None:
    """K = 3, kappa = t^2, t = 0.4: marginal, posteriors, rates, and the chance to jump in a step of 0.125."""
    path, t = Mixture(Polynomial(2.0)), f64(0.4)
    close(marginal(0.16), (0.436, 0.284, 0.28), 1e-15)
    posterior = posteriors(t**2)[0]
    expected = (
        (0.1330275229, 0.1926605505, 0.6743119266),
        (0.0887323944, 0.2901408451, 0.6211267606),
        (0.06, 0.12, 0.82),
    )
    close(posterior, torch.tensor(expected), 5e-8)
    close(posterior, torch.tensor(expected, dtype=F64), 6e-11)
    rates = path.rates(posterior, torch.arange(3), t.expand(3)).T  # [y, x]
    close(
        rates,
        torch.tensor(
            [
                [-0.8256880734, 0.0845070423, 0.0571428571],
                [0.1834862385, -0.6760563380, 0.1142857143],
                [0.6422018349, 0.5915492958, -0.1714285714],
            ],
            dtype=F64,
        ),
        6e-11,
    )
    # Per token drawn as x_1: leaving x = 0 needs a jump, and that the datum is another symbol.
    euler = (1 - math.exp(-0.125 * 2 * 0.4 / (1 - 0.16))) * 1.0
    jumps = path.characteristics(posterior.log(), torch.arange(3), t.expand(3)).jumps
    exact = -torch.expm1(-jumps.hazard(0.525))[0].item()
    assert euler == pytest.approx(0.1122344748, abs=6e-11)
    assert exact == pytest.approx(0.1376488095, abs=6e-11)
    assert exact == pytest.approx((0.525**2 - 0.4**2) / (1 - 0.4**2), abs=1e-15)


def test_rates_with_a_mask() -> None:
    """Its posterior never has mass on the mask, symbol 3."""
    t, kappa = 0.3, 0.3
    posterior = torch.cat([torch.eye(3, dtype=F64), DATA[None]])
    posterior = torch.cat([posterior, torch.zeros(4, 1, dtype=F64)], 1)
    rates = Mixture().rates(posterior, torch.arange(4), torch.full((4,), t, dtype=F64)).T
    p_t = torch.cat([kappa * DATA, f64(1 - kappa)])
    close(rates @ p_t, torch.cat([DATA, f64(-1.0)]), 1e-14)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_rates_are_the_derivative_of_the_transition(schedule: Schedule) -> None:
    t, h = 0.4, 1e-6
    posterior = posteriors(f64(alpha(schedule, t)))[0]
    slope = (transition(Mixture(schedule), t, t + h, posterior) - torch.eye(3, dtype=F64)) / h
    close(slope, Mixture(schedule).rates(posterior, torch.arange(3), torch.full((3,), t, dtype=F64)).T, 1e-5)


def perfect(schedule: Schedule):
    """Return a network whose logits are the exact posterior of a token."""

    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        kappa = torch.as_tensor(schedule(t.double()).alpha)
        table = posteriors(kappa)  # [b, x, x_1]
        return table[torch.arange(len(x))[:, None], x].log()

    return network


def test_sampled_marginals() -> None:
    """Cubic schedule, 3 steps, 40,000 tokens: chi square with 2 degrees is above 29 once in 2e6, at 3 times."""
    schedule, n = Polynomial(3.0), 20_000
    draws = Rng(1)
    x_0 = torch.searchsorted(P.cumsum(0), draws.stream("source").uniform((n, 2), F64))
    process = Mixture(schedule).process(perfect(schedule), {})
    for s, x in zip((0.5, 0.875, 1.0), trajectory(process, x_0, [0.0, 0.5, 0.875, 1.0], Euler(), draws), strict=True):
        expected = marginal(alpha(schedule, s))
        share = x.flatten().bincount(minlength=3).double() / (2 * n)
        assert (2 * n * (share - expected) ** 2 / expected).sum() < 29


@pytest.mark.parametrize("steps", [1, 7])
def test_stopping_at_one_half_gives_the_marginal_there(steps: int) -> None:
    """From the mask to t = 0.5 half of 20,000 tokens are data, not all: false alarm 6e-7."""
    space = Tokens(3, (5,), MaskSource())
    x_0 = space.sample_base(4000, Rng(0).stream("source"))
    process = Mixture().process(lambda x, t, given: DATA.log().expand(*x.shape, 3), {})
    x = simulate(process, x_0, linear_grid(steps, 0.0, 0.5), Euler(), Rng(0))
    share = (x < 3).double().mean().item()
    assert abs(share - 0.5) < 5 * math.sqrt(0.25 / 20_000)
    assert not (simulate(process, x, linear_grid(steps, 0.5, 1.0), Euler(), Rng(1)) == 3).any()


@pytest.mark.parametrize("solver", [Midpoint(), Heun(), RK4(), DormandPrince()], ids=repr)
def test_ode_solvers_are_refused(solver: Solver) -> None:
    process = Mixture().process(lambda x, t, given: DATA.log().expand(*x.shape, 3), {})
    with refuses(ValueError, argument="solver"):
        simulate(process, torch.zeros(2, 5, dtype=torch.long), linear_grid(4), solver, Rng(0))


def test_cubic_schedule_has_unbiased_marginals() -> None:
    """Cubic schedule, 8 steps: at t = 7 / 8 a share 0.670 of the tokens is data, where the peer has 0.527."""
    space, n = Tokens(3, (10,), MaskSource()), 20_000
    x_0 = space.sample_base(n // 10, Rng(0).stream("source"))
    process = Mixture(Polynomial(3.0)).process(lambda x, t, given: DATA.log().expand(*x.shape, 3), {})
    x = simulate(process, x_0, linear_grid(8)[:-1], Euler(), Rng(0))
    assert abs((x < 3).double().mean().item() - 0.875**3) < 5 * math.sqrt(0.22 / n)  # false alarm 6e-7


def test_no_hazard_at_the_end() -> None:
    """No hazard between equal times of data: at t = 1 all is data, and asking for later finds nobody."""
    jumps = Mixture().characteristics(torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.long), torch.ones(2)).jumps
    assert jumps.hazard(1.0).tolist() == [[0] * 3] * 2


def test_sample_takes_the_data_with_probability_alpha() -> None:
    """25 % and 75 % of 50,000 tokens each; false alarm 2 x 6e-7."""
    x = torch.zeros(100, 1000, dtype=torch.long)
    t = torch.tensor([0.25, 0.75]).repeat_interleave(50)
    share = Mixture().sample(x, x + 1, t, Rng(0).stream("path")).double().mean(1).view(2, 50).mean(1)
    assert ((share - f64(0.25, 0.75)).abs() < 5 * math.sqrt(0.1875 / 50_000)).all()


@pytest.mark.parametrize("schedule", [Cosine(), LinearVP()], ids=repr)
def test_schedules_that_do_not_sum_to_one_are_refused(schedule: Schedule) -> None:
    with refuses(UsageError):
        Mixture(schedule)


def test_tokens_of_probability_1e_12_can_be_sampled() -> None:
    """Probability 1e-12 under the last uniform numbers, which float32 does not have."""
    logits = f64(0.0, math.log(1e-12))
    path = Mixture()
    jumps = path.characteristics(logits.expand(1, 2), torch.tensor([0]), f64(0.5)).jumps

    class Last:
        def uniform(self, shape, dtype, device):
            return torch.full(shape, 1 - 2**-53, dtype=dtype)

    from feller.core.rng import RandomStream

    last = RandomStream(("x",))
    fake = type("Fake", (RandomStream,), {"uniform": Last.uniform})(("x",))
    assert jumps.sample_destination(1.0, torch.tensor([True]), fake).tolist() == [1]
    assert jumps.sample_destination(1.0, torch.tensor([True]), last).tolist() == [0]


class Watch(TorchDispatchMode):
    """Record the size of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.asleep = 0, False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if not self.asleep:
            sizes = [
                part.numel() for part in (out if isinstance(out, tuple | list) else [out]) if torch.is_tensor(part)
            ]
            self.largest = max([self.largest, *sizes])
        return out


def test_memory_of_a_large_vocabulary_is_chunked() -> None:
    """50,257 symbols, 2 x 64 tokens: no array of all tokens by all symbols but the network's own answer.

    Before the last step the solver makes a row for each token that jumps; there all jump, in parts.
    """
    symbols, space, watch = 50_257, Tokens(50_257, (64,), MaskSource()), Watch()
    table = torch.zeros(symbols)

    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        watch.asleep = True
        answer = table.expand(*x.shape, symbols)
        watch.asleep = False
        return answer

    x = space.sample_base(2, Rng(0).stream("source"))
    peaks = []
    with watch:
        for state in trajectory(Mixture().process(network, {}), x, linear_grid(8), Euler(), Rng(0)):
            watch.asleep = True
            peaks.append((watch.largest, int((state != x).sum()) * symbols))
            x, watch.largest, watch.asleep = state, 0, False
    assert (x < symbols).all()
    assert all(largest == jumped < 0.6 * 128 * symbols for largest, jumped in peaks[:-1])
    assert peaks[-1][0] <= CHUNK_SIZE < 128 * symbols

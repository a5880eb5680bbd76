"""The Euler step of rates, beside increments."""

import pytest
import torch
from tests.oracle import F64, close, f64
from tests.paths.kernels import kernel

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import (
    LeaveOneOut,
    LevelDistance,
    MetricPath,
    MidpointIncrement,
    Mixture,
    PowerBeta,
    SoftmaxPath,
    TokenPath,
)
from feller.paths.schedules import Polynomial
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from feller.spaces import CategoricalSource, MaskSource, Tokens, UniformSource
from feller_papers.kinetic_optimal.stepping import EulerRates
from feller_papers.kinetic_optimal.steps import distance

A, B = f64(0.0, 0.5, -0.3, 0.2), f64(1.0, -0.5, 0.3, -1.2)


def test_the_euler_step_has_order_one() -> None:
    """The chain of vector 12.4, enumerated: its total variation was sampled to 0.001, and halves with the step."""
    path = SoftmaxPath(lambda x_1, t: A + B * t[:, None], step_rule=EulerRates())
    posterior, x = torch.eye(4, dtype=F64)[:1].expand(4, 4), torch.arange(4)
    errors = []
    for n in (5, 10, 20, 50):
        law = A.softmax(0)
        for i in range(n):
            law = law @ kernel(path, posterior, x, torch.full((4,), i / n, dtype=F64), min((i + 1) / n, 1 - 1e-12))
        errors.append(float((law - (A + B).softmax(0)).abs().sum() / 2))
    assert errors == pytest.approx([0.0220, 0.0103, 0.0057, 0.0027], abs=1.5e-3)
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.05)
    assert errors[0] / errors[3] == pytest.approx(10, abs=0.5)


def test_a_mixture_multiplies_its_rates_by_the_step() -> None:
    """All jumps go to the data, at the rate alpha' / sigma: of alpha = t^2 it is 2 t / (1 - t^2)."""
    path, x = Mixture(Polynomial(2.0), CategoricalSource((0.5, 0.3, 0.2)), step_rule=EulerRates()), torch.arange(3)
    jumps, weights = path.expected_jumps(torch.full((3,), 1), x, torch.full((3,), 0.4, dtype=F64), 0.6, 3)
    close(jumps, 0.2 * 0.8 / 0.84 * f64(1.0, 0.0, 1.0), 1e-14)
    close(weights, jumps[:, None] * f64(0.0, 1.0, 0.0), 1e-14)
    bound = path.max_hazard(x[None], f64(0.4), 0.6, 3)[0]
    assert (bound >= jumps - 1e-14).all()
    with pytest.raises(UsageError, match="EulerRates"):
        Mixture(source=MaskSource(), step_rule=EulerRates())
    with pytest.raises(UsageError, match="source"):
        Mixture(step_rule=EulerRates())


@pytest.mark.parametrize(
    "path",
    [
        Mixture(Polynomial(2.0), CategoricalSource((0.5, 0.3, 0.2)), step_rule=EulerRates()),
        MetricPath(LevelDistance(3), step_rule=EulerRates()),
        SoftmaxPath(lambda x_1, t: 5 * t[:, None] * torch.nn.functional.one_hot(x_1, 3), step_rule=EulerRates()),
    ],
    ids=lambda path: type(path).__name__,
)
def test_steps_end_at_the_data(path: TokenPath) -> None:
    """Four steps to t = 1 with a network that is certain."""
    x_1 = torch.randint(3, (6, 7), generator=torch.Generator().manual_seed(0))
    logits = 800.0 * torch.nn.functional.one_hot(x_1, 3).double()
    x_0 = Tokens(3, (7,), getattr(path, "source", None) or UniformSource()).sample_base(6, Rng(0).stream("source"))
    end = simulate(path.process(lambda x, t, given: logits, {}), x_0, linear_grid(4), Euler(), Rng(1))
    assert torch.equal(end, x_1)


@pytest.mark.slow
def test_increments_at_mid_beta_beat_the_euler_step() -> None:
    """The table of section 6, whose target is another: each row falls, and at every number of steps it is the better.

    Enumerated, not sampled. 12.4 has for the same target 0.045, 0.026, 0.017 by the Euler step, sampled to 0.002.
    """
    for power in (PowerBeta(2.0, 3.0), PowerBeta(5.0, 1.0)):
        euler, middle = (
            [
                distance(MetricPath(LevelDistance(17), power, parameterization=LeaveOneOut(), step_rule=stepping), n)
                for n in (4, 8, 16, 32)
            ]
            for stepping in (EulerRates(), MidpointIncrement())
        )
        assert all(b < a / 2.5 for a, b in zip(euler, middle, strict=True))
        assert euler[-1] < 0.5 * euler[1]
    euler = [
        distance(MetricPath(LevelDistance(17), PowerBeta(), parameterization=LeaveOneOut(), step_rule=EulerRates()), n)
        for n in (8, 16, 32)
    ]
    assert euler == pytest.approx([0.045, 0.026, 0.017], abs=0.004)

"""Values, gradients and bounds of the losses: the flow matching reference, sections 14 and 19."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from feller.core.pytree import mean_over_entries
from feller.paths import Mixture
from feller.paths.schedules import Linear, Polynomial, Schedule
from feller.paths.time_distributions import Rescaled
from feller.training.losses import CrossEntropy, GeneralizedKL, PerLeafLoss, PseudoHuber, SquaredError, TimeWeighted
from tests.oracle import F64, close, f64

P_0 = (0.5, 0.3, 0.2)
Q = (0.1, 0.2, 0.7)
LOG_Q = tuple(-math.log(q) for q in Q)


def posteriors(kappa: Tensor) -> Tensor:
    """Return p(x_1 | x_t = x) for the mixture of P_0 and Q at times [b]: [b, x, x_1]."""
    p, q = f64(*P_0), f64(*Q)
    joint = kappa[:, None, None] * torch.diag(q) + (1 - kappa[:, None, None]) * p[:, None] * q[None]
    return joint / joint.sum(-1, keepdim=True)


def test_vector_of_generalised_kl() -> None:
    """At t = 0.4 with kappa = t^2, from x_t = 0."""
    t = f64(0.4, 0.4)
    logits = posteriors(t**2)[:, 0].log()
    values = GeneralizedKL(Polynomial(2.0)).entries(logits, torch.tensor([2, 0]), torch.tensor([0, 0]), t)
    close(values, (0.2486047172, 0.8256880734), 6e-11)


TIMES = st.just(0.0) | st.floats(1e-9, 0.99)
"""Nearer to 0, rates in proportion to t are lost in float64, some before others, and logarithms of them with them."""


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2), st.integers(0, 2), TIMES, st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_generalised_kl_is_the_divergence_of_the_rates(x_1: int, x_t: int, t: float, logits: list[float]) -> None:
    """Sum over y other than x_t of u log(u / v) - u + v, conditional against model rates."""
    path, time, here = Mixture(Polynomial(2.0)), f64(t), torch.tensor([x_t])
    truth = path.rates(torch.eye(3, dtype=F64)[[x_1]], here, time)[0]
    model = path.rates(f64(*logits).softmax(-1)[None], here, time)[0]
    away = torch.arange(3) != x_t
    u, v = truth[away], model[away]
    expected = (torch.xlogy(u, u) - torch.xlogy(u, v) - u + v).sum()
    loss = GeneralizedKL(Polynomial(2.0)).entries(f64(*logits)[None], torch.tensor([x_1]), here, time)
    close(loss, expected, 1e-9 * (1 + expected.item()))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 3), st.integers(0, 4), st.floats(0, 0.99), st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_gradient_of_generalised_kl(x_1: int, x_t: int, t: float, logits: list[float]) -> None:
    """kappa' / (1 - kappa) [p (1 - D + p_xt) - (1 - D) e_x1 - p_xt e_xt]; symbol 4 is the mask, with p_xt = 0."""
    z = f64(*logits).requires_grad_()
    loss = GeneralizedKL().entries(z[None], torch.tensor([x_1]), torch.tensor([x_t]), f64(t))
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    p, one = f64(*logits).softmax(-1), torch.eye(5, dtype=F64)[:, :4]
    same, stay = float(x_1 == x_t), p[x_t] if x_t < 4 else 0.0
    expected = (p * (1 - same + stay) - (1 - same) * one[x_1] - stay * one[x_t]) / (1 - t)
    close(gradient, expected, 1e-9 / (1 - t))


def bound(x_1: int, source: tuple[float, ...], schedule: Schedule, logits) -> float:
    """Integrate E[loss] over t and x_t with Gauss-Legendre nodes; `source` has a mask where it has 4 entries.

    The integrand may grow as log(1 - t), so the nodes go to t = 1 with the fourth power of their distance.
    """
    nodes, weights = np.polynomial.legendre.leggauss(100)
    rest, w = 0.5 - torch.as_tensor(nodes, dtype=F64) / 2, torch.as_tensor(weights, dtype=F64) / 2
    t, w = 1 - rest**4, 4 * rest**3 * w
    kappa = torch.as_tensor(schedule(t).alpha)
    total = torch.zeros((), dtype=F64)
    for x, p in enumerate(source):
        chance = (1 - kappa) * p + kappa * (x == x_1)
        at = torch.full(t.shape, x)
        loss = GeneralizedKL(schedule).entries(logits(x, kappa), torch.full(t.shape, x_1), at, t)
        total = total + (w * chance * loss).sum()
    return total.item()


@pytest.mark.parametrize("schedule", [Linear(), Polynomial(2.0), Polynomial(3.0)], ids=repr)
def test_bound_from_the_mask_is_tight(schedule: Schedule) -> None:
    def logits(x: int, kappa: Tensor) -> Tensor:
        if x == 3:
            return f64(*Q).log().expand(len(kappa), 3)
        return torch.where(torch.arange(3) == x, 0.0, -1e3).double().expand(len(kappa), 3)  # copy what is there

    values = [bound(x_1, (0.0, 0.0, 0.0, 1.0), schedule, logits) for x_1 in range(3)]
    assert values == pytest.approx([2.302585, 1.609438, 0.356675], abs=6e-7)
    assert values == pytest.approx(LOG_Q, abs=1e-10)


@pytest.mark.parametrize("schedule", [Linear(), Polynomial(2.0), Polynomial(3.0)], ids=repr)
def test_bound_from_another_source_is_not_tight(schedule: Schedule) -> None:
    """The reference prints 2.873996, 1.988285, 0.480041; adaptive quadrature up to t = 1 ends 2e-5 above."""
    values = [bound(x_1, P_0, schedule, lambda x, kappa: posteriors(kappa)[:, x].log()) for x_1 in range(3)]
    assert values == pytest.approx([2.8740131805, 1.9883045609, 0.4800620102], abs=1e-9)
    assert values == pytest.approx([2.873996, 1.988285, 0.480041], abs=3e-5)
    assert all(value > exact + 0.1 for value, exact in zip(values, LOG_Q, strict=True))


def test_generalised_kl_is_finite_up_to_its_last_time() -> None:
    t = Rescaled().quantile(torch.ones(1, dtype=F64))
    value = GeneralizedKL().entries(torch.zeros(1, 3, dtype=F64), torch.tensor([0]), torch.tensor([1]), t)
    close(value, 1e3 * (math.log(3) - 1 / 3), 1e-6)
    assert GeneralizedKL().entries(torch.zeros(1, 3), torch.tensor([0]), torch.tensor([1]), torch.ones(1)).isinf().all()


def test_generalised_kl_takes_any_number_of_axes() -> None:
    logits, x = torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, dtype=torch.long)
    entries = GeneralizedKL().entries(logits, x, x + 1, f64(0.0, 0.5))
    assert entries.shape == (2, 3, 4)
    close(entries[1] / entries[0], torch.full((3, 4), 2.0), 1e-6)


def test_cross_entropy_is_minus_log_probability() -> None:
    logits = f64(0.3, -1.0, 2.0)
    values = CrossEntropy().entries(logits.expand(3, 3), torch.arange(3), torch.zeros(3), f64(0.0, 0.0, 0.0))
    close(values, -logits.log_softmax(-1), 1e-15)
    nested = CrossEntropy().entries(
        logits.expand(2, 4, 3), torch.ones(2, 4, dtype=torch.long), torch.zeros(2, 4), f64(0.0, 0.0)
    )
    close(nested, -logits.log_softmax(-1)[1].expand(2, 4), 1e-15)


def test_pseudo_huber_is_square_near_and_distance_far() -> None:
    zero, t = torch.zeros(3, 1, dtype=F64), torch.zeros(3)
    error = f64(1e-9, 0.03, 1e6)[:, None]
    expected = (1e-18 / 0.06, 0.03 * (math.sqrt(2) - 1), 1e6 - 0.03)
    torch.testing.assert_close(PseudoHuber(0.03).entries(error, zero, zero, t)[:, 0], f64(*expected), rtol=1e-9, atol=0)


def test_time_weighted_multiplies_each_example() -> None:
    loss = TimeWeighted(SquaredError(), lambda t: 2 * t)
    close(loss(torch.ones(2, 3), torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0.5, 2.0])), (1.0, 4.0), 1e-6)


def test_per_leaf_loss_adds_the_means_of_leaves() -> None:
    loss = PerLeafLoss({"a": SquaredError(), "b": TimeWeighted(SquaredError(), lambda t: t)})
    ones = {"a": torch.ones(2, 3), "b": torch.ones(2, 5, 2)}
    zeros = {name: torch.zeros_like(leaf) for name, leaf in ones.items()}
    t = {"a": torch.zeros(2), "b": torch.tensor([1.0, 3.0])}
    assert loss(ones, zeros, zeros, t).tolist() == [2, 4]


def test_mean_over_valid_entries() -> None:
    entries = torch.tensor([[1.0, 2.0, math.nan], [3.0, math.inf, 5.0], [math.nan] * 3])
    valid = torch.tensor([[True, True, False], [True, False, False], [False] * 3])
    assert mean_over_entries(entries, valid).tolist() == [1.5, 3, 0]
    assert mean_over_entries(entries[..., None].expand(3, 3, 2), valid).tolist() == [1.5, 3, 0]
    assert mean_over_entries(torch.ones(4)).tolist() == [1] * 4

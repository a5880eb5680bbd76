"""Losses of rates: the vector of the reference, section 13.5, and exact gradients, section 13.8.3."""

import math

import pytest
import torch
from torch import Tensor

from feller.paths.jumps.gaussian import GaussianConditionalPath
from feller.training.losses import CrossEntropy, InfinitesimalKL, ItakuraSaito, Loss, RateAndVelocityLoss, SquaredError
from tests.oracle import F64, close, f64

ATOMS, PRIOR = f64(-1.0, 0.2, 1.0), f64(0.2, 0.5, 0.3)


def test_vector_of_infinitesimal_kl() -> None:
    """Section 13.5, bins 0, 2, 3; without constants, and in full."""
    target, prediction = f64(0.0, 9.88806491, 2.19193509)[None], 3 * f64(0.1, 0.4, 0.3)[None]
    full = InfinitesimalKL().entries(prediction.log(), target, target, f64(0.5))
    close(full, 13.1251378579, 6e-8)
    constant = (torch.xlogy(target, target) - target).sum()
    close(full - constant, 0.8281360245, 6e-8)


def test_rates_of_zero_have_no_gradient() -> None:
    target, log_rates = f64(0.0, 2.0)[None], f64(-1e30, 0.5)[None].requires_grad_()
    value = InfinitesimalKL().entries(log_rates, target, target, f64(0.5))
    close(value, InfinitesimalKL().entries(log_rates[:, 1:], target[:, 1:], target, f64(0.5)), 1e-15)
    value.sum().backward()
    assert log_rates.grad[0, 0] == 0
    close(log_rates.grad[0, 1], math.exp(0.5) - 2, 1e-12)


def test_values_of_itakura_saito() -> None:
    """a / b - log(a / b) - 1, the same for all sizes at one ratio."""
    target = f64(2.0, 2e6, 3.0)
    values = ItakuraSaito().entries(f64(4.0, 4e6, 3.0).log(), target, target, f64(0, 0, 0))
    close(values, (0.5 + math.log(2) - 1, 0.5 + math.log(2) - 1, 0.0), 1e-9)


def test_velocity_is_the_last_entry() -> None:
    target, prediction = f64(1.0, 2.0, 5.0)[None], f64(0.0, 0.3, 4.0)[None]
    both = RateAndVelocityLoss().entries(prediction, target, target, f64(0.5))
    rates = InfinitesimalKL().entries(prediction[:, :-1], target[:, :-1], target, f64(0.5))
    close(both, rates + 1, 1e-12)


def conditional(kind: str, x: Tensor, t: float) -> Tensor:
    """Return the conditional target at x for each atom: a velocity, an intensity, rates to 5 bins, or its index."""
    law, time = GaussianConditionalPath(), torch.tensor(t, dtype=F64)
    if kind == "velocity":
        return law.velocity(x, ATOMS, time)
    slope = law.time_derivative(x, ATOMS, time)
    if kind == "intensity":
        return slope.abs() + 0.1
    if kind == "which":
        return torch.eye(3, dtype=F64)
    places = torch.linspace(-1.2, 1.2, 5, dtype=F64)
    landing = (
        law.time_derivative(places, ATOMS[:, None], time).clamp(min=0)
        * law.log_density(places, ATOMS[:, None], time).exp()
    )
    return slope.neg().clamp(min=0)[:, None] * landing / landing.sum(1, keepdim=True)


def divergence(loss: Loss, prediction: Tensor, target: Tensor, swapped: bool) -> Tensor:
    """Return the loss of one example; swapped, the target takes the place of the prediction in its own terms."""
    some = torch.zeros(1, dtype=F64)
    if swapped:
        logarithmic = isinstance(loss, InfinitesimalKL | ItakuraSaito)
        small = target.clamp(min=1e-9)
        prediction, target = (small.log(), prediction.exp()) if logarithmic else (target, prediction)
    return loss.entries(prediction[None], target[None], some, some).sum()


@pytest.mark.parametrize(
    ("loss", "kind", "answer"),
    [
        (SquaredError(), "velocity", torch.tensor(0.3, dtype=F64)),
        (InfinitesimalKL(), "rates", f64(-1.0, 0.3, 0.5, -0.2, 0.1)),
        (ItakuraSaito(), "intensity", torch.tensor(0.4, dtype=F64)),
    ],
    ids=["Squared", "InfinitesimalKL", "ItakuraSaito"],
)
def test_conditional_and_marginal_regression_have_one_gradient(loss: Loss, kind: str, answer: Tensor) -> None:
    """Posterior of three atoms, counted. With the arguments swapped they differ, but for squares, which are symmetric.

    A divergence that is no Bregman divergence fails too: the fourth power.
    """
    for x, t in ((-0.7, 0.4), (0.9, 0.6), (2.0, 0.3)):
        place = torch.tensor(x, dtype=F64)
        fit = GaussianConditionalPath().log_density(place, ATOMS, torch.tensor(t, dtype=F64))
        posterior = (PRIOR.log() + fit).softmax(0)
        targets = conditional(kind, place, t)
        mean = torch.einsum("k,k...->...", posterior, targets)
        shape = mean.shape

        def gradients(swapped: bool, shape=shape, targets=targets, mean=mean, posterior=posterior):
            guess = answer.expand(shape).clone().requires_grad_()
            each = torch.stack([divergence(loss, guess, a, swapped) for a in targets])
            (conditionally,) = torch.autograd.grad(posterior @ each, guess)
            guess = answer.expand(shape).clone().requires_grad_()
            (marginally,) = torch.autograd.grad(divergence(loss, guess, mean, swapped), guess)
            return conditionally, marginally

        close(*gradients(False), 1e-9 * float(mean.abs().max() + 1))
        ours, theirs = gradients(True)
        if not isinstance(loss, SquaredError):
            assert (ours - theirs).abs().max() > 0.02
        guess = answer.expand(shape).clone().requires_grad_()
        spread = sum(w * (guess - a).pow(4).sum() for w, a in zip(posterior, targets, strict=True))
        (ours,) = torch.autograd.grad(spread, guess)
        (theirs,) = torch.autograd.grad((guess - mean).pow(4).sum(), guess)
        assert (ours - theirs).abs().max() > 0.02


def test_cross_entropy_has_the_gradient_of_the_divergence_from_the_posterior() -> None:
    """Simplex of section 3: labels drawn from the posterior, or the posterior itself; not so the other way around."""
    posterior = f64(0.6, 0.1, 0.3)
    logits = f64(-2.0, 1.0, 0.4).requires_grad_()
    some = torch.zeros(3, dtype=F64)
    each = CrossEntropy().entries(logits.expand(3, 3), torch.arange(3), some, some)
    (labelled,) = torch.autograd.grad(posterior @ each, logits)
    divergence = (posterior * (posterior.log() - logits.log_softmax(0))).sum()
    (exact,) = torch.autograd.grad(divergence, logits)
    close(labelled, exact, 1e-14)
    model = logits.softmax(0)
    (other,) = torch.autograd.grad((model * (model.log() - posterior.log())).sum(), logits)
    assert (other - exact).abs().max() > 0.01


def test_minimiser_weights_destinations_by_rates() -> None:
    """The minimiser of the divergence has J = E[lambda J] / E[lambda], not E[J]: two ends, rates 10 and 1."""
    rates = f64(10.0, 1.0)[:, None] * f64(0.9, 0.1, 0.2, 0.8).view(2, 2)
    best = rates.mean(0)
    guess = best.log().requires_grad_()
    each = InfinitesimalKL().entries(guess.expand(2, 2), rates, rates, f64(0.5, 0.5))
    (slope,) = torch.autograd.grad(each.mean(), guess)
    close(slope, (0.0, 0.0), 1e-12)
    close(best / best.sum(), ((10 * 0.9 + 0.2) / 11, (10 * 0.1 + 0.8) / 11), 1e-12)

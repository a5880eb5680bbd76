"""Claims about the gradient through a flow and optimised sources, for known flows in float64."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.inverse.d_flow import EndpointLoss, GaussianPrior, NoPrior, optimize_source, solve_flow
from feller.core.rng import Rng
from feller.paths.processes import Characteristics
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, Midpoint, Solver, simulate, trajectory
from feller.spaces import Euclidean
from feller_papers.claims import Claim, mean_of, seeds_of, spread_of, verdict
from feller_papers.d_flow.setting import Setting

F64 = torch.float64
WEIGHTS, MEANS, VARIANCES = (torch.tensor(n, dtype=F64) for n in ((0.3, 0.7), (-1.0, 1.5), (0.1, 0.3)))
"""Weights, means and variances of two modes in one dimension."""
STARTS, FINE = (0.3, -0.4), 4000

MEAN = torch.tensor([1.0, -1.0, 0.5], dtype=F64)
VARIANCE = torch.tensor([4.0, 1.0, 0.01], dtype=F64)
DIRECTIONS = torch.tensor([[-3.0, -2.0, -1.0], [0.0, -2.0, 2.0], [-3.0, 2.0, 1.0]], dtype=F64)
DIRECTIONS = DIRECTIONS / DIRECTIONS.norm(dim=0)
COVARIANCE = DIRECTIONS @ VARIANCE.diag() @ DIRECTIONS.T
ROOT = DIRECTIONS @ VARIANCE.sqrt().diag() @ DIRECTIONS.T
"""Parameters of Gaussian data in three dimensions."""
SOURCE = torch.tensor([[0.3, -0.7, 1.1]], dtype=F64)
OPERATOR, MEASUREMENT = torch.tensor([[1.0, 1.0, 0.0]], dtype=F64), 2.0


def modes(x: Float[Tensor, "b 1"], t: Float[Tensor, "b 1"]) -> tuple[Float[Tensor, "b 1"], Float[Tensor, "b 1"]]:
    """Return mean and variance of X_1 given X_t, for two modes on straight paths."""
    variance = t.square() * VARIANCES + (1 - t).square()
    residual = x - t * MEANS
    weights = (WEIGHTS.log() - residual.square() / (2 * variance) - variance.log() / 2).softmax(1)
    means, variances = MEANS + t * VARIANCES / variance * residual, VARIANCES * (1 - t).square() / variance
    mean = (weights * means).sum(1, keepdim=True)
    return mean, (weights * (variances + (means - mean).square())).sum(1, keepdim=True)


def modes_velocity(x: Float[Tensor, "b 1"], t: Float[Tensor, " b"]) -> Characteristics:
    """Return the velocity of the flow to two modes."""
    return Characteristics((modes(x, t[:, None])[0] - x) / (1 - t[:, None]))


def gains(end: float) -> tuple[Tensor, Tensor]:
    """Return the gain dx(T) / dx_0 of each start by differentiation, and (1 - T) exp int gamma Var(X_1 | X_t) dt."""
    x_0, times = torch.tensor(STARTS, dtype=F64)[:, None].requires_grad_(), linear_grid(FINE, 0.0, end)
    states = [x_0, *trajectory(modes_velocity, x_0, times, Midpoint(), Rng(0))]
    (autograd,) = torch.autograd.grad(states[-1].sum(), x_0)
    weighted = [
        time / (1 - time) ** 3 * modes(x.detach(), torch.full_like(x_0, time))[1]
        for time, x in zip(times, states, strict=True)
    ]
    inner = 4 * sum(weighted[1:-1:2]) + 2 * sum(weighted[2:-1:2])  # Simpson's rule
    exponent = (weighted[0] + inner + weighted[-1]) * end / (3 * FINE)
    return autograd[:, 0], (1 - end) * exponent.exp()[:, 0].detach()


def gain(setting: Setting) -> Iterator[Claim]:
    """Return the claim about the gradient theorem, in one dimension."""
    rows, errors = [], []
    for end in (0.9, 0.99):
        autograd, formula = gains(end)
        errors.append(((formula - autograd) / autograd).abs().max().item())
        rows += [
            f"from {x_0:g} to T = {end:g} {a.item():.7f} and {b.item():.7f}"
            for x_0, a, b in zip(STARTS, autograd, formula, strict=True)
        ]
    yield Claim(
        "The gradient through a flow stretches by sigma_T exp int gamma_t Var(X_1 | X_t) dt (its section on"
        " theory): two modes on the line",
        "equal",
        f"by differentiation through {FINE} midpoint steps and by the formula: {'; '.join(rows)}; relative difference"
        f" {errors[0]:.1e} at T = 0.9, at most 1e-5 wanted, {errors[1]:.1e} at 0.99",
        "exact, no seed",
        verdict(errors[0] <= 1e-5),
    )


def gaussian_velocity(x: Float[Tensor, "b 3"], t: Float[Tensor, " b"]) -> Characteristics:
    """Return the velocity of the flow to the Gaussian, along its principal directions."""
    time = t[:, None]
    slope = (time * VARIANCE - (1 - time)) / (time.square() * VARIANCE + (1 - time).square())
    return Characteristics(MEAN + ((x - time * MEAN) @ DIRECTIONS) * slope @ DIRECTIONS.T)


def gradient(setting: Setting) -> Iterator[Claim]:
    """Return the claim about the gradient of a Gaussian flow, whose Jacobian is Sigma^1/2."""
    expected = (MEAN + SOURCE @ ROOT) @ ROOT

    def max_errors(steps: int, solver: Solver) -> tuple[float, float]:
        x_0 = SOURCE.clone().requires_grad_()
        end = simulate(gaussian_velocity, x_0, linear_grid(steps), solver, Rng(0))
        (autograd,) = torch.autograd.grad(end.square().sum() / 2, x_0)
        return (autograd - expected).abs().max().item(), (end.detach() - MEAN - SOURCE @ ROOT).abs().max().item()

    mean_error, midpoint_error, euler_error = (
        max_errors(200, Midpoint())[0],
        max_errors(6, Midpoint())[1],
        max_errors(12, Euler())[1],
    )
    yield Claim(
        "Normal data: the gradient in the source is Sigma^1/2 times that at the end, so that ends move along the data",
        "equal",
        f"largest difference {mean_error:.1e} after 200 midpoint steps, at most 1e-4 wanted; ends are off by"
        f" {midpoint_error:.2g} after 6 midpoint steps, {euler_error:.2g} after 12 Euler steps, which call as often",
        "exact, no seed",
        verdict(mean_error <= 1e-4),
    )


def one_step_velocity(x: Tensor, t: Tensor) -> Characteristics:
    """Return a velocity whose single Euler step is the exact Gaussian flow."""
    return Characteristics(MEAN + x @ ROOT - x)


EXACT = solve_flow(lambda rows: one_step_velocity, [0.0, 1.0], Euler(), Rng(0))


def measurement_loss(noise: float) -> EndpointLoss:
    """Return the negative log-likelihood of the measurement."""
    return lambda x, rows: (x @ OPERATOR.T - MEASUREMENT).square().sum(1) / (2 * noise**2)


def posterior(noise: float) -> tuple[Tensor, Tensor]:
    """Return posterior mean and covariance given the measurement."""
    gain = COVARIANCE @ OPERATOR.T / (OPERATOR @ COVARIANCE @ OPERATOR.T + noise**2)
    return MEAN + (MEASUREMENT - MEAN @ OPERATOR.T) @ gain.T, COVARIANCE - gain @ OPERATOR @ COVARIANCE


def draws_of_the_posterior(setting: Setting) -> Iterator[Claim]:
    """Return the claim about searches from random sources, without noise and prior."""
    n, max_errors, mean_z, covariance_z = setting.num_samples, [], [], []
    mean, covariance = posterior(0.0)
    mean_error = (covariance.diagonal() / n).sqrt()
    covariance_error = ((covariance.diagonal()[:, None] * covariance.diagonal() + covariance.square()) / n).sqrt()
    row = OPERATOR @ ROOT
    for seed in setting.seeds:
        x_0 = Rng(seed).stream("source").normal((n, 3), F64)
        autograd = optimize_source(EXACT, measurement_loss(0.1), x_0, Euclidean((3,)), prior=NoPrior())
        expected = x_0 + (MEASUREMENT - MEAN @ OPERATOR.T - x_0 @ row.T) @ torch.linalg.pinv(row).T
        max_errors.append((autograd.source - expected).abs().max().item())
        mean_z.append(((autograd.end.mean(0) - mean).abs() / mean_error).max().item())
        covariance_z.append(((torch.cov(autograd.end.T) - covariance).abs() / covariance_error).max().item())
    yield Claim(
        "Normal data, one sum of them measured without noise: a search moves in the row space alone, so that random"
        " starts end at draws of the posterior",
        "not in the paper",
        f"each of {n} ends within {max(max_errors):.1e} of the draw that its start belongs to, 1e-6 wanted; mean within"
        f" {max(mean_z):.2g}, covariance within {max(covariance_z):.2g} standard errors, 4 wanted",
        f"{seeds_of(setting.seeds)}, differences {min(max_errors):.1e} to {max(max_errors):.1e}",
        verdict(max(max_errors) <= 1e-6 and max(*mean_z, *covariance_z) <= 4),
    )


def mean_of_the_posterior(setting: Setting) -> Iterator[Claim]:
    """Return the claim about a search with noise and a Gaussian prior of the source."""
    mean, _ = posterior(0.5)
    max_errors = []
    for seed in setting.seeds:
        x_0 = Rng(seed).stream("source").normal((4, 3), F64)
        autograd = optimize_source(EXACT, measurement_loss(0.5), x_0, Euclidean((3,)), prior=GaussianPrior())
        max_errors.append((autograd.end - mean).abs().max().item())
    yield Claim(
        "Normal data, measured with noise 0.5: with the log density of the source the best end is the posterior mean",
        "the most likely end",
        f"off by {mean_of(max_errors, 2)} from ({', '.join(f'{number:.7f}' for number in mean.tolist())}), 1e-6 wanted",
        spread_of(max_errors),
        verdict(max(max_errors) <= 1e-6),
    )

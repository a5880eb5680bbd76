"""What the gradient through a flow does, and where searches end, for laws whose flow is known; in float64."""

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
SHARES, MEANS, VARIANCES = (torch.tensor(n, dtype=F64) for n in ((0.3, 0.7), (-1.0, 1.5), (0.1, 0.3)))
"""Of two modes on the line."""
STARTS, FINE = (0.3, -0.4), 4000

MEAN = torch.tensor([1.0, -1.0, 0.5], dtype=F64)
VARIANCE = torch.tensor([4.0, 1.0, 0.01], dtype=F64)
DIRECTIONS = torch.tensor([[-3.0, -2.0, -1.0], [0.0, -2.0, 2.0], [-3.0, 2.0, 1.0]], dtype=F64)
DIRECTIONS = DIRECTIONS / DIRECTIONS.norm(dim=0)
COVARIANCE = DIRECTIONS @ VARIANCE.diag() @ DIRECTIONS.T
ROOT = DIRECTIONS @ VARIANCE.sqrt().diag() @ DIRECTIONS.T
"""Of normal data in space."""
SOURCE = torch.tensor([[0.3, -0.7, 1.1]], dtype=F64)
SEEN, MEASURED = torch.tensor([[1.0, 1.0, 0.0]], dtype=F64), 2.0


def modes(x: Float[Tensor, "b 1"], t: Float[Tensor, "b 1"]) -> tuple[Float[Tensor, "b 1"], Float[Tensor, "b 1"]]:
    """Return mean and variance of the end given the state, for two modes on straight paths."""
    spread = t.square() * VARIANCES + (1 - t).square()
    away = x - t * MEANS
    shares = (SHARES.log() - away.square() / (2 * spread) - spread.log() / 2).softmax(1)
    ends, within = MEANS + t * VARIANCES / spread * away, VARIANCES * (1 - t).square() / spread
    mean = (shares * ends).sum(1, keepdim=True)
    return mean, (shares * (within + (ends - mean).square())).sum(1, keepdim=True)


def to_modes(x: Float[Tensor, "b 1"], t: Float[Tensor, " b"]) -> Characteristics:
    """Return the flow to the two modes."""
    return Characteristics((modes(x, t[:, None])[0] - x) / (1 - t[:, None]))


def gains(end: float) -> tuple[Tensor, Tensor]:
    """Return the gain dx(T) / dx_0 of each start by differentiation, and (1 - T) exp int gamma Var(X_1 | X_t) dt."""
    x_0, times = torch.tensor(STARTS, dtype=F64)[:, None].requires_grad_(), linear_grid(FINE, 0.0, end)
    states = [x_0, *trajectory(to_modes, x_0, times, Midpoint(), Rng(0))]
    (found,) = torch.autograd.grad(states[-1].sum(), x_0)
    weighted = [
        time / (1 - time) ** 3 * modes(x.detach(), torch.full_like(x_0, time))[1]
        for time, x in zip(times, states, strict=True)
    ]
    inner = 4 * sum(weighted[1:-1:2]) + 2 * sum(weighted[2:-1:2])  # Simpson's rule
    exponent = (weighted[0] + inner + weighted[-1]) * end / (3 * FINE)
    return found[:, 0], (1 - end) * exponent.exp()[:, 0].detach()


def gain(setting: Setting) -> Iterator[Claim]:
    """The theorem about the gradient, on the line."""
    rows, errors = [], []
    for end in (0.9, 0.99):
        found, formula = gains(end)
        errors.append(((formula - found) / found).abs().max().item())
        rows += [
            f"from {x_0:g} to T = {end:g} {a.item():.7f} and {b.item():.7f}"
            for x_0, a, b in zip(STARTS, found, formula, strict=True)
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


def to_normal(x: Float[Tensor, "b 3"], t: Float[Tensor, " b"]) -> Characteristics:
    """Return the flow to the normal law: each direction of its own is stretched."""
    time = t[:, None]
    slope = (time * VARIANCE - (1 - time)) / (time.square() * VARIANCE + (1 - time).square())
    return Characteristics(MEAN + ((x - time * MEAN) @ DIRECTIONS) * slope @ DIRECTIONS.T)


def gradient(setting: Setting) -> Iterator[Claim]:
    """The gradient of a normal law's flow, whose Jacobian is the root of the covariance."""
    wanted = (MEAN + SOURCE @ ROOT) @ ROOT

    def off(steps: int, solver: Solver) -> tuple[float, float]:
        x_0 = SOURCE.clone().requires_grad_()
        end = simulate(to_normal, x_0, linear_grid(steps), solver, Rng(0))
        (found,) = torch.autograd.grad(end.square().sum() / 2, x_0)
        return (found - wanted).abs().max().item(), (end.detach() - MEAN - SOURCE @ ROOT).abs().max().item()

    error, few, euler = off(200, Midpoint())[0], off(6, Midpoint())[1], off(12, Euler())[1]
    yield Claim(
        "Normal data: the gradient in the source is Sigma^1/2 times that at the end, so that ends move along the data",
        "equal",
        f"largest difference {error:.1e} after 200 midpoint steps, at most 1e-4 wanted; ends are off by {few:.2g}"
        f" after 6 midpoint steps, {euler:.2g} after 12 Euler steps, which call as often",
        "exact, no seed",
        verdict(error <= 1e-4),
    )


def exactly(x: Tensor, t: Tensor) -> Characteristics:
    """Return what leads to the end of the normal law's flow in one Euler step."""
    return Characteristics(MEAN + x @ ROOT - x)


EXACT = solve_flow(lambda rows: exactly, [0.0, 1.0], Euler(), Rng(0))


def squared(noise: float) -> EndpointLoss:
    """Return minus the log likelihood of what was measured."""
    return lambda x, rows: (x @ SEEN.T - MEASURED).square().sum(1) / (2 * noise**2)


def posterior(noise: float) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of the data given what was measured."""
    gain = COVARIANCE @ SEEN.T / (SEEN @ COVARIANCE @ SEEN.T + noise**2)
    return MEAN + (MEASURED - MEAN @ SEEN.T) @ gain.T, COVARIANCE - gain @ SEEN @ COVARIANCE


def draws_of_the_posterior(setting: Setting) -> Iterator[Claim]:
    """Where searches from random starts end, without noise and without a prior."""
    n, off, means, spreads = setting.drawn, [], [], []
    mean, covariance = posterior(0.0)
    error = (covariance.diagonal() / n).sqrt()
    wide = ((covariance.diagonal()[:, None] * covariance.diagonal() + covariance.square()) / n).sqrt()
    row = SEEN @ ROOT
    for seed in setting.seeds:
        x_0 = Rng(seed).stream("source").normal((n, 3), F64)
        found = optimize_source(EXACT, squared(0.1), x_0, Euclidean((3,)), prior=NoPrior())
        wanted = x_0 + (MEASURED - MEAN @ SEEN.T - x_0 @ row.T) @ torch.linalg.pinv(row).T
        off.append((found.source - wanted).abs().max().item())
        means.append(((found.end.mean(0) - mean).abs() / error).max().item())
        spreads.append(((torch.cov(found.end.T) - covariance).abs() / wide).max().item())
    yield Claim(
        "Normal data, one sum of them measured without noise: a search moves in the row space alone, so that random"
        " starts end at draws of the posterior",
        "not in the paper",
        f"each of {n} ends within {max(off):.1e} of the draw that its start belongs to, 1e-6 wanted; mean within"
        f" {max(means):.2g}, covariance within {max(spreads):.2g} standard errors, 4 wanted",
        f"{seeds_of(setting.seeds)}, differences {min(off):.1e} to {max(off):.1e}",
        verdict(max(off) <= 1e-6 and max(*means, *spreads) <= 4),
    )


def mean_of_the_posterior(setting: Setting) -> Iterator[Claim]:
    """Where a search with noise and the density of the source ends."""
    mean, _ = posterior(0.5)
    off = []
    for seed in setting.seeds:
        x_0 = Rng(seed).stream("source").normal((4, 3), F64)
        found = optimize_source(EXACT, squared(0.5), x_0, Euclidean((3,)), prior=GaussianPrior())
        off.append((found.end - mean).abs().max().item())
    yield Claim(
        "Normal data, measured with noise 0.5: with the log density of the source the best end is the posterior mean",
        "the most likely end",
        f"off by {mean_of(off, 2)} from ({', '.join(f'{number:.7f}' for number in mean.tolist())}), 1e-6 wanted",
        spread_of(off),
        verdict(max(off) <= 1e-6),
    )

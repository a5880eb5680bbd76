"""Claims about likelihood bounds of two tokens with an exact network, by quadrature."""

import numpy as np
import torch
from torch import Tensor

from feller.models.families.elbo import ELBO, ReversalRates, SamplingRates
from feller.paths import LevelDistance, MetricPath, Mixture, TokenPath
from feller.paths.discrete.token_schedules import KineticOptimal, KineticOptimalPerToken
from feller.paths.schedules import Linear
from feller.spaces import CategoricalSource, MaskSource, UniformSource
from feller_papers.claims import Claim, verdict
from feller_papers.kinetic_optimal.setting import Setting

COUNT, NODES = 3, 120
SOURCE = CategoricalSource((0.5, 0.3, 0.2))
JOINT = ((0.20, 0.05, 0.10), (0.02, 0.25, 0.03), (0.05, 0.10, 0.20))
"""Probabilities of the two tokens."""


def _joint() -> Tensor:
    return torch.tensor(JOINT, dtype=torch.float64)


def entropy() -> float:
    """Return the entropy of the data, in nats."""
    return -torch.xlogy(_joint(), _joint()).sum().item()


def bound(path: TokenPath, elbo: ELBO) -> float:
    """Return the expected bound, with the exact posterior of each token given both."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    u, w = torch.as_tensor(nodes) / 2 + 0.5, torch.as_tensor(weights) / 2
    t, w = u**3 * (10 - 15 * u + 6 * u**2), w * 30 * u**2 * (1 - u) ** 2  # more nodes at both ends
    probabilities = torch.stack([path.log_probabilities(torch.full((NODES,), a), t, COUNT).exp() for a in range(COUNT)])
    size = probabilities.shape[2]
    joint = torch.einsum("ab,anx,bny->nxyab", _joint(), probabilities, probabilities)  # of both states and both data
    return sum(_one_token(path, elbo, marginal, t, w, size) for marginal in (joint, joint.permute(0, 2, 1, 4, 3)))


def _one_token(path: TokenPath, elbo: ELBO, joint: Tensor, t: Tensor, w: Tensor, size: int) -> float:
    """Return the contribution of the first token."""
    logits = joint.sum(4).clamp(min=1e-300).log()  # n x y a
    probability = joint.sum(4)
    index = torch.cartesian_prod(*(torch.arange(k) for k in (len(t), size, size, COUNT)))
    n, x, y, a = index[probability.flatten() > 0].unbind(1)
    rows = elbo.token_divergence(path, logits[n, x, y], a, x, t[n])
    return (w[n] * probability[n, x, y, a] * rows).sum().item()


def toy(setting: Setting) -> list[Claim]:
    """Return the claims of section 7: the bound depends on the velocity, and only some bounds are tight."""
    truth = entropy()
    mask_bounds = [bound(Mixture(schedule, MaskSource()), SamplingRates()) for schedule in (Linear(), KineticOptimal())]
    paths = [
        Mixture(KineticOptimal(1 / COUNT), UniformSource()),
        Mixture(Linear(), UniformSource()),
        Mixture(KineticOptimalPerToken(SOURCE.weights), SOURCE),
        Mixture(Linear(), SOURCE),
    ]
    sampling_bounds = [bound(path, SamplingRates()) for path in paths]
    reversal_bounds = [bound(path, ReversalRates()) for path in paths]
    metric = bound(MetricPath(LevelDistance(COUNT)), SamplingRates())
    gap = max(abs(value - truth) for value in mask_bounds)
    return [
        Claim(
            "The bound of a mask is tight under any schedule: two tokens, perfect network",
            f"entropy of the data, {truth:.5f} nats",
            f"{mask_bounds[0]:.5f} under the linear, {mask_bounds[1]:.5f} under the kinetic-optimal schedule",
            "no randomness",
            verdict(gap < 1e-6),
        ),
        Claim(
            "The bound of the kinetic-optimal velocity is not tight for other sources",
            "the paper ranks sources by their bounds",
            f"uniform {sampling_bounds[0] - truth:.3f} and {sampling_bounds[1] - truth:.3f} nats too high under"
            f" two schedules, the law {SOURCE.weights} {sampling_bounds[2] - truth:.3f} and"
            f" {sampling_bounds[3] - truth:.3f}, a metric path {metric - truth:.3f}",
            "no randomness",
            verdict(min(*sampling_bounds, metric) > truth + 0.1),
        ),
        Claim(
            "The time reversal of the noising chain has the same marginals and, under one schedule, a tight bound",
            f"entropy of the data, {truth:.5f} nats",
            f"{reversal_bounds[0]:.5f} and {reversal_bounds[1]:.5f} for a uniform source under two schedules,"
            f" {reversal_bounds[3]:.5f} for a law; with a schedule per token, where noise depends on the data,"
            f" {reversal_bounds[2]:.5f}",
            "no randomness",
            verdict(max(abs(reversal_bounds[i] - truth) for i in (0, 1, 3)) < 1e-6),
        ),
    ]

"""Transition matrix of one step of one token, enumerated from the parts of a path."""

import torch
from torch import Tensor

from feller.paths import TokenPath


def kernel(path: TokenPath, posterior: Tensor, x: Tensor, t: Tensor, s: float) -> Tensor:
    """Return P(X_s = y | X_t = x), [x, y], in float64.

    Given x_1 the token stays until the expected number of jumps has it leave, then may be resampled.
    """
    m, count = posterior.shape
    later, size = torch.full_like(t, s), path.log_probabilities(x[:1], t[:1], count).shape[1]
    total = torch.zeros(m, size, dtype=torch.float64)
    for a in range(count):
        x_1 = torch.full((m,), a)
        jumps, weights = path.expected_jumps(x_1, x, t, s, count)
        if weights is None:
            weights = torch.nn.functional.one_hot(x_1, size).double()
        leave = -torch.expm1(-jumps)[:, None]
        land = weights / weights.sum(1, keepdim=True).clamp(min=1e-300)
        here = torch.nn.functional.one_hot(x, size)
        law = leave * land + (1 - leave) * here
        if path.corrector is not None:
            fresh = -torch.expm1(-path.corrector.expected_renoisings(path, x_1, t, s))[:, None]
            law = (1 - fresh) * law + fresh * path.log_probabilities(x_1, later, count).exp()
        total += posterior[:, a, None] * law
    return total

"""Monte Carlo estimate of a likelihood bound, from stratified uniform numbers."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.core.rng import Rng
from feller.models.families.model_family import LogProb


@torch.no_grad()
def stratified_bound(
    nats: Callable[[Float64[Tensor, " b"], Rng], Float[Tensor, " b"]], x_1: Tensor, times: int, rng: Rng
) -> LogProb:
    """Return an estimate of a lower bound on log p(x_1), and its standard error, from two samples per stratum.

    Args:
        nats: Function from a uniform number per example, and random streams, to an estimate of the upper bound on
            -log p(x_1); its mean over uniform numbers in [0, 1] is the bound.
        x_1: Data, [b, ...].
        times: Number of evaluations, rounded up to an even number.
        rng: Random streams.
    """
    strata = -(-times // 2)

    def draw(i: int, j: int) -> Tensor:
        stream = rng.fold_in("time", i, j)
        u = stream.stream("time").uniform((len(x_1),), torch.float64, x_1.device)
        return nats((i + u) / strata, stream)

    samples = torch.stack([torch.stack([draw(i, j) for j in range(2)]) for i in range(strata)])  # [strata, 2, b]
    std_err = (samples.var(1) / 2).sum(0).sqrt() / strata
    return LogProb(-samples.mean(1).mean(0), std_err)

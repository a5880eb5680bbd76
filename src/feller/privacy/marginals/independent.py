"""Columns that know nothing of each other: the floor that every other model must be above."""

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from feller.privacy.marginals.curator import Curator, Release, sigma_for
from feller.privacy.marginals.estimate import estimate
from feller.privacy.marginals.marginal_model import Admitted
from feller.privacy.noise.grid_noise import Noise

ONE_WAY = "counts of each column"


def independent(
    codes: Int[Tensor, "n k"], counts: Sequence[int], rho: float, noise: Noise, *, rules: Admitted = ()
) -> Release:
    """Fit each column alone to its noisy counts, which take the whole budget.

    Args:
        codes: The rows.
        counts: Levels of each column, public.
        rho: Budget, zero-concentrated; infinite for exact counts, which protect nobody.
        noise: Source of the noise.
        rules: What rows must keep, public.
    """
    curator = Curator(codes, counts, rho, noise)
    sigma = sigma_for(rho, max(1, len(curator.columns)))
    one_way = {j: curator.measure((j,), sigma, ONE_WAY) for j in curator.columns}
    return curator.release(estimate(curator.counts, [*one_way.values()], curator.total, rules=rules), one_way)

"""MST: maximum spanning tree of pairwise marginals with differential privacy, and the independent baseline."""

import itertools
import math
from collections.abc import Iterator, Sequence

from jaxtyping import Int
from torch import Tensor

from feller.privacy.marginals.curator import Curator, MarginalRelease, epsilon_for, sigma_for
from feller.privacy.marginals.elimination import Clique
from feller.privacy.marginals.estimate import estimate
from feller.privacy.marginals.marginal_model import AllowedCombinations
from feller.privacy.noise.grid_noise import Noise

ONE_WAY, CHOICE, PAIRS = "counts of each column", "choice of pairs of columns", "counts of the pairs"


def mst(
    codes: Int[Tensor, "n k"],
    counts: Sequence[int],
    rho: float,
    noise: Noise,
    *,
    cells: int = 1_000_000,
    rules: AllowedCombinations = (),
) -> MarginalRelease:
    """Fit a maximum spanning tree of noisy pairwise marginals: fast and robust, but limited to tree dependence.

    The budget is split equally between one-way counts, pair selection and pair counts. Pairs are selected by the
    exponential mechanism, worst fit first, among pairs that join two components. Source: McKenna, Miklau and Sheldon
    2021, "Winning the NIST contest", arXiv 2108.04978; without its merging of rare values.

    Args:
        codes: Rows to protect, one integer code per column.
        counts: Number of possible codes of each column, public.
        rho: zCDP budget; infinite for exact counts without privacy.
        noise: Source of the noise.
        cells: Maximum number of cells (pairs of codes) of a pair of columns. Larger pairs are excluded, so the tree may
            become a forest.
        rules: Allowed combinations of values, public.
    """
    curator = Curator(codes, counts, rho, noise)
    columns, counts, total = curator.columns, curator.counts, curator.total
    all_pairs: Iterator[Clique] = itertools.combinations(columns, 2)
    pairs = [pair for pair in all_pairs if math.prod(counts[j] for j in pair) <= cells]
    rho_third, edges = rho / 3 if pairs else rho, max(1, len(columns) - 1)
    sigma = sigma_for(rho_third, max(1, len(columns)))
    one_way = {j: curator.measure((j,), sigma, ONE_WAY) for j in columns}
    base_model = estimate(counts, list(one_way.values()), total, rules=rules)
    expected = {pair: total * base_model.marginal(pair) for pair in pairs}
    weights, allowance = dict.fromkeys(pairs, 1.0), dict.fromkeys(pairs, 0.0)
    components, measured = {j: j for j in columns}, [*one_way.values()]
    while expected := {pair: table for pair, table in expected.items() if components[pair[0]] != components[pair[1]]}:
        i, j = pair = curator.select_worst(expected, weights, allowance, epsilon_for(rho_third, edges), CHOICE)
        components = {
            column: components[i] if component == components[j] else component
            for column, component in components.items()
        }  # union
        measured.append(curator.measure(pair, sigma_for(rho_third, edges), PAIRS))
    return curator.release(estimate(counts, measured, total, base_model, rules=rules), one_way)


def independent(
    codes: Int[Tensor, "n k"], counts: Sequence[int], rho: float, noise: Noise, *, rules: AllowedCombinations = ()
) -> MarginalRelease:
    """Fit independent columns to noisy one-way counts, which take the whole budget: a baseline for other models.

    Arguments are those of `mst`.
    """
    curator = Curator(codes, counts, rho, noise)
    sigma = sigma_for(rho, max(1, len(curator.columns)))
    one_way = {j: curator.measure((j,), sigma, ONE_WAY) for j in curator.columns}
    return curator.release(estimate(curator.counts, [*one_way.values()], curator.total, rules=rules), one_way)

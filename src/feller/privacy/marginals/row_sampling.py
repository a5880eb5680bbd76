"""Sampling of rows from a graphical model given observed cells, independently or stratified."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from feller.core.errors import InputError
from feller.core.rng import Rng, categorical
from feller.privacy.marginals.belief_propagation import BeliefPropagation
from feller.privacy.marginals.elimination import Clique, eliminate

MAX_CASE_ENTRIES = 1 << 23
"""Maximum number of table entries per chunk of cases (64 MiB); a case is one combination of observed values."""
ROWS = 1 << 16
"""Number of rows sampled per chunk."""

Stratification = Callable[[Float[Tensor, " n"], Int[Tensor, " n"]], Tensor]
"""(uniform numbers [n], group index [n]) -> uniform numbers [n], from which values are sampled.

Rows of a group have the same conditional distribution.
"""


def unstratified(uniform: Float[Tensor, " n"], group: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the uniform numbers unchanged: rows are independent."""
    return uniform


def stratified(uniform: Float[Tensor, " n"], group: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return one uniform number per row, each in a stratum of its own within its group.

    The strata of a group divide (0, 1) into equal intervals, so the count of each sampled value is within 1 of its
    expectation. All numbers of a group have the same random offset in their strata. The rows get the strata in random
    order, which keeps columns with the same parent conditionally independent; without random order, they would be
    spuriously dependent.
    """
    order = torch.argsort(uniform)
    order = order[torch.argsort(group[order], stable=True)]
    _, group_index, sizes = torch.unique_consecutive(group[order], return_inverse=True, return_counts=True)
    starts = sizes.cumsum(0) - sizes
    rank = torch.arange(len(order)) - starts[group_index]
    # The minimum u of g uniform numbers: 1 - (1 - u)^g is uniform, and independent of the order.
    offset = -torch.expm1(sizes * torch.log1p(-uniform[order[starts]]))
    spaced = torch.empty_like(uniform)
    spaced[order] = (rank + offset[group_index]) / sizes[group_index]
    return spaced.clamp_(max=1 - 2**-53)


@dataclass(frozen=True, eq=False)
class FactorGraph:
    """Factor graph: a row's probability is proportional to the product, over tables, of the entries at its codes."""

    counts: Sequence[int]
    """Number of possible codes of each column."""
    cliques: Sequence[Clique]
    """Columns of each table."""
    potentials: Sequence[Tensor]
    """Log-values of each table."""

    def sample_missing(
        self,
        codes: Int[Tensor, "n k"],
        observed_mask: Bool[Tensor, "n k"],
        rng: Rng,
        stratification: Stratification = unstratified,
        excluded_codes: Sequence[int] | None = None,
    ) -> Int[Tensor, "n k"]:
        """Sample the unobserved cells of each row from their exact conditional distribution given its observed cells.

        Rows with the same observed columns are processed together, and rows with the same observed values share tables.
        `excluded_codes` holds one code per column (-1 for none), which is sampled only in rows that are impossible
        without this code. `stratification` is `unstratified` or `stratified`.

        Raises:
            InputError: If the observed codes of a row have probability 0.
        """
        codes = codes.clone()
        for clique, potential in zip(self.cliques, self.potentials, strict=True):
            columns = list(clique)
            if torch.isinf(potential).any():
                is_impossible = observed_mask[:, columns].all(1) & torch.isinf(potential[codes[:, columns].unbind(1)])
                _check_possible(torch.arange(len(codes)), is_impossible)
        shape = (len(codes),)
        uniform = [rng.stream("marginals", j).uniform(shape, torch.float64) for j in range(len(self.counts))]
        filler = _PatternFiller(self, codes, torch.stack(uniform), stratification)
        patterns, pattern_index = torch.unique(observed_mask, dim=0, return_inverse=True)
        rows_by_pattern = torch.argsort(pattern_index, stable=True).split(
            torch.bincount(pattern_index, minlength=len(patterns)).tolist()
        )
        for pattern, rows in zip(patterns.tolist(), rows_by_pattern, strict=True):
            if not all(pattern):
                filler.fill_pattern(rows, pattern, excluded_codes)
        return codes

    def log_evidence(self, codes: Int[Tensor, "n k"], observed_mask: Bool[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """Return the log of the sum of a row's weight over its unobserved columns, [n], exactly.

        For a normalised graph this is the log probability of the observed codes; -inf for impossible codes.
        """
        patterns, pattern_index = torch.unique(observed_mask, dim=0, return_inverse=True)
        log_evidence = torch.zeros(len(codes), dtype=torch.float64)
        for index, pattern in enumerate(patterns.tolist()):
            rows = (pattern_index == index).nonzero()[:, 0]
            log_evidence[rows] = self._log_evidence(codes[rows], pattern)
        return log_evidence

    def _log_evidence(self, codes: Int[Tensor, "m k"], pattern: Sequence[bool]) -> Float[Tensor, " m"]:
        """Return the log evidence of rows with the same observed columns, `pattern`."""
        log_evidence = torch.zeros(len(codes), dtype=torch.float64)
        open_index = [i for i, clique in enumerate(self.cliques) if not all(pattern[column] for column in clique)]
        for i in {*range(len(self.cliques))} - {*open_index}:
            log_evidence += self.potentials[i][codes[:, list(self.cliques[i])].unbind(1)]
        missing = [j for j, is_observed in enumerate(pattern) if not is_observed]
        if not missing:
            return log_evidence
        observed_columns = sorted({column for i in open_index for column in self.cliques[i] if pattern[column]})
        open_cliques = [tuple(column for column in self.cliques[i] if not pattern[column]) for i in open_index]
        elimination = eliminate(self.counts, open_cliques, missing)
        bp = BeliefPropagation(self.counts, open_cliques, elimination)
        cases, case_index = codes.new_zeros(1, 0), torch.zeros(len(codes), dtype=torch.int64)
        if observed_columns:
            cases, case_index = torch.unique(codes[:, observed_columns], dim=0, return_inverse=True)
        log_z = [
            bp.upward_pass(
                [
                    _conditioned_table(self.cliques[i], self.potentials[i], pattern, observed_columns, chunk)
                    for i in open_index
                ]
            )[1].expand(len(chunk))
            for chunk in cases.split(max(1, MAX_CASE_ENTRIES // elimination.cells))
        ]
        return log_evidence + torch.cat(log_z)[case_index]


@dataclass(frozen=True, eq=False)
class _PatternFiller:
    graph: FactorGraph
    codes: Int[Tensor, "n k"]
    uniform: Float[Tensor, "k n"]
    stratification: Stratification

    def fill_pattern(
        self, rows: Int[Tensor, " r"], pattern: Sequence[bool], excluded_codes: Sequence[int] | None
    ) -> None:
        counts, cliques, potentials = self.graph.counts, self.graph.cliques, self.graph.potentials
        codes = self.codes
        open_index = [i for i, clique in enumerate(cliques) if not all(pattern[column] for column in clique)]
        missing = [j for j, is_observed in enumerate(pattern) if not is_observed]
        observed_columns = sorted({column for i in open_index for column in cliques[i] if pattern[column]})
        open_cliques = [tuple(column for column in cliques[i] if not pattern[column]) for i in open_index]
        elimination = eliminate(counts, open_cliques, missing)
        bp = BeliefPropagation(counts, open_cliques, elimination)
        cases, case_index = codes.new_zeros(1, 0), torch.zeros_like(rows)
        if observed_columns:
            cases, case_index = torch.unique(codes[rows][:, observed_columns], dim=0, return_inverse=True)
        chunk_size = max(1, MAX_CASE_ENTRIES // elimination.cells)
        for start in range(0, len(cases), chunk_size):
            chunk = cases[start : start + chunk_size]
            factors = [_without_excluded(cliques[i], potentials[i], pattern, excluded_codes) for i in open_index]
            tables = [
                _conditioned_table(cliques[i], table, pattern, observed_columns, chunk)
                for i, table in zip(open_index, factors, strict=True)
            ]
            conditionals, log_z = bp.upward_pass(tables)
            in_chunk = (case_index >= start) & (case_index < start + chunk_size)
            row_index, row_cases = rows[in_chunk], case_index[in_chunk] - start
            is_impossible = torch.isinf(log_z.expand(len(chunk)))[row_cases]
            if excluded_codes is None:
                _check_possible(row_index, is_impossible)
            elif is_impossible.any():
                retry_rows = row_index[is_impossible]
                self.fill_pattern(retry_rows, pattern, None)
                row_index, row_cases = row_index[~is_impossible], row_cases[~is_impossible]
            for bucket, conditional in zip(reversed(elimination.buckets), reversed(conditionals), strict=True):
                flat_index = row_cases if len(conditional) > 1 else torch.zeros_like(row_cases)
                for parent in bucket.parents:
                    flat_index = flat_index * counts[parent] + codes[row_index, parent]
                probs = conditional.reshape(-1, counts[bucket.column])
                uniforms = self.stratification(self.uniform[bucket.column, row_index], flat_index)
                samples = [
                    categorical(probs[a], u) for a, u in zip(flat_index.split(ROWS), uniforms.split(ROWS), strict=True)
                ]
                codes[row_index, bucket.column] = torch.cat(samples) if samples else flat_index


def _without_excluded(
    clique: Clique, potential: Tensor, pattern: Sequence[bool], excluded_codes: Sequence[int] | None
) -> Tensor:
    """Return the log potentials of a clique, with -inf where an unobserved column has its code in `excluded_codes`."""
    if excluded_codes is None:
        return potential
    table = potential.clone()
    for axis, column in enumerate(clique):
        if not pattern[column] and excluded_codes[column] >= 0:
            table.select(axis, excluded_codes[column]).fill_(-torch.inf)
    return table


def _check_possible(rows: Int[Tensor, " r"], is_impossible: Bool[Tensor, " r"]) -> None:
    if is_impossible.any():
        raise InputError(
            "observed values with a probability above 0",
            f"probability 0 in row {int(rows[is_impossible][0])}",
            "Observe fewer of its columns",
        )


def _conditioned_table(
    clique: Clique,
    potential: Tensor,
    pattern: Sequence[bool],
    observed_columns: Sequence[int],
    cases: Int[Tensor, "u c"],
) -> Tensor:
    """Return the log potentials of a clique over its unobserved columns, given the observed codes in each case.

    `pattern` marks the observed columns, and `cases` holds their codes. The shape is [u, *levels], or [1, *levels] if
    no column of the clique is observed.
    """
    observed_axes = [i for i, column in enumerate(clique) if pattern[column]]
    if not observed_axes:
        return potential[None]
    free_axes = [i for i in range(len(clique)) if i not in observed_axes]
    flat_index = torch.zeros(len(cases), dtype=torch.long)
    for i in observed_axes:
        flat_index = flat_index * potential.shape[i] + cases[:, observed_columns.index(clique[i])]
    shape = [potential.shape[i] for i in free_axes]
    num_cases = math.prod(potential.shape) // math.prod(shape)
    return potential.permute(*observed_axes, *free_axes).reshape(num_cases, *shape)[flat_index]

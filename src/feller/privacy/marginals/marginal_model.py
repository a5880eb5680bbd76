"""Graphical model (Markov random field) over rows of integer codes: a product of tables over a few columns each."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.privacy.marginals.belief_propagation import BeliefPropagation
from feller.privacy.marginals.elimination import Clique, eliminate
from feller.privacy.marginals.row_sampling import FactorGraph, Stratification, unstratified

AllowedCombinations = tuple[tuple[Clique, Bool[Tensor, "..."]], ...]
"""Public constraints: for each, its columns and a mask of their allowed combinations of codes, one axis per column."""


@dataclass(frozen=True, eq=False)
class MarginalModel:
    """Markov random field over rows of integer codes: p(row) = exp(sum of the log-potentials at its codes) / Z.

    Cliques may overlap or contain each other; a column in no clique is uniform. All results are exact. Time and memory
    grow with the size of the elimination tables, not with the number of possible rows.
    """

    counts: tuple[int, ...]
    """Number of possible codes of each column."""
    cliques: tuple[Clique, ...]
    """Columns of each potential, in the order of its axes."""
    potentials: tuple[Tensor, ...]
    """Log-potentials of each clique in float64, one axis per column; -inf excludes a combination of codes."""
    total: float
    """Number of rows of the fitted table."""
    rules: AllowedCombinations = ()
    """Allowed combinations of codes; all others have probability 0."""

    def __post_init__(self) -> None:
        if min(self.counts, default=0) < 1:
            raise UsageError("columns of 1 level or more", f"levels {self.counts}", "Drop empty columns")
        for scope in self.scopes:
            self._check(scope)
        expected = [tuple(self.counts[column] for column in scope) for scope in self.scopes]
        shapes = [tuple(table.shape) for table in (*self.potentials, *(allowed for _, allowed in self.rules))]
        if shapes != expected:
            raise InputError(f"potentials of shapes {expected}", shapes, "Use cliques and potentials of the same model")

    @property
    def scopes(self) -> tuple[Clique, ...]:
        """Columns of each factor of p(row): first those of the potentials, then those of the rules."""
        return (*self.cliques, *(columns for columns, _ in self.rules))

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """Log-values of each factor of p(row), in the order of `scopes`."""
        return (*self.potentials, *(allowed.double().log() for _, allowed in self.rules))

    @property
    def factor_graph(self) -> FactorGraph:
        """Factor graph of the potentials and rules, from which rows can be sampled."""
        return FactorGraph(self.counts, self.scopes, self.factors)

    def _check(self, columns: Sequence[int]) -> None:
        if not columns or len({*columns}) < len(columns) or not {*columns} <= {*range(len(self.counts))}:
            raise UsageError(f"distinct columns from 0 to {len(self.counts) - 1}", tuple(columns))

    @functools.cached_property
    def _up(self) -> tuple[BeliefPropagation, list[Tensor], Tensor]:
        """Belief propagation of this model, the conditional distribution of each bucket's column, and log Z [1]."""
        bp = BeliefPropagation(self.counts, self.scopes, eliminate(self.counts, self.scopes))
        return bp, *bp.upward_pass([factor[None] for factor in self.factors])

    @functools.cached_property
    def _beliefs(self) -> list[Tensor]:
        bp, conditionals, _ = self._up
        return bp.downward_pass(conditionals)

    @property
    def log_z(self) -> float:
        """Log partition function."""
        return self._up[-1].item()

    def marginal(self, columns: Sequence[int]) -> Float[Tensor, "..."]:
        """Return the joint probabilities of some columns, one axis per column, in the given order.

        Only tables of these columns and of their ancestors in the elimination order are processed, to save time.

        Raises:
            UsageError: If a column is repeated or unknown.
        """
        self._check(columns)
        bp, conditionals, _ = self._up
        bucket_of = {bucket.column: i for i, bucket in enumerate(bp.buckets)}
        bucket_index = min(bucket_of[column] for column in columns)
        scope = bp.buckets[bucket_index].scope
        if {*columns} <= {*scope}:
            return _sum_to([(scope, self._beliefs[bucket_index][0])], columns)
        pending, ancestors = list(columns), set(columns)
        while pending:
            parents = {*bp.buckets[bucket_of[pending.pop()]].parents} - ancestors
            pending += sorted(parents)
            ancestors |= parents
        factors = [
            (bp.buckets[bucket_of[column]].scope, conditionals[bucket_of[column]][0]) for column in sorted(ancestors)
        ]
        elimination = eliminate(self.counts, [scope for scope, _ in factors], ancestors, columns)
        for bucket in elimination.buckets:
            group = [factor for factor in factors if bucket.column in factor[0]]
            factors = [factor for factor in factors if bucket.column not in factor[0]]
            factors.append((bucket.parents, _sum_to(group, bucket.parents)))
        return _sum_to(factors, columns)

    def log_likelihood(self, codes: Int[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """Return the log-probability of each row, after validating the codes."""
        check_codes(codes, self.counts)
        return self.log_prob(codes)

    def log_prob(self, codes: Int[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """Return the log-probability of each row without validation; differentiable and vmap-compatible."""
        log_probs = -self._up[-1].expand(len(codes))
        for scope, factor in zip(self.scopes, self.factors, strict=True):
            log_probs = log_probs + factor[codes[:, list(scope)].unbind(1)]
        return log_probs

    def sample(
        self, n: int, rng: Rng, evidence: Mapping[int, int] | None = None, stratification: Stratification = unstratified
    ) -> Int[Tensor, "n k"]:
        """Sample rows, given the codes of some columns.

        Args:
            n: Number of rows.
            rng: Random streams.
            evidence: Column -> code, the same for all rows.
            stratification: `unstratified` for independent rows; `stratified` for counts closer to their expectation.

        Raises:
            UsageError: If a column or code of the evidence does not exist.
            InputError: If the evidence has probability 0.
        """
        codes = torch.zeros(n, len(self.counts), dtype=torch.long)
        observed_mask = torch.zeros(n, len(self.counts), dtype=torch.bool)
        for column, code in (evidence or {}).items():
            self._check([column])
            if not 0 <= code < self.counts[column]:
                raise UsageError(f"a code from 0 to {self.counts[column] - 1} in column {column}", code)
            codes[:, column], observed_mask[:, column] = code, True
        return self.factor_graph.sample_missing(codes, observed_mask, rng, stratification)

    def sample_missing(
        self,
        codes: Int[Tensor, "n k"],
        observed_mask: Bool[Tensor, "n k"],
        rng: Rng,
        stratification: Stratification = unstratified,
        excluded_codes: Sequence[int] | None = None,
    ) -> Int[Tensor, "n k"]:
        """Sample the unobserved cells of each row from their exact conditional distribution given its observed cells.

        `excluded_codes` holds one code per column (-1 for none), which is sampled only if no other code is possible.
        `stratification` is that of `sample`.

        Raises:
            InputError: If an observed code does not exist, or the observed codes of a row have probability 0.
        """
        codes = codes.masked_fill(~observed_mask, 0)
        check_codes(codes, self.counts)
        return self.factor_graph.sample_missing(codes, observed_mask, rng, stratification, excluded_codes)

    def column_probs(
        self, codes: Int[Tensor, "n k"], observed_mask: Bool[Tensor, "n k"], column: int
    ) -> Float[Tensor, "n values"]:
        """Return the exact conditional probabilities of all codes of a column given the observed codes of each row.

        Rows in which `column` is observed get probability 1 for its code.

        Raises:
            InputError: If an observed code does not exist, or the observed codes of a row have probability 0.
        """
        codes, observed_mask = codes.masked_fill(~observed_mask, 0), observed_mask.clone()
        check_codes(codes, self.counts)
        given, is_given = codes[:, column].clone(), observed_mask[:, column].clone()
        observed_mask[:, column] = True
        log_evidence = []
        for code in range(self.counts[column]):
            codes[:, column] = code
            log_evidence.append(self.factor_graph.log_evidence(codes, observed_mask))
            log_evidence[-1][is_given & (given != code)] = -torch.inf
        joint = torch.stack(log_evidence, 1)
        is_impossible = (joint == -torch.inf).all(1)
        if is_impossible.any():
            raise InputError(
                "observed values with a probability above 0", "probability 0", row=int(is_impossible.nonzero()[0])
            )
        return joint.softmax(1)


def check_codes(codes: Int[Tensor, "n k"], counts: Sequence[int]) -> None:
    """Validate the number of columns and the range of the codes.

    Raises:
        InputError: If the number of columns is wrong, or a code is out of range.
    """
    if codes.shape[1] != len(counts):
        raise InputError(f"rows of {len(counts)} columns", codes.shape[1], "Use the schema of the model")
    invalid = ((codes < 0) | (codes >= torch.tensor(counts))).nonzero()
    if len(invalid):
        row, column = invalid[0].tolist()
        raise InputError(
            f"codes from 0 to {counts[column] - 1} in column {column}",
            f"{int(codes[row, column])} in row {row}",
            "Encode the table with the schema of the model",
        )


def _sum_to(factors: Sequence[tuple[Clique, Tensor]], columns: Sequence[int]) -> Tensor:
    """Multiply tables and sum out all columns except `columns`, which become the axes in this order."""
    axis_of = {column: i for i, column in enumerate(dict.fromkeys(c for scope, _ in factors for c in scope))}
    operands = [operand for scope, table in factors for operand in (table, [axis_of[column] for column in scope])]
    return torch.einsum(*operands, [axis_of[column] for column in columns])

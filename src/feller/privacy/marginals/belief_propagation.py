"""Belief propagation by variable elimination: log Z, conditionals and marginals."""

from collections.abc import Sequence

import torch
from torch import Tensor

from feller.privacy.marginals.elimination import Clique, Elimination

Index = tuple[slice | None, ...]


def _broadcast_index(columns: Clique, scope: Clique) -> Index:
    """Return the index that broadcasts a table over `columns` to the columns of `scope`: missing ones get size 1."""
    return (slice(None), *(slice(None) if column in columns else None for column in scope))


class BeliefPropagation:
    """Belief propagation for one elimination order: an upward and a downward pass.

    Each table has one axis per column, whose length is the number of codes, after a batch axis: [u, *levels] for u
    cases (combinations of observed values), or [1, *levels] if the table is the same for all cases.
    The upward pass computes p(column | parents) and log Z in log-space. The downward pass multiplies conditionals to
    obtain marginals, so nothing is divided by 0.
    Source: Koller and Friedman 2009, "Probabilistic graphical models", chapters 9 and 10.
    """

    def __init__(self, counts: Sequence[int], cliques: Sequence[Clique], elimination: Elimination) -> None:
        buckets = self.buckets = elimination.buckets
        self._empty = [torch.zeros(1, counts[bucket.column], dtype=torch.float64) for bucket in buckets]
        bucket_of = {bucket.column: i for i, bucket in enumerate(buckets)}
        self._tables: list[list[tuple[int, tuple[int, ...], Index]]] = [[] for _ in buckets]
        self._clique_buckets: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = []
        for i, clique in enumerate(cliques):
            bucket_index = min(bucket_of[column] for column in clique)
            scope = buckets[bucket_index].scope
            ordered = tuple(column for column in scope if column in clique)
            permutation = (0, *(1 + clique.index(column) for column in ordered))
            self._tables[bucket_index].append((i, permutation, _broadcast_index(ordered, scope)))
            inverse = (0, *(1 + ordered.index(column) for column in clique))
            self._clique_buckets.append((bucket_index, _other_axes(ordered, scope), inverse))
        self._children: list[list[tuple[int, Index]]] = [[] for _ in buckets]
        self._parent_buckets: list[tuple[int, tuple[int, ...]] | None] = []
        for i, bucket in enumerate(buckets):
            if not bucket.parents:
                self._parent_buckets.append(None)
                continue
            parent_index = bucket_of[bucket.parents[-1]]
            self._children[parent_index].append((i, _broadcast_index(bucket.parents, buckets[parent_index].scope)))
            self._parent_buckets.append((parent_index, _other_axes(bucket.parents, buckets[parent_index].scope)))

    def upward_pass(self, potentials: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return p(column | parents) of each bucket, [u, *parents, column], and log Z, [u].

        A bucket is a column with its parents, the neighbours that are eliminated later. `potentials` holds the
        log-potentials of each clique. Conditionals of impossible values are 0.
        """
        conditionals: list[Tensor] = []
        messages: list[Tensor] = []
        log_z = torch.zeros(1, dtype=torch.float64)
        for bucket, empty, tables, children in zip(
            self.buckets, self._empty, self._tables, self._children, strict=True
        ):
            terms = [potentials[i].permute(permutation)[index] for i, permutation, index in tables]
            terms += [messages[i][index] for i, index in children]
            total = terms[0] if terms else empty
            for term in terms[1:]:
                total = total + term
            max_total = total.amax(-1, keepdim=True).clamp(min=-1e300)
            weights = (total - max_total).exp()
            weight_sum = weights.sum(-1, keepdim=True)
            message = (max_total + weight_sum.log()).squeeze(-1)
            conditionals.append(weights / weight_sum.clamp(min=1.0))  # the largest weight is 1 unless all are 0
            messages.append(message)
            if not bucket.parents:
                log_z = log_z + message
        return conditionals, log_z

    def downward_pass(self, conditionals: Sequence[Tensor]) -> list[Tensor]:
        """Return the joint marginal of each column and its parents, [u, *parents, column].

        `conditionals` is the first result of `upward_pass`.
        """
        beliefs = list(conditionals)
        for i in reversed(range(len(beliefs))):
            parent_bucket = self._parent_buckets[i]
            if parent_bucket is not None:
                parent_index, axes = parent_bucket
                parents = beliefs[parent_index].sum(axes) if axes else beliefs[parent_index]
                beliefs[i] = conditionals[i] * parents.unsqueeze(-1)
        return beliefs

    def marginals(self, beliefs: Sequence[Tensor]) -> list[Tensor]:
        """Return the marginal of each clique, [u, *levels], from the result `beliefs` of `downward_pass`."""
        return [
            (beliefs[bucket_index].sum(axes) if axes else beliefs[bucket_index]).permute(inverse)
            for bucket_index, axes, inverse in self._clique_buckets
        ]


def _other_axes(columns: Clique, scope: Clique) -> tuple[int, ...]:
    """Return the axes of a table over `scope` that belong to columns not in `columns`; axis 0 is the batch."""
    return tuple(1 + i for i, column in enumerate(scope) if column not in columns)

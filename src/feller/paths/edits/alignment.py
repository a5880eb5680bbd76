"""Alignments of two sequences, which determine the edits that lead from one to the other."""

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

Aligned = tuple[Int64[Tensor, "b n"], Int64[Tensor, "b n"]]
"""Two sequences per example with blanks, such that each slot is kept, inserted, deleted or substituted."""


class Alignment(abc.ABC):
    """Alignment of source and data sequences; the padding token also stands for a blank."""

    @abc.abstractmethod
    def __call__(self, x_0: Int64[Tensor, "b l"], x_1: Int64[Tensor, "b l"], pad: int) -> Aligned:
        """Return the aligned sequences; without their blanks, they are `x_0` and `x_1`."""


@dataclass(frozen=True)
class LeftAlignment(Alignment):
    """Alignment of the tokens at equal positions: edits are substitutions, then insertions or deletions at the end."""

    def __call__(self, x_0: Int64[Tensor, "b l"], x_1: Int64[Tensor, "b l"], pad: int) -> Aligned:
        return x_0, x_1


@dataclass(frozen=True)
class ShortestAlignment(Alignment):
    """Alignment with the fewest insertions, deletions and substitutions (Levenshtein distance)."""

    def __call__(self, x_0: Int64[Tensor, "b l"], x_1: Int64[Tensor, "b l"], pad: int) -> Aligned:
        distance = self._suffix_distances(x_0, x_1, pad)
        b, length = x_0.shape
        rows = torch.arange(b, device=x_0.device)
        i, j = torch.zeros_like(rows), torch.zeros_like(rows)
        padded_0, padded_1 = (torch.nn.functional.pad(x, (0, 1), value=pad) for x in (x_0, x_1))
        z_0, z_1 = [], []
        for _ in range(2 * length):
            a, c = padded_0[rows, i], padded_1[rows, j]
            has_both = (a != pad) & (c != pad)
            left, up = (i + (a != pad)).clamp(max=length), (j + (c != pad)).clamp(max=length)
            here = distance[rows, i, j]
            is_diagonal = has_both & (here == distance[rows, left, up] + (a != c))
            is_deletion = ~is_diagonal & (a != pad) & (here == distance[rows, left, j] + 1)
            is_insertion = ~is_diagonal & ~is_deletion & (c != pad)
            z_0.append(a.where(is_diagonal | is_deletion, pad))
            z_1.append(c.where(is_diagonal | is_insertion, pad))
            i, j = i + (is_diagonal | is_deletion), j + (is_diagonal | is_insertion)
            if ((padded_0[rows, i] == pad) & (padded_1[rows, j] == pad)).all():
                break
        return torch.stack(z_0, 1), torch.stack(z_1, 1)

    def _suffix_distances(self, x_0: Tensor, x_1: Tensor, pad: int) -> Int64[Tensor, "b l1 l1"]:
        """Return the edit distances of all pairs of suffixes, [b, l + 1, l + 1]."""
        b, length = x_0.shape
        lengths = [(x != pad).sum(1) for x in (x_0, x_1)]
        places = torch.arange(length + 1, device=x_0.device)
        remaining = [(n[:, None] - places).clamp(min=0) for n in lengths]
        distance = x_0.new_zeros(b, length + 1, length + 1)
        distance[:, length] = remaining[1]
        for i in range(length - 1, -1, -1):
            distance[:, i, length] = remaining[0][:, i]
            row_ends = i >= lengths[0]
            for j in range(length - 1, -1, -1):
                match = distance[:, i + 1, j + 1] + (x_0[:, i] != x_1[:, j])
                step = torch.minimum(match, 1 + torch.minimum(distance[:, i + 1, j], distance[:, i, j + 1]))
                step = torch.where(row_ends, remaining[1][:, j], step)
                distance[:, i, j] = torch.where(j >= lengths[1], remaining[0][:, i], step)
        return distance

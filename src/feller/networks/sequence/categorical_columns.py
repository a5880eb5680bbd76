"""Codec of categorical table columns, each with its own vocabulary: encodes values as features, and decodes outputs."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.core.errors import UsageError
from feller.networks.blocks.leaf_codecs import LeafCodec

MASKED_LOGIT_SCALE = 0.25
"""Value of masked logits, as a fraction of the most negative float, so that sums of several masked logits are
finite."""


@dataclass(frozen=True)
class CategoricalColumns(LeafCodec):
    """Codec of categorical columns: column j has values from 0 to `counts[j]` - 1, or the mask token max(counts).

    Outputs are logits, [b, n, columns, max(counts)]; the logits of values that a column does not have are large and
    negative.
    """

    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.counts or min(self.counts) < 1:
            raise UsageError("at least one column, each with at least one category", self.counts)

    @property
    def _max_count(self) -> int:
        return max(self.counts)

    def feature_dim(self, shape: tuple[int, ...]) -> int:
        self._check(shape)
        return sum(self.counts) + len(self.counts)

    def out_dim(self, shape: tuple[int, ...]) -> int:
        self._check(shape)
        return sum(self.counts)

    def _check(self, shape: tuple[int, ...]) -> None:
        if shape != (len(self.counts),):
            raise UsageError(f"rows of {len(self.counts)} columns", f"rows of shape {shape}")

    @cached_property
    def _feature_index(self) -> Int[Tensor, " features"]:
        """Indices of the one-hot features that exist, among all pairs (column, code).

        Each column has its own codes, and one more code for the mask.
        """
        stride = self._max_count + 1
        return torch.tensor(
            [j * stride + k for j, count in enumerate(self.counts) for k in (*range(count), self._max_count)]
        )

    @cached_property
    def _logit_index(self) -> Int[Tensor, " logits"]:
        """Index of the network's output for each pair (column, code), where all columns get the same number of codes.

        Codes that a column lacks get the index after the last output, which holds a masked logit.
        """
        column_ends = torch.tensor(self.counts).cumsum(0).tolist()
        columns = zip(column_ends, self.counts, strict=True)
        return torch.tensor(
            [
                end - count + k if k < count else column_ends[-1]
                for end, count in columns
                for k in range(self._max_count)
            ]
        )

    def encode(self, x: Int[Tensor, "b n d"], t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        tokens = torch.arange(self._max_count + 1, device=x.device)
        return (x[..., None] == tokens).flatten(2)[:, :, self._feature_index.to(x.device)].to(t.dtype)

    def decode(self, output: Float[Tensor, "b n answers"], x: Int[Tensor, "b n d"]) -> Float[Tensor, "b n d count"]:
        masked_logit = torch.full_like(output[:, :, :1], MASKED_LOGIT_SCALE * torch.finfo(output.dtype).min)
        logits = torch.cat([output, masked_logit], 2)
        return logits[:, :, self._logit_index.to(output.device)].unflatten(2, (len(self.counts), self._max_count))

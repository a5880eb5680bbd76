"""Space of histories: the tokens of a person's attributes, followed by those of up to `max_rows` rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import RandomStream
from feller.spaces.space import Space
from feller.spaces.table_tokens import CategoryTokenizer, TableTokens

GROUP_COST = 800
"""Cost of computing one more group of histories, in tokens; see `HistoryTokens.similar_lengths`."""


@dataclass(frozen=True)
class RowKind:
    """Kind of the rows of a history, which has its own columns: those of one of several tables."""

    columns: tuple[int, ...]
    """Indices of the columns that rows of this kind have, besides the first; their other tokens have no meaning."""
    successors: tuple[int, ...]
    """Indices of the kinds that may follow a row of this kind."""
    is_first: bool = True
    """True if the first row of a history may be of this kind."""


def longest_paths(successors: Sequence[Sequence[int]], limit: int) -> list[int]:
    """Return the maximum number of steps, at most `limit`, from each node of a graph to one of its successors each."""
    steps = [0] * len(successors)
    for _ in range(limit):
        steps = [max((1 + steps[j] for j in following), default=0) for following in successors]
    return steps


@dataclass(frozen=True)
class HistoryTokens(Space):
    """Space of tokenized histories, int64 [n, places]; the tokens of rows after the end of a history are 0.

    The methods also take histories without some of the last rows, see `cropped`.
    The first column of the attributes is the number of rows of the history, minus `min_rows`.
    """

    attributes: TableTokens
    """Tokens of the number of rows, and of the columns with one value per person."""
    rows: TableTokens
    """Tokens of one row."""
    max_rows: int
    """Maximum number of rows per person."""
    min_rows: int = 0
    """Minimum number of rows per person."""
    kinds: tuple[RowKind, ...] = ()
    """Kinds of rows, whose index is the first column of a row; empty if all rows have all columns."""

    def __post_init__(self) -> None:
        self._check_kinds()
        lengths = self.attributes.columns[0]
        expected = self.max_rows - self.min_rows + 1
        if not 0 <= self.min_rows <= self.max_rows or self.max_rows < 2:
            raise UsageError(
                "0 <= min_rows <= max_rows, and max_rows of at least 2", f"{self.min_rows} and {self.max_rows}"
            )
        if not isinstance(lengths, CategoryTokenizer) or lengths.num_values != expected:
            raise UsageError(f"a first column with {expected} numbers of rows", f"{lengths.num_values} values")

    def _check_kinds(self) -> None:
        if not self.kinds:
            return
        first, count = self.rows.columns[0], len(self.kinds)
        if not isinstance(first, CategoryTokenizer) or first.num_values != count:
            raise UsageError(f"a first column of rows with {count} values, the kinds of rows", f"{first.num_values}")
        if not self.kinds[0].is_first:
            raise UsageError("a first kind with which histories begin", "another")

    @cached_property
    def active_columns(self) -> Bool[Tensor, "kinds columns"]:
        """Mask of the columns of a row that have a meaning, for each kind of rows."""
        columns = torch.zeros(len(self.kinds), len(self.rows.columns), dtype=torch.bool)
        columns[:, 0] = True
        for i, kind in enumerate(self.kinds):
            columns[i, list(kind.columns)] = True
        return columns

    @property
    def active_places(self) -> Bool[Tensor, "kinds row_places"]:
        """Mask of the tokens of a row that have a meaning, for each kind of rows."""
        return self.active_columns.repeat_interleave(torch.tensor(self.rows.tokens_per_column), 1)

    @cached_property
    def allowed_kinds(self) -> Bool[Tensor, "kinds_and_start kinds"]:
        """Mask of the kinds of rows that may follow each kind; the last row is for the beginning of a history."""
        allowed = torch.zeros(len(self.kinds) + 1, len(self.kinds), dtype=torch.bool)
        for i, kind in enumerate(self.kinds):
            allowed[i, list(kind.successors)] = True
            allowed[-1, i] = kind.is_first
        return allowed

    @cached_property
    def max_following(self) -> Int64[Tensor, " kinds"]:
        """Maximum number of rows that can follow a row of each kind, at most `max_rows`."""
        return torch.tensor(longest_paths([kind.successors for kind in self.kinds], self.max_rows))

    @property
    def num_attribute_places(self) -> int:
        """Number of tokens of the attributes."""
        return len(self.attributes.vocab_sizes)

    @property
    def num_places(self) -> int:
        """Number of tokens of a history, including padding."""
        return self.num_attribute_places + self.max_rows * len(self.rows.vocab_sizes)

    def lengths(self, x: Int64[Tensor, "*n places"]) -> Int64[Tensor, " *n"]:
        """Return the number of rows of each history."""
        return x[..., 0] + self.min_rows

    def valid_rows(self, x: Int64[Tensor, "n places"]) -> Bool[Tensor, "n rows"]:
        """Return the mask of the rows before the end of each history."""
        num_rows = (x.shape[1] - self.num_attribute_places) // len(self.rows.vocab_sizes)
        return torch.arange(num_rows, device=x.device) < self.lengths(x)[:, None]

    def cropped(self, x: Int64[Tensor, "n places"]) -> Int64[Tensor, "n fewer_places"]:
        """Return histories without the rows, after the second, that are padding in all of them."""
        steps = max(2, int(self.lengths(x).max())) if len(x) else 2
        return x[:, : self.num_attribute_places + steps * len(self.rows.vocab_sizes)]

    def similar_lengths(self, x: Int64[Tensor, "n places"]) -> list[Int64[Tensor, " _"]]:
        """Return the indices of histories in groups of similar length, whose total cost is the lowest.

        The cost of a group is the number of tokens of its histories, all as long as the longest one, and `GROUP_COST`.
        """
        order = self.lengths(x).sort(stable=True).indices
        lengths, counts = self.lengths(x)[order].unique_consecutive(return_counts=True)
        sizes = self.num_attribute_places + lengths.clamp(min=2) * len(self.rows.vocab_sizes)
        ends = [0, *counts.cumsum(0).tolist()]
        best: list[tuple[int, list[int]]] = [(0, [])]  # (cost, ends of groups) of the histories up to each length
        for stop, size in enumerate(sizes.tolist(), 1):
            costs = [best[i][0] + (ends[stop] - ends[i]) * size + GROUP_COST for i in range(stop)]
            start = min(range(stop), key=costs.__getitem__)
            best.append((costs[start], [*best[start][1], ends[stop]]))
        return list(order.tensor_split(best[-1][1][:-1])) if len(x) else []

    def split(
        self, x: Shaped[Tensor, "n places"]
    ) -> tuple[Shaped[Tensor, "n attribute_places"], Shaped[Tensor, "n rows row_places"]]:
        """Split tokens, or a mask of tokens, into those of the attributes and those of each row."""
        attributes, rows = x[..., : self.num_attribute_places], x[..., self.num_attribute_places :]
        return attributes, rows.unflatten(-1, (-1, len(self.rows.vocab_sizes)))

    def join(
        self,
        attributes: Int64[Tensor, "n attribute_places"],
        rows: Int64[Tensor, "n max_rows row_places"],
    ) -> Int64[Tensor, "n places"]:
        """Join the tokens of attributes and rows; tokens after the end of a history become 0."""
        is_valid = torch.arange(self.max_rows, device=rows.device) < self.lengths(attributes)[:, None]
        return torch.cat([attributes, (rows * is_valid[..., None]).flatten(1)], 1)

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Int64[Tensor, "n places"]:
        attributes = self.attributes.sample_base(n, rng, device)
        rows = [self.rows.sample_base(n, rng, device) for _ in range(self.max_rows)]
        return self.join(attributes, torch.stack(rows, 1))

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        raise TypeError("histories of tokens have no velocity")

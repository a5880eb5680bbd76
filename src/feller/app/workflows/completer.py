"""Base class of the imputation of missing cells, in parts of a table."""

import abc
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow
import torch
from jaxtyping import Int64
from torch import Tensor

from feller.app.reporter import SILENT, Reporter
from feller.core.distributed import SINGLE, ProcessGroup
from feller.core.rng import Rng
from feller.core.serialization import to_dict
from feller.data.loading.raw import RawTable
from feller.data.tables.histories import Histories
from feller.data.tables.modality import Table
from feller.models.model import Model, no_progress
from feller.sampling.sampler_config import SamplerConfig

Strategy = Literal["sample", "best", "mean"]
"""Imputed cells: a sample of the model; the median of numbers and times and the mode of other cells; or the mean of
numbers and times and the mode of other cells."""


@dataclass(frozen=True, eq=False)
class CompletedRows:
    """Rows without missing cells."""

    values: Int64[Tensor, "n k"]
    """Codes of the modelled columns."""
    cells: RawTable
    """Cells of all columns, in which observed cells keep their spelling."""
    index: Int64[np.ndarray, " m"] | None = None
    """Row of the table of each row of cells; None if they are in the same order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Completer(abc.ABC):
    """Base class of the imputation of a table, in parts. Each row depends only on its index and not on its part."""

    model: Model
    table: RawTable
    """Table with unobserved cells."""
    strategy: Strategy = "sample"
    sampling: SamplerConfig
    rng: Rng
    source_hash: str = ""
    """Hash that identifies the table with unobserved cells."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """Return the number of rows, or of persons with all of their rows."""

    @property
    @abc.abstractmethod
    def part_size(self) -> int:
        """Number of rows or persons that are imputed together, after which the progress is reported."""

    @property
    @abc.abstractmethod
    def modality(self) -> Table | Histories:
        """Modality of the table."""

    @abc.abstractmethod
    def draw(
        self,
        n: int,
        *,
        first: int = 0,
        ranks: ProcessGroup = SINGLE,
        total: int | None = None,
        on_progress: Callable[[float], None] = no_progress,
    ) -> CompletedRows:
        """Impute the n rows or persons from the index `first` on.

        Raises:
            UsageError: If the observed cells are impossible under the model.
        """

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that, together with the model, determine the imputed cells."""
        fields = {"seed": self.rng.seed, "strategy": self.strategy, "table": self.source_hash}
        return {"complete": fields, "sampling": to_dict(self.sampling)}

    def imputation(self, index: int) -> "Completer":
        """Return the completer of another independent imputation; index 0 is this one."""
        return self if index == 0 else replace(self, rng=self.rng.fold_in("imputation", index))

    def parts(self, ranks: ProcessGroup = SINGLE, reporter: Reporter = SILENT) -> CompletedRows:
        """Impute all rows, with progress."""
        return joined([*self.each_part(ranks, reporter)])

    def each_part(self, ranks: ProcessGroup = SINGLE, reporter: Reporter = SILENT) -> Iterator[CompletedRows]:
        """Impute the rows in parts, with progress, and yield each part."""
        for first in range(0, len(self), self.part_size):
            n = min(self.part_size, len(self) - first)

            def on_progress(fraction: float, first: int = first, n: int = n) -> None:
                reporter.progress((first + n * fraction) / len(self))

            yield self.draw(n, first=first, ranks=ranks, on_progress=on_progress)

    def write(self, rows: CompletedRows, place: pathlib.Path, *, first: int = 0, total: int = 0) -> None:
        """Write rows to a table file."""
        self.modality.write_cells(rows.cells, place)


def joined(parts: list[CompletedRows]) -> CompletedRows:
    """Return the rows of several parts, in the order of the table."""
    tables = [part.cells for part in parts]
    cells = replace(tables[0], values=pyarrow.concat_tables([table.values for table in tables]).combine_chunks())
    lines = [table.lines for table in tables if table.lines is not None]
    cells = replace(cells, lines=np.concatenate(lines) if lines else None)
    indices = [part.index for part in parts if part.index is not None]
    if indices:
        cells = cells.subset(np.concatenate(indices).argsort(kind="stable"))
    return CompletedRows(torch.cat([part.values for part in parts]), cells)

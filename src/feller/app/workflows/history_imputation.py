"""Imputation of the missing cells of histories, by sequential Monte Carlo over the rows of each person."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from feller.app.workflows.completer import CompletedRows, Completer, Strategy
from feller.core.distributed import SINGLE, ProcessGroup
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.loading.raw import RawTable
from feller.data.tables.best_cells import best_guess, mean_guess
from feller.data.tables.constraints import violations
from feller.data.tables.histories import Histories
from feller.data.tables.history_completion import (
    PartialHistories,
    completed_histories,
    history_tokens,
    missing_tokens,
    partial_histories,
)
from feller.data.tables.modality import Table
from feller.models.families.model_family import PartialObservation
from feller.models.model import Model, no_progress
from feller.networks.sequence.table_grammar import TableGrammar
from feller.sampling.sampler_config import SamplerConfig

N_CANDIDATES = 64
"""Number of candidates of each history, which are weighted by the observed cells of each row and resampled."""
N_GUESSES = 24
"""Number of imputations whose mode, median or mean is the best guess of a cell."""
MAX_CANDIDATE_ROWS = 200_000
"""Maximum number of rows of all candidates that are in memory together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HistoryCompleter(Completer):
    """Imputation of a table with several rows per person, who are the examples of the model."""

    partial: PartialHistories

    def __len__(self) -> int:
        return len(self.partial.codes)

    @property
    def part_size(self) -> int:
        return max(1, MAX_CANDIDATE_ROWS // (N_CANDIDATES * self.modality.history.max_rows))

    @property
    def modality(self) -> Histories:
        return cast(Histories, self.model.spec.modality)

    def draw(
        self,
        n: int,
        *,
        first: int = 0,
        ranks: ProcessGroup = SINGLE,
        total: int | None = None,
        on_progress: Callable[[float], None] = no_progress,
    ) -> CompletedRows:
        partial, rng = self.partial.subset(first, n), replace(self.rng, first_example=first)
        values = self._sampled(partial, rng, ranks)
        uniforms = rng.stream("bins").uniform(tuple(values.shape), torch.float64)
        if self.strategy != "sample":
            draws = [values]
            for i in range(1, N_GUESSES):
                draws.append(self._sampled(partial, rng.fold_in("guess", i), ranks))
                on_progress(i / N_GUESSES)
            values, uniforms = self._guessed(partial, torch.stack(draws), uniforms)
        on_progress(1.0)
        cells = completed_histories(partial, self.modality, values, uniforms)
        return CompletedRows(values, cells, self.partial.rows_of(first, n))

    def _sampled(self, partial: PartialHistories, rng: Rng, ranks: ProcessGroup) -> Int64[Tensor, "n codes"]:
        observation = PartialObservation(
            *history_tokens(partial, self.modality),
            num_candidates=N_CANDIDATES,
            forbidden=missing_tokens(self.modality),
        )
        try:
            samples = self.model.sample_dataset(
                len(partial.codes),
                given={},
                observed=observation,
                sampling=self.sampling,
                rng=rng,
                batch_size=self.part_size,
                process_group=ranks,
            )
        except UsageError as error:
            if error.row is None:
                raise
            raise _impossible(partial, self.modality, error.row, 0) from error
        return samples.values

    def _guessed(
        self, partial: PartialHistories, draws: Int64[Tensor, "draws n codes"], uniforms: Tensor
    ) -> tuple[Int64[Tensor, "n codes"], Tensor]:
        """Return the best guess of each unobserved cell from several draws; the first draw where guesses break rules.

        Cells of the rows of a person are guessed one by one, given the observed cells of all rows.
        """
        modality, values, uniforms = self.modality, draws[0].clone(), uniforms.clone()
        k = len(modality.rows.counts)
        tables = [modality.persons, *[modality.rows] * modality.history.max_rows]
        starts = [0, *range(len(modality.persons.counts), values.shape[1], k)]
        for table, start in zip(tables, starts, strict=True):
            self._guess_table(table, slice(start, start + len(table.counts)), partial.observed, draws, values, uniforms)
        return values, uniforms

    def _guess_table(
        self, table: Table, part: slice, observed: Tensor, draws: Tensor, values: Tensor, uniforms: Tensor
    ) -> None:
        guess = mean_guess if self.strategy == "mean" else best_guess
        found, chosen = values[:, part].clone(), uniforms[:, part].clone()
        for j, column in enumerate(table.schema.modelled):
            codes = draws[:, :, part.start + j]
            probs = torch.zeros(codes.shape[1], column.num_codes, dtype=torch.float64)
            probs.scatter_add_(1, codes.T, torch.full(codes.T.shape, 1 / len(codes), dtype=torch.float64))
            guesses, positions = guess(probs.numpy(), column)
            is_open = ~observed[:, part.start + j]
            found[is_open, j] = torch.from_numpy(guesses)[is_open]
            chosen[is_open, j] = torch.from_numpy(positions)[is_open]
        is_valid = np.ones(len(found), dtype=bool)
        for pair in table.schema.pairs:
            is_valid &= ~violations(found.numpy(), pair)
        kept = torch.from_numpy(is_valid)[:, None]
        values[:, part] = torch.where(kept, found, values[:, part])
        uniforms[:, part] = torch.where(kept, chosen, uniforms[:, part])


def make_history_completer(
    model: Model,
    table: RawTable,
    rng: Rng,
    *,
    strategy: Strategy,
    sampling: SamplerConfig,
    lenient: bool,
    source_hash: str,
) -> HistoryCompleter:
    """Read a table with several rows per person and unobserved cells.

    Raises:
        InputError: If a cell is not allowed, or the observed cells of a person or row leave no valid values for the
            others.
    """
    modality = cast(Histories, model.spec.modality)
    partial = partial_histories(table, modality.lenient if lenient else modality)
    _check_possible(partial, modality)
    return HistoryCompleter(
        model=model,
        table=table,
        partial=partial,
        strategy=strategy,
        sampling=sampling,
        rng=rng,
        source_hash=source_hash,
    )


def _check_possible(partial: PartialHistories, modality: Histories) -> None:
    """Raise an InputError for the first row whose observed cells leave no cells that satisfy the rules."""
    attributes, rows = modality.split(partial.codes)
    a = attributes.shape[1]
    row_mask = partial.observed[:, a:].reshape(rows.shape)
    is_impossible = _impossible_rows(modality.persons, attributes, partial.observed[:, :a])
    if is_impossible.any():
        raise _impossible(partial, modality, int(is_impossible.nonzero()[0]), 0)
    index = torch.from_numpy(partial.person), torch.from_numpy(partial.step)
    is_impossible = _impossible_rows(modality.rows, rows[index], row_mask[index])
    if is_impossible.any():
        row = int(is_impossible.nonzero()[0])
        raise _impossible(partial, modality, int(partial.person[row]), int(partial.step[row]))


def _impossible_rows(table: Table, codes: Int64[Tensor, "m k"], observed: Bool[Tensor, "m k"]) -> Bool[Tensor, " m"]:
    if not table.schema.pairs:
        return torch.zeros(len(codes), dtype=torch.bool)
    mask = TableGrammar(table.space()).completable(codes, observed)
    return ~mask.any(2).all(1)


def _impossible(partial: PartialHistories, modality: Histories, person: int, step: int) -> InputError:
    """Return the error for observed cells of a person that cannot occur together."""
    row = partial.row(person, step)
    unit = modality.schema.unit
    return InputError(
        f"cells of {unit} {partial.table.cell(unit, row)[:40]!r} that can occur together",
        "cells that leave no valid value for another one",
        "Correct the cells of this row, or leave more of them empty",
        **partial.table.error_fields(row),
    )

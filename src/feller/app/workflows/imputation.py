"""Imputation of the missing cells of table rows: samples from the model, several imputations, or best guesses."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.completer import CompletedRows, Completer, Strategy
from feller.app.workflows.history_imputation import make_history_completer
from feller.core.distributed import SINGLE, ProcessGroup
from feller.core.errors import UsageError, error_context
from feller.core.rng import Rng
from feller.data.files import sample_folder
from feller.data.loading.file_formats import load_table
from feller.data.loading.in_memory import DataSource, check_frame, with_index
from feller.data.loading.raw import RawTable
from feller.data.modality import Dataset
from feller.data.tables.best_cells import best_guess, mean_guess
from feller.data.tables.constraints import violations
from feller.data.tables.dataframes import from_frame, to_frame
from feller.data.tables.encoding import outside
from feller.data.tables.histories import Histories
from feller.data.tables.modality import Table
from feller.models.families.model_family import PartialObservation
from feller.models.model import Model, no_progress
from feller.sampling.sampler_config import SamplerConfig

N_COMPLETIONS = 200
"""Number of candidate completions from which each row is resampled, if the model generates columns in a fixed order."""
ROWS_PER_PART = 1000
"""Number of rows that are imputed together, after which the progress is reported."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RowCompleter(Completer):
    """Imputation of the rows of a table, each of which is an example of the model."""

    codes: Int64[Tensor, "n k"]
    observed: Bool[Tensor, "n k"]

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def part_size(self) -> int:
        return ROWS_PER_PART

    @property
    def modality(self) -> Table:
        return cast(Table, self.model.spec.modality)

    @property
    def is_approximate(self) -> bool:
        """True if the model has a fixed column order, so that rows are resampled from weighted candidates."""
        return not self.model.family.has_exact_infilling

    def draw(
        self,
        n: int,
        *,
        first: int = 0,
        ranks: ProcessGroup = SINGLE,
        total: int | None = None,
        on_progress: Callable[[float], None] = no_progress,
    ) -> CompletedRows:
        part = slice(first, first + n)
        codes, observed, rng = self.codes[part], self.observed[part], replace(self.rng, first_example=first)
        if self.strategy == "sample":
            values = self._sampled(codes, observed, rng, ranks, on_progress)
            uniforms = rng.stream("bins").uniform(tuple(values.shape), torch.float64)
        else:
            values, uniforms = self._guessed(codes, observed, rng, on_progress)
        table = self.table.subset(np.arange(first, first + len(codes)))
        with sample_folder.sample_numbering(first, len(self)):
            return CompletedRows(values, self.modality.completed(table, values, uniforms))

    def _sampled(
        self,
        codes: Tensor,
        observed: Tensor,
        rng: Rng,
        ranks: ProcessGroup,
        on_progress: Callable[[float], None],
    ) -> Int64[Tensor, "n k"]:
        observation = PartialObservation(
            *self.modality.observed_tokens(codes, observed),
            num_candidates=N_COMPLETIONS if self.is_approximate else 0,
            forbidden=self.modality.missing_tokens,
        )
        samples = self.model.sample_dataset(
            len(codes),
            given={},
            observed=observation,
            sampling=self.sampling,
            rng=rng,
            process_group=ranks,
            on_progress=on_progress,
        )
        return samples.values

    def _guessed(
        self, codes: Tensor, observed: Tensor, rng: Rng, on_progress: Callable[[float], None]
    ) -> tuple[Int64[Tensor, "n k"], Float64[Tensor, "n k"]]:
        """Return the best guess of each unobserved cell given the observed cells of its row."""
        values, uniforms = codes.clone(), torch.full(codes.shape, 0.5, dtype=torch.float64)
        open_columns = (~observed).any(0).nonzero()[:, 0].tolist()
        for i, j in enumerate(open_columns):
            rows = ~observed[:, j]
            self._guess(values, uniforms, codes, observed, rows, j, rng, self.strategy)
            on_progress((i + 1) / len(open_columns))
        is_invalid = np.zeros(len(codes), dtype=bool)
        for pair in self.modality.schema.pairs:
            is_invalid |= violations(values.numpy(), pair)
        invalid = torch.from_numpy(is_invalid)
        if not is_invalid.any():
            return values, uniforms
        known, known_mask = codes.clone(), observed.clone()  # one cell after the other, which keeps the rules
        for j in open_columns:
            rows = ~observed[:, j] & invalid
            if rows.any():
                self._guess(known, uniforms, known, known_mask, rows, j, rng, "best")
                known_mask[rows, j] = True
        return torch.where(invalid[:, None], known, values), uniforms

    def _guess(
        self,
        values: Tensor,
        uniforms: Tensor,
        codes: Tensor,
        observed: Tensor,
        rows: Tensor,
        column: int,
        rng: Rng,
        strategy: Strategy,
    ) -> None:
        """Write the guesses of a column in some rows into `values` and `uniforms`."""
        mask = observed.clone()
        mask[~rows] = True  # no network call for the other rows
        probs = self.model.column_probs(codes, mask, column, rng=rng)[rows].numpy()
        guess = mean_guess if strategy == "mean" else best_guess
        guesses, positions = guess(probs, self.modality.schema.modelled[column])
        values[rows, column], uniforms[rows, column] = torch.from_numpy(guesses), torch.from_numpy(positions)


def make_completer(
    model: Model,
    complete: DataSource,
    rng: Rng,
    *,
    strategy: str = "sample",
    sampling: SamplerConfig | None = None,
    lenient: bool = False,
    reporter: Reporter = SILENT,
) -> Completer:
    """Read a table with unobserved cells; with `lenient`, invalid cells are read as the most similar valid cells.

    Raises:
        InputError: If the table is damaged or violates the schema.
        UsageError: If the strategy is unknown, or the model is not one of a table.
    """
    histories = model.spec.modality.view(Histories)
    if histories is not None and not histories.samples_as_frame:
        raise UsageError(
            argument="complete",
            expected="a model of a single table",
            found=f"a model of {histories.display_name}",
            remedy="Fit the file of one table, with --person and its column of persons if they have several rows",
        )
    modality = histories or _table_of(model)
    if strategy not in get_args(Strategy):
        raise UsageError.unknown_name("strategy", strategy, get_args(Strategy))
    is_path = isinstance(complete, str | os.PathLike)
    table = load_table(str(complete)) if is_path else raw_of(cast(pd.DataFrame, complete), modality)
    sampling = sampling or model.spec.sampling
    with error_context(str(complete) if is_path else "the data frame"):
        if histories is not None:
            return make_history_completer(
                model,
                table,
                rng,
                strategy=cast(Strategy, strategy),
                sampling=sampling,
                lenient=lenient,
                source_hash=_hash(table),
            )
        table_modality = _table_of(model)
        codes, observed = (table_modality.lenient if lenient else table_modality).known(table)
    for warning in outside(modality.schema, table):
        reporter.note(warning)
    completer = RowCompleter(
        model=model,
        table=table,
        codes=codes,
        observed=observed,
        strategy=cast(Strategy, strategy),
        sampling=sampling,
        rng=rng,
        source_hash=_hash(table),
    )
    if completer.is_approximate:
        reporter.log(
            "this model has a fixed column order: each row is weighted among candidates, which is approximate; fit with"
            " --objective.shuffle-prob 0.5 for exact imputation"
        )
    return completer


def _table_of(model: Model) -> Table:
    check_table_model(model)
    return cast(Table, model.spec.modality)


def check_table_model(model: Model) -> None:
    """Raise a UsageError if a model cannot impute the cells of table rows."""
    modality = model.spec.modality
    if modality.view(Table) is None or not model.family.has_row_likelihood:
        raise UsageError(
            argument="recipe",
            expected="a model of table rows, which imputes cells",
            found=f"a model of {modality.display_name} that {model.family.describe()}",
            remedy="Fit the table with recipe table or table-marginals",
        )


def raw_of(frame: pd.DataFrame, modality: Table | Histories) -> RawTable:
    """Return the cells of a data frame, with the named index levels that the schema has as columns."""
    if not isinstance(frame, pd.DataFrame):
        raise UsageError("a DataFrame with named columns", type(frame).__name__, argument="X")
    frame, _ = with_index(frame, modality.schema.names)
    check_frame(frame)
    return from_frame(frame)


def impute_frame(
    model: Model,
    frame: pd.DataFrame,
    *,
    strategy: str,
    m: int | None,
    seed: int,
    lenient: bool = False,
    reporter: Reporter = SILENT,
) -> pd.DataFrame | list[pd.DataFrame]:
    """Impute the missing cells of a data frame; with m, return m imputed data frames.

    Columns keep their order, and absent columns are appended.

    Raises:
        UsageError: If an argument is wrong, or m is given with a strategy other than `sample`.
    """
    if m is not None and (not isinstance(m, int) or isinstance(m, bool) or m < 1):
        raise UsageError("a number of imputations of at least 1", repr(m), argument="m")
    if m is not None and strategy != "sample":
        raise UsageError(
            argument="m",
            expected="strategy sample, whose imputations differ",
            found=f"strategy {strategy}",
            remedy="Leave one of the two out",
        )
    completer = make_completer(
        model, frame, Rng(seed).fold_in("sample"), strategy=strategy, lenient=lenient, reporter=reporter
    )
    reporter.start("imputing")
    frames = [_frame(rows, frame, completer.modality) for rows in imputations(completer, m or 1, reporter=reporter)]
    reporter.finish()
    return frames[0] if m is None else frames


def imputations(
    completer: Completer, m: int, ranks: ProcessGroup = SINGLE, reporter: Reporter = SILENT
) -> Iterator[CompletedRows]:
    """Yield m independent imputations of all rows."""
    for index in range(m):
        yield completer.imputation(index).parts(ranks, reporter)


def _frame(rows: CompletedRows, frame: pd.DataFrame, modality: Table | Histories) -> pd.DataFrame:
    completed = to_frame(rows.cells, modality.schema).set_axis(frame.index)
    names = [name for name in frame.columns if name in completed.columns]
    return completed[[*names, *(name for name in completed.columns if name not in names)]]


def complete_rows(completer: Completer, reporter: Reporter, ranks: ProcessGroup = SINGLE) -> tuple[Dataset, RawTable]:
    """Impute all rows; return the completed rows as a data set and as cells."""
    rows = completer.parts(ranks, reporter)
    return Dataset(rows.values, {}, completer.modality, ()), rows.cells


def _hash(table: RawTable) -> str:
    """Return a hash of the cells of a table."""
    from hashlib import blake2b

    digest = blake2b(digest_size=16)
    for name in table.columns:
        digest.update(name.encode() + b"\0")
        for cell in table.column(name):
            digest.update(cell.encode() + b"\0")
    return digest.hexdigest()

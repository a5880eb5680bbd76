"""From a model of a table to rows that had gaps, and what is outside of what it has learned."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from feller.app.reporter import Tell
from feller.core.rng import Draws
from feller.core.serialization import nearest
from feller.data.loading.find import table_cells
from feller.data.loading.raw import about
from feller.data.modality import Dataset
from feller.data.tables.categorical import Categorical
from feller.data.tables.encoding import is_blank
from feller.data.tables.modality import Table
from feller.data.tables.schema import Schema
from feller.models.generation import Known
from feller.models.model import Model
from feller.paths import AnyOrder, Graphical
from feller.sampling.sampler_config import Sampling
from feller.training.engine import engine

CELLS = (".csv", ".tsv", ".parquet")
"""Files of cells, in which what is given stands as it is written."""
WAYS = 200
"""Of filling a row, that are weighed where a model writes columns in one order."""


def complete_rows(
    model: Model, complete: str, place: pathlib.Path, sampling: Sampling, draws: Draws, tell: Tell
) -> tuple[Dataset, pathlib.Path]:
    """Fill the gaps of rows, and write them.

    Args:
        model: Of a table.
        complete: Table whose gaps are filled.
        place: Where they go.
        sampling: How symbols are drawn.
        draws: Source of all randomness.
        tell: Hears how it goes.

    Raises:
        InputError: If the table with gaps is damaged, or outside the schema.
        UsageError: If no row has what is given.
    """
    modality = cast(Table, model.description.modality)
    partial = table_cells(pathlib.Path(complete))
    with about(complete):
        codes, kept = modality.known(partial)
    for warning in outside(modality.schema, {name: partial.column(name) for name in partial.columns}):
        tell.say(warning)
    ways = 0 if _knows_any_order(model) else WAYS
    if ways:
        tell.say(
            f"this model writes columns in one order: each row is chosen among {ways} ways of filling it, which is"
            " nearly right; fit with --objective.shuffled 1 to fill them exactly"
        )
    known, here = Known(*modality.states_known(codes, kept), ways=ways, never=modality.missing_tokens), engine()
    tell.task("sampling")
    drawn = model.sample(
        len(codes), given={}, known=known, sampling=sampling, draws=draws, ranks=here, tell=tell.progress
    )
    tell.done()
    if here.is_first:
        modality.write_cells(modality.completed(partial, drawn.values), place)
    return drawn, place


def outside(schema: Schema, cells: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Say which given cells no row that is learned has, and for what they count, column by column."""
    for column in schema.modelled:
        there = [cell for cell in cells.get(column.name, ()) if not is_blank(column, cell)]
        if isinstance(column, Categorical) and column.other is not None:
            known, counts = {*column.own_names, *column.words_for_missing}, f"{column.other!r}"
            strange = [cell for cell in there if cell and cell not in known]
        else:
            counts = "the nearest that is allowed"
            strange = [cell for cell in there if column.code(cell) is None]
            if strange and column.nearest_code(strange[0]) is None:
                counts = "a missing one"
        if strange:
            more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
            hint = (
                nearest(strange[0], list(column.own_names))
                if isinstance(column, Categorical)
                else column.told_of(strange[0])
            )
            said = f"{column.name} {strange[0][:40]!r}{more}: not in the schema"
            yield f"{said}, so the rest of the row goes with {counts}; {hint}"


def _knows_any_order(model: Model) -> bool:
    path = model.description.path
    return isinstance(path, Graphical) or (isinstance(path, AnyOrder) and path.anyhow)

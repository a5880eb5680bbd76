"""From a model of a table to rows: new ones, those that hold what is given, or those that had gaps."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from feller.data.find import table_cells
from feller.data.found import about
from feller.data.modality import Dataset
from feller.data.table.categorical import Categorical
from feller.data.table.coding import is_blank
from feller.data.table.modality import Table
from feller.data.table.schema import Schema
from feller.draws import Draws
from feller.errors import UsageError
from feller.generation import Known
from feller.journeys.tell import Tell
from feller.model import Model
from feller.paths import AnyOrder, Graphical
from feller.record import nearest
from feller.sampling import Sampling

CELLS = (".csv", ".tsv", ".parquet")
"""Files of cells, in which what is given stands as it is written."""
WAYS = 200
"""Of filling a row, that are weighed where a model writes columns in one order."""


def sample_rows(
    model: Model,
    n: int,
    place: pathlib.Path,
    given: dict[str, str],
    complete: str | None,
    sampling: Sampling,
    draws: Draws,
    tell: Tell,
) -> tuple[Dataset, pathlib.Path]:
    """Draw rows, or fill the gaps of some, and write them.

    Args:
        model: Of a table.
        n: Number of new rows.
        place: Where they go.
        given: Columns of new rows that a person gives.
        complete: Table whose gaps are filled, instead.
        sampling: How symbols are drawn.
        draws: Source of all randomness.
        tell: Hears how it goes.

    Raises:
        InputError: If the table with gaps is damaged, or outside the schema.
        UsageError: If no row has what is given.
    """
    modality = cast(Table, model.description.modality)
    if complete is None:
        known = Known(*modality.states_known(*modality.asked_rows(given, n))) if given else None
        for warning in outside(modality.schema, {name: [text] for name, text in given.items()}):
            tell.say(warning)
        drawn = _drawn(model, n, known, sampling, draws, tell)
        if given and place.suffix in CELLS:
            modality.write_cells(modality.with_given(drawn.values, given), place)
        else:
            modality.write(drawn.values, drawn.given, place)
        return drawn, place
    if given:
        raise UsageError("--complete takes what is given from its table; leave --given out")
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
    known = Known(*modality.states_known(codes, kept), ways=ways)
    drawn = _drawn(model, len(codes), known, sampling, draws, tell)
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
        if strange:
            more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
            hint = nearest(strange[0], list(column.own_names)) if isinstance(column, Categorical) else column.told
            said = f"{column.name} {strange[0][:40]!r}{more}: not in the schema"
            yield f"{said}, so the rest of the row goes with {counts}; {hint}"


def _knows_any_order(model: Model) -> bool:
    path = model.description.path
    return isinstance(path, Graphical) or (isinstance(path, AnyOrder) and path.anyhow)


def _drawn(model: Model, n: int, known: Known | None, sampling: Sampling, draws: Draws, tell: Tell) -> Dataset:
    tell.task("sampling")
    drawn = model.sample(n, given={}, known=known, sampling=sampling, draws=draws, tell=tell.progress)
    tell.done()
    return drawn

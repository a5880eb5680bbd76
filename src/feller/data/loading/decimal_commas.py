"""Reading of numeric rows from tables with decimal commas."""

from dataclasses import replace

import numpy as np
import pyarrow

from feller.data.files.delimited import Sheet
from feller.data.files.plain_text import parse_number
from feller.data.labels import LABEL_NAMES
from feller.data.loading.raw import FactorizedColumn, RawPoints, RawTable, text_array
from feller.data.points.number_tables import ColumnSelector, parse_rows
from feller.data.tables.number_format import MOST_DECIMALS, NumberFormat, detect_number_format

COMMA = NumberFormat(MOST_DECIMALS, point=",")
"""Pattern of a number with a decimal comma, in files whose cells are not separated by commas."""


def parse_decimal_commas(raw: RawTable, where: str, choose: ColumnSelector) -> RawPoints | None:
    """Parse cells with decimal commas into numeric rows; None if a selected column contains mostly text.

    Args:
        raw: Table as text cells.
        where: Name of the file, for errors.
        choose: Function that selects the columns to read from all column names; if it selects none, all are read.

    Raises:
        InputError: If a cell is not a finite number, or there are no rows.
    """
    selected = choose(raw.columns)
    cells = raw.values
    for j, name in enumerate(raw.columns):
        if name.lower() not in LABEL_NAMES and (not selected or name in selected):
            rewritten = _with_points(raw.factorize(name), raw.dialect.separator)
            if rewritten is None:
                return None
            cells = cells.set_column(j, name, rewritten)
    lines = np.arange(2, len(cells) + 2) if raw.lines is None else raw.lines
    rows = parse_rows(Sheet([*raw.columns], cells, lines, dtypes=raw.dtypes), where, choose)
    if cells.equals(raw.values):
        return rows
    return replace(rows, notes=(*rows.notes, "numbers have decimal commas; samples are written with decimal points"))


def _with_points(column: FactorizedColumn, separator: str) -> pyarrow.Array | None:
    """Return the cells of a column with decimal points instead of commas; None if most cells are not numbers."""
    words = column.uniques.to_pylist()
    unparsed = [i for i, word in enumerate(words) if parse_number(word) is None]
    # In comma-separated files, a comma in a cell may separate thousands.
    form = detect_number_format([word for word in words if word]) if separator == "," else COMMA
    parsed = {} if form is None or form.before or form.after else {i: form.read(words[i]) for i in unparsed}
    texts = {i: str(value) for i, value in parsed.items() if value is not None}
    num_lost = column.counts[[i for i in unparsed if i not in texts]].sum()
    if 2 * num_lost > len(column.codes):
        return None
    return text_array([texts.get(i, word) for i, word in enumerate(words)]).take(pyarrow.array(column.codes))

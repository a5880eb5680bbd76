"""Tables whose numbers have decimal commas, as rows of numbers."""

from dataclasses import replace

import numpy as np
import pyarrow

from feller.data.files.delimited import Sheet
from feller.data.files.plain_text import number
from feller.data.labels import LABEL_NAMES
from feller.data.loading.raw import FoundRows, FoundTable, Words, text_array
from feller.data.points.tables import Choose, rows_found
from feller.data.tables.number_format import MOST_DECIMALS, NumberForm, number_form

COMMA = NumberForm(MOST_DECIMALS, point=",")
"""How numbers are written where no comma stands between cells."""


def rows_with_commas(found: FoundTable, where: str, choose: Choose) -> FoundRows | None:
    """Return cells as rows of numbers; None where a column that counts holds words for the most part.

    Those that count are chosen as for `find_table`. InputError, which names `where`, if a cell is no finite number,
    or nothing is there.
    """
    chosen = choose(found.columns)
    cells = found.values
    for j, name in enumerate(found.columns):
        if name.lower() not in LABEL_NAMES and (not chosen or name in chosen):
            written = _with_points(found.words(name), found.dialect.separator)
            if written is None:
                return None
            cells = cells.set_column(j, name, written)
    lines = np.arange(2, len(cells) + 2) if found.lines is None else found.lines
    rows = rows_found(Sheet([*found.columns], cells, lines, dtypes=found.dtypes), where, choose)
    if cells.equals(found.values):
        return rows
    return replace(rows, notes=(*rows.notes, "numbers have decimal commas; samples are written with points"))


def _with_points(found: Words, separator: str) -> pyarrow.Array | None:
    """Write the numbers of a column with points; None where most cells are words."""
    words = found.words.to_pylist()
    odd = [i for i, word in enumerate(words) if number(word) is None]
    form = number_form([word for word in words if word]) if separator == "," else COMMA  # else thousands, perhaps
    known = {} if form is None or form.before or form.after else {i: form.read(words[i]) for i in odd}
    numbers = {i: str(value) for i, value in known.items() if value is not None}
    lost = found.counts[[i for i in odd if i not in numbers]].sum()
    if 2 * lost > len(found.places):
        return None
    return text_array([numbers.get(i, word) for i, word in enumerate(words)]).take(pyarrow.array(found.places))

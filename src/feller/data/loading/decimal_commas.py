"""Tables whose numbers have decimal commas, as rows of numbers."""

from collections.abc import Sequence
from dataclasses import replace

from feller.data.files.plain_text import number
from feller.data.labels import LABEL_NAMES
from feller.data.loading.raw import FoundRows, FoundTable
from feller.data.points.tables import Choose, rows_found
from feller.data.tables.number_format import MOST_DECIMALS, NumberForm, number_form

COMMA = NumberForm(MOST_DECIMALS, point=",")
"""How numbers are written where no comma stands between cells."""


def rows_with_commas(found: FoundTable, where: str, choose: Choose) -> FoundRows | None:
    """Return cells as rows of numbers; None where a column that counts holds words for the most part.

    Args:
        found: The cells of a file.
        where: Its name.
        choose: Which columns count, as for `find_table`.

    Raises:
        InputError: If a cell is no finite number, or nothing is there.
    """
    chosen = choose(found.columns)
    cells = found.values.copy()
    for j, name in enumerate(found.columns):
        if name.lower() not in LABEL_NAMES and (not chosen or name in chosen):
            written = _with_points(cells[:, j].tolist(), found.dialect.separator)
            if written is None:
                return None
            cells[:, j] = written
    lines = range(2, len(cells) + 2) if found.lines is None else found.lines.tolist()
    rows = rows_found(iter([(1, [*found.columns]), *zip(lines, cells.tolist(), strict=True)]), where, choose)
    if (cells == found.values).all():
        return rows
    return replace(rows, notes=(*rows.notes, "numbers have decimal commas; samples are written with points"))


def _with_points(cells: Sequence[str], separator: str) -> list[str] | None:
    """Write the numbers of a column with points; None where most cells are words."""
    odd = {cell for cell in cells if number(cell) is None}
    form = number_form([cell for cell in cells if cell]) if separator == "," else COMMA  # else thousands, perhaps
    known = {} if form is None or form.before or form.after else {cell: form.read(cell) for cell in odd}
    numbers = {cell: str(value) for cell, value in known.items() if value is not None}
    if 2 * sum(cell in odd and cell not in numbers for cell in cells) > len(cells):
        return None
    return [numbers.get(cell, cell) for cell in cells]

"""Tabs: fill in what is missing, a part of a picture, gaps of a text, cells of rows."""

import csv
from typing import Any

import numpy as np
from PIL import Image

from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.reporter import Tell
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.sample_views import draw, kinds_of, picture, result_of, save_picture
from feller.app.webui.tab import Answers, Kind, PageContext, Result, Tab, condition_controls
from feller.app.webui.tabs.restoring import MAX_PICTURES, any_sample, at_size, explain
from feller.app.webui.widgets import MARKS, canvas, cells, drawing, number, on_canvas, seed, text
from feller.app.workflows.sample import sample
from feller.core.errors import UsageError
from feller.data.files.sample_folder import GAP
from feller.data.tables.modality import Table
from feller.data.tables.unmodelled_columns import FreeText, Identifier
from feller.data.text.modality import Text

CANVAS = 400
"""Pixels of the longer side of what is drawn on, about."""


def drawn_over(sent: Any) -> tuple[Image.Image, Image.Image]:
    """Return the picture of a canvas and what is to be filled in of it, white on black.

    Raises:
        UsageError: If one of both is missing.
    """
    below, mask = drawing(sent)
    if below is None:
        raise UsageError("put a picture there first, your own or one of the model")
    if mask is None:
        raise UsageError("draw over what is to be filled in")
    return below, mask


def picture_fill_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that fills in a part of a picture."""
    modality = run.restores
    if modality is None:
        return None
    small = (modality.width, modality.height)
    scale = max(1, CANVAS // max(small))
    size = (small[0] * scale, small[1] * scale)

    def first() -> dict[str, Any]:
        """Return a sample, magnified."""
        drawn = any_sample(run, modality, page.room())
        shown = modality.show(drawn.values, drawn.given)
        inside = shown.crop((GAP, GAP, shown.width - GAP, shown.height - GAP))
        return on_canvas(inside.resize(size, Image.Resampling.NEAREST))

    def fill(answers: Answers, tell: Tell) -> Result:
        room = page.room()
        below, mask = drawn_over(answers["mask"])
        filled = np.asarray(mask.resize(small, Image.Resampling.BOX)) >= 128  # where half of a pixel is drawn over
        seen, hole = at_size(below, modality), Image.fromarray(np.where(filled, 255, 0).astype(np.uint8))
        seen.save(room / "seen.png")
        hole.save(room / "hole.png")
        found = explain(run, modality, room / "seen.png", "inpaint", answers, tell, mask=str(room / "hole.png"))
        asked = seen.convert("RGB")
        asked.paste(MARKS[0], (0, 0), hole)
        shown = (save_picture(asked, room, "What was asked"), picture(found.samples, room, "Filled in"))
        return Result(pictures=shown, files=(found.place,))

    return Tab(
        name="Fill in",
        about="Draw over a part of a picture. It is made anew, and all else stays.",
        controls={
            "mask": canvas("Picture", size, brush=max(size) // 10),
            "n": number("How many", 9, 1, MAX_PICTURES),
            **condition_controls(run),
            "seed": seed(),
        },
        run=fill,
        shows=(Kind.PICTURES, Kind.FILES),
        button="Fill in",
        pictures=2,
        first=("mask", first),
    )


def text_fill_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that fills in gaps of a text, or goes on with it."""
    if not run.is_plain or run.data(Text) is None:
        return None

    def fill(answers: Answers, tell: Tell) -> Result:
        return result_of(run, *draw(run, page, answers, tell, known=answers["known"]))

    return Tab(
        name="Fill in",
        about="Write a beginning, and the model goes on; or leave gaps, one underscore for each missing symbol.",
        controls={
            "known": text("Text", example="ROMEO: What ____ is this?", lines=5),
            "n": number("How many", 1, 1, run.display.most),
            **condition_controls(run),
            "seed": seed(),
        },
        run=fill,
        shows=kinds_of(run),
        button="Go on, or fill in",
    )


def row_fill_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that fills in cells of rows."""
    modality = run.data(Table)
    if not run.is_plain or modality is None:
        return None
    columns = tuple(
        column.name for column in modality.schema.written_columns if not isinstance(column, Identifier | FreeText)
    )

    def fill(answers: Answers, tell: Tell) -> Result:
        room = page.room()
        rows = [["" if cell is None else str(cell) for cell in row] for row in answers["complete"]]
        rows = [row for row in rows if any(map(str.strip, row))]
        if not rows:
            raise UsageError("type at least one cell of a row; the empty ones are filled in")
        with (room / "partial.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
        partial, out = str(room / "partial.csv"), str(room / "samples.csv")
        drawn = sample(run.run, config_of(SampleConfig, out=out, complete=partial, seed=answers["seed"]), tell=tell)
        return result_of(run, drawn.dataset, drawn.place)

    return Tab(
        name="Fill in",
        about="Type the cells that are known. Those that are empty are filled in, row by row.",
        controls={"complete": cells("Rows", columns, _example(modality, columns)), "seed": seed()},
        run=fill,
        shows=(Kind.TABLE, Kind.FILES),
        button="Fill in",
    )


def _example(modality: Table, columns: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Return rows to begin with: empty, but for one cell of a usual value, the middle one of a column's."""
    first, empty = [""] * len(columns), ("",) * len(columns)
    named = next((c for c in modality.schema.modelled if c.value_names and c.name in columns), None)
    if named is not None:
        middle = np.full(1, (named.num_values - 1) // 2, dtype=np.int64)
        first[columns.index(named.name)] = str(named.value_cells(middle, np.full(1, 0.5))[0])
    return (tuple(first), empty, empty)

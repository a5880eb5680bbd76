"""Tabs "Fill in": image inpainting, text infilling, and imputation of table cells."""

import csv
from typing import Any

import numpy as np
from PIL import Image

from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.reporter import Reporter
from feller.app.webui.condition_controls import condition_controls
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.sample_views import draw, draw_picture, kinds_of, save_picture, tab_result
from feller.app.webui.tab import Answers, OutputKind, PageContext, Tab, TabResult
from feller.app.webui.tabs.restoration_tab import MAX_PICTURES, at_size, random_sample, solve_inverse
from feller.app.webui.widgets import BRUSH_COLOURS, canvas, canvas_value, cells, number, read_canvas, seed, text_field
from feller.app.workflows.sample import sample
from feller.core.errors import UsageError
from feller.data.files.sample_folder import GAP
from feller.data.tables.modality import Table
from feller.data.tables.unmodelled_columns import FreeText, Identifier
from feller.data.text.modality import Text

CANVAS = 400
"""Approximate length in pixels of the longer side of the canvas."""


def read_mask_canvas(sent: Any) -> tuple[Image.Image, Image.Image]:
    """Return the image on a canvas, and the mask of the region to inpaint (white on black).

    Raises:
        UsageError: If the image or the mask is missing.
    """
    below, mask = read_canvas(sent)
    if below is None:
        raise UsageError("add an image first: upload one, or use a sample of the model")
    if mask is None:
        raise UsageError("draw over the part to fill in")
    return below, mask


def picture_fill_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that inpaints images with an image model; None for other models."""
    modality = run.restorable_images
    if modality is None:
        return None
    small = (modality.width, modality.height)
    scale = max(1, CANVAS // max(small))
    size = (small[0] * scale, small[1] * scale)

    def first() -> dict[str, Any]:
        samples = random_sample(run, modality, page.new_result_folder())
        shown = modality.show(samples.values, samples.given)
        inside = shown.crop((GAP, GAP, shown.width - GAP, shown.height - GAP))
        return canvas_value(inside.resize(size, Image.Resampling.NEAREST))

    def fill(answers: Answers, reporter: Reporter) -> TabResult:
        room = page.new_result_folder()
        below, mask = read_mask_canvas(answers["mask"])
        filled = np.asarray(mask.resize(small, Image.Resampling.BOX)) >= 128  # pixels covered by at least half
        observed, hole = at_size(below, modality), Image.fromarray(np.where(filled, 255, 0).astype(np.uint8))
        observed.save(room / "seen.png")
        hole.save(room / "hole.png")
        solution = solve_inverse(
            run, modality, room / "seen.png", "inpaint", answers, reporter, mask=str(room / "hole.png")
        )
        masked_image = observed.convert("RGB")
        masked_image.paste(BRUSH_COLOURS[0], (0, 0), hole)
        shown = (save_picture(masked_image, room, "Masked input"), draw_picture(solution.samples, room, "Filled in"))
        return TabResult(pictures=shown, files=(solution.path,))

    return Tab(
        name="Fill in",
        description="Draw over the part of an image to inpaint; the rest is kept.",
        controls={
            "mask": canvas("Image", size, brush=max(size) // 10),
            "n": number("Number of samples", 9, 1, MAX_PICTURES),
            **condition_controls(run),
            "seed": seed(),
        },
        handler=fill,
        outputs=(OutputKind.PICTURES, OutputKind.FILES),
        button="Fill in",
        max_pictures=2,
        initial_value=("mask", first),
    )


def text_fill_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that fills gaps in a text or continues it; None for other models."""
    if not run.is_sampled or run.modality_as(Text) is None:
        return None

    def fill(answers: Answers, reporter: Reporter) -> TabResult:
        return tab_result(run, *draw(run, page, answers, reporter, template=answers["known"]))

    return Tab(
        name="Fill in",
        description="Continue a text, or fill its gaps: one underscore per missing token.",
        controls={
            "known": text_field("Text", example="ROMEO: What ____ is this?", lines=5),
            "n": number("Number of samples", 1, 1, run.display.max_n),
            **condition_controls(run),
            "seed": seed(),
        },
        handler=fill,
        outputs=kinds_of(run),
        button="Continue or fill in",
    )


def row_fill_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that imputes missing cells of table rows; None for other models."""
    modality = run.modality_as(Table)
    if not run.is_sampled or modality is None:
        return None
    columns = tuple(
        column.name for column in modality.schema.written_columns if not isinstance(column, Identifier | FreeText)
    )

    def fill(answers: Answers, reporter: Reporter) -> TabResult:
        room = page.new_result_folder()
        rows = [["" if cell is None else str(cell) for cell in row] for row in answers["complete"]]
        rows = [row for row in rows if any(map(str.strip, row))]
        if not rows:
            raise UsageError("enter at least one cell of a row; empty cells are filled in")
        with (room / "partial.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
        partial, out = str(room / "partial.csv"), str(room / "samples.csv")
        result = sample(
            run.run, config_of(SampleConfig, out=out, complete=partial, seed=answers["seed"]), reporter=reporter
        )
        return tab_result(run, result.dataset, result.path)

    return Tab(
        name="Fill in",
        description="Enter the known cells of rows; the empty ones are filled in.",
        controls={"complete": cells("Rows", columns, _example(modality, columns)), "seed": seed()},
        handler=fill,
        outputs=(OutputKind.TABLE, OutputKind.FILES),
        button="Fill in",
    )


def _example(modality: Table, columns: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Return initial rows for the table: empty except for the median value of one column."""
    first, empty = [""] * len(columns), ("",) * len(columns)
    named = next((c for c in modality.schema.modelled if c.value_names and c.name in columns), None)
    if named is not None:
        middle = np.full(1, (named.num_values - 1) // 2, dtype=np.int64)
        first[columns.index(named.name)] = str(named.value_cells(middle, np.full(1, 0.5))[0])
    return (tuple(first), empty, empty)

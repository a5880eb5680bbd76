"""Fill in what is missing: a part of a picture, gaps of a text, cells of rows."""

import csv
import pathlib
from typing import cast

import numpy as np
from PIL import Image

from feller.app.reporter import Tell
from feller.app.webui.controls import MARKS, Cells, Drawing, Drawn, Number, Words
from feller.app.webui.loaded_run import Opened
from feller.app.webui.sample_views import drawn_of, kinds_of, outcome, picture, saved
from feller.app.webui.tab import Ability, Answers, Kind, Outcome, Place, Tab, guides
from feller.app.webui.tabs.restoring import MOST_PICTURES, any_sample, at_size, explained, explains_pictures
from feller.app.webui.tabs.sample import MOST_TEXTS, seeded
from feller.app.workflows.sample import sample
from feller.core.errors import UsageError
from feller.data.files.sample_folder import GAP
from feller.data.images.modality import Images
from feller.data.tables.modality import Table
from feller.data.tables.unmodelled_columns import FreeText, Identifier

CANVAS = 400
"""Pixels of the longer side of what is drawn on, about."""


def _of_pictures(one: Opened, place: Place) -> Tab:
    modality = cast(Images, one.modality)
    scale = max(1, CANVAS // max(modality.height, modality.width))
    size = (modality.width * scale, modality.height * scale)

    def first() -> Image.Image:
        """Return a sample, magnified."""
        drawn = any_sample(one, modality, place.scratch.room())
        shown = modality.show(drawn.values, drawn.given)
        inside = shown.crop((GAP, GAP, shown.width - GAP, shown.height - GAP))
        return inside.resize(size, Image.Resampling.NEAREST)

    def does(answers: Answers, tell: Tell) -> Outcome:
        room = place.scratch.room()
        seen, hole = _at_size(answers["drawing"], modality)
        seen.save(room / "seen.png")
        hole.save(room / "hole.png")
        mask = str(room / "hole.png")
        found = explained(one, modality, room / "seen.png", "inpaint", answers, tell, mask=mask)
        shown = picture(found.samples, room, "Filled in")
        asked = _asked(seen, hole)
        return Outcome(pictures=(saved(asked, room, "What was asked"), shown), files=(found.place,))

    return Tab(
        about="Draw over a part of a picture. It is made anew, and all else stays.",
        controls={
            "drawing": Drawing(label="Picture", size=size, first=first, flags=("--observe", "--mask")),
            "n": Number(label="How many", value=9, least=1, most=MOST_PICTURES),
            **guides(one),
            "seed": seeded(),
        },
        does=does,
        shows=(Kind.PICTURES, Kind.FILES),
        button="Fill in",
        pictures=2,
    )


def _at_size(drawn: Drawn, modality: Images) -> tuple[Image.Image, Image.Image]:
    """Return picture and hole at the size of the model: a pixel is to be filled where half of it is drawn over."""
    size = (modality.width, modality.height)
    share = np.asarray(drawn.mask.resize(size, Image.Resampling.BOX))
    return at_size(drawn.picture, modality), Image.fromarray(np.where(share >= 128, 255, 0).astype(np.uint8))


def _asked(seen: Image.Image, hole: Image.Image) -> Image.Image:
    """Return a picture whose hole has the colour of what was drawn over it."""
    shown = seen.convert("RGB")
    shown.paste(MARKS[0], (0, 0), hole)
    return shown


def _of_text(one: Opened, place: Place) -> Tab:
    def does(answers: Answers, tell: Tell) -> Outcome:
        drawn, file = drawn_of(one, place, answers, tell, known=answers["known"])
        return outcome(one, drawn, file)

    return Tab(
        about="Write a beginning, and the model goes on; or leave gaps, one underscore for each missing symbol.",
        controls={
            "known": Words(label="Text", example="ROMEO: What ____ is this?", lines=5, flags=("--known",)),
            "n": Number(label="How many", value=1, least=1, most=MOST_TEXTS),
            **guides(one),
            "seed": seeded(),
        },
        does=does,
        shows=kinds_of(one),
        button="Go on, or fill in",
    )


def _of_rows(one: Opened, place: Place) -> Tab:
    modality = cast(Table, one.modality)
    columns = tuple(column.name for column in modality.schema.made if not isinstance(column, Identifier | FreeText))
    example = _example(modality, columns)

    def does(answers: Answers, tell: Tell) -> Outcome:
        room = place.scratch.room()
        partial = room / "partial.csv"
        _write(partial, columns, answers["cells"])
        drawn, file = sample(
            one.run, out=str(room / "samples.csv"), complete=str(partial), seed=answers["seed"], tell=tell
        )
        return outcome(one, drawn, file)

    return Tab(
        about="Type the cells that are known. Those that are empty are filled in, row by row.",
        controls={"cells": Cells(label="Rows", columns=columns, rows=example, flags=("--complete",)), "seed": seeded()},
        does=does,
        shows=(Kind.TABLE, Kind.FILES),
        button="Fill in",
    )


def _example(modality: Table, columns: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Return rows to begin with: empty, but for one cell of a usual value, the middle one of a column's."""
    empty = ("",) * len(columns)
    named = next((c for c in modality.schema.modelled if c.own_names and c.name in columns), None)
    if named is None:
        return (empty,) * 3
    first = [""] * len(columns)
    middle = np.full(1, (named.own_count - 1) // 2, dtype=np.int64)
    first[columns.index(named.name)] = named.own_cells(middle, np.full(1, 0.5))[0]
    return (tuple(first), empty, empty)


def _write(path: pathlib.Path, columns: tuple[str, ...], rows: list[list[str]]) -> None:
    if not rows:
        raise UsageError("type at least one cell of a row; the empty ones are filled in")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


FILL_PICTURE = Ability(name="Fill in", has=explains_pictures, tab=_of_pictures)
FILL_TEXT = Ability(name="Fill in", has=lambda one, place: one.is_plain and one.is_text, tab=_of_text)
FILL_ROWS = Ability(
    name="Fill in", has=lambda one, place: one.is_plain and isinstance(one.modality, Table), tab=_of_rows
)

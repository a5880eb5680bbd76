"""Draw samples for a visitor, and show them."""

import csv
import pathlib
from collections.abc import Sequence
from typing import Any, cast

import torch
from PIL import Image

from feller.app.reporter import Tell
from feller.app.webui.loaded_run import Opened
from feller.app.webui.tab import Answers, Kind, Outcome, Place, Rows, Shown, given_of, guidance_of
from feller.app.workflows.sample import sample
from feller.data.files.delimited import dialect_of
from feller.data.modality import Dataset, Modality
from feller.data.points.points import Points
from feller.data.text.modality import Text

ENDINGS = (".cif", ".xyz", ".pdb", ".csv", ".txt", ".npz")
"""Of a file to download, in the order of preference."""
MOST_ROWS = 100
"""Of a table that are shown; the file has all."""
MOST_SHOWN = 100
"""Samples in one picture, where they are no points."""
ENOUGH = 480
"""Pixels of the longer side of a picture, about."""
NAME = "samples"


def place_in(room: pathlib.Path, modality: Modality) -> pathlib.Path:
    """Return the file that samples of a kind are written to."""
    endings = (".txt",) if isinstance(modality, Text) else ENDINGS
    return room / f"{NAME}{next(ending for ending in endings if ending in modality.forms)}"


def kinds_of(one: Opened) -> tuple[Kind, ...]:
    """Return how samples of a run are shown."""
    if one.is_text:
        return Kind.WORDS, Kind.FILES
    return (Kind.TABLE if one.is_rows else Kind.PICTURES), Kind.FILES


def outcome(one: Opened, drawn: Dataset, file: pathlib.Path, *, said: str = "", caption: str = "Samples") -> Outcome:
    """Return what is shown of samples that were written to a file."""
    modality = drawn.modality
    said = "\n".join(filter(None, (said, _left_out(one, drawn, file))))
    if isinstance(modality, Text):
        return Outcome(said=said, words=as_words(modality.texts(drawn.values)), files=(file,))
    if one.is_rows:
        return Outcome(said=said, table=rows_in(file), files=(file,))
    return Outcome(said=said, pictures=(picture(drawn, file.parent, caption),), files=(file,))


def _several(drawn: Dataset) -> bool:
    """Tell whether each sample is a picture of its own; all points go into one plot."""
    return getattr(drawn.values, "ndim", 0) != 2


def _left_out(one: Opened, drawn: Dataset, file: pathlib.Path) -> str:
    """Say how many are shown, where not all are, and where all are."""
    most = MOST_ROWS if one.is_rows else MOST_SHOWN if _several(drawn) and not one.is_text else len(drawn)
    if len(drawn) <= most:
        return ""
    return f"the first {most:,} of {len(drawn):,} are shown; all are in {file.name}"


def picture(drawn: Dataset, room: pathlib.Path, caption: str) -> Shown:
    """Draw samples into a file."""
    some = _first(drawn)
    return saved(some.modality.show(some.values, some.given), room, caption)


def pictures(
    sides: tuple[Dataset, Dataset], room: pathlib.Path, captions: Sequence[str], behind: Dataset | None = None
) -> tuple[Shown, ...]:
    """Draw two sets of samples into files, at one scale where they have one, so that they compare.

    Args:
        sides: Of one kind.
        room: Where the files go.
        captions: Of both.
        behind: Points that are seen in grey behind both.
    """
    from feller.app.workflows.reporting.comparison import side_by_side  # takes long to load

    first, second = map(_first, sides)
    if not _compare(first.modality, second.modality):
        return tuple(picture(some, room, caption) for some, caption in zip(sides, captions, strict=True))
    return tuple(map(saved, side_by_side(first, second, behind), (room, room), captions))


def _compare(one: Modality, other: Modality) -> bool:
    """Tell whether samples of two kinds fit into one picture."""
    if isinstance(one, Points) and isinstance(other, Points):
        return one.columns == other.columns
    return one == other


def _first(drawn: Dataset) -> Dataset:
    """Return those that are shown."""
    return drawn.subset(torch.arange(min(len(drawn), MOST_SHOWN))) if _several(drawn) else drawn


def saved(image: Image.Image, room: pathlib.Path, caption: str) -> Shown:
    """Write a picture to a file of its own."""
    path = room / f"picture-{len(list(room.glob('picture-*.png')))}.png"
    large(image).save(path)
    return Shown(caption, path)


def large(image: Image.Image) -> Image.Image:
    """Return a picture that is large enough to be looked at; small ones grow by a whole number, without blur."""
    factor = max(1, ENOUGH // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def as_words(texts: Sequence[str]) -> str:
    """Return texts below each other, each after a line that counts; a single one as it is."""
    if len(texts) == 1:
        return texts[0]
    return "\n\n".join(f"--- {i}\n{text}" for i, text in enumerate(texts, 1))


def rows_in(file: pathlib.Path) -> Rows:
    """Read the first rows of a table that was written."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=dialect_of(file).separator)
        names = tuple(next(reader))
        return Rows(names, tuple(tuple(row) for row, _ in zip(reader, range(MOST_ROWS), strict=False)))


def drawn_of(one: Opened, place: Place, answers: Answers, tell: Tell, **more: Any) -> tuple[Dataset, pathlib.Path]:
    """Draw as many as asked for, with the conditions, the guidance and the seed that were set.

    Args:
        one: The run.
        place: Of the page.
        answers: What was set.
        tell: Hears how it goes.
        more: What else `feller.app.workflows.sample` takes; what is named here comes first.

    Returns:
        The samples, and the file that holds them, alone in its folder.
    """
    modality = cast(Modality, one.modality)
    if "given" not in more:
        more["given"] = given_of(answers, modality)
    if "guidance" not in more:
        more["guidance"] = guidance_of(answers)
    out = str(place_in(place.scratch.room(), modality))
    return sample(one.run, answers["n"], out=out, seed=answers["seed"], tell=tell, **more)

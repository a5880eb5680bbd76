"""Sizes and descriptions of what samples are compared with, and side-by-side figures."""

import pathlib
from dataclasses import dataclass

import torch
from PIL import Image

from feller.core.pytree import leaves
from feller.data.images.labelled import Labelled
from feller.data.modality import Dataset
from feller.data.molecules.figure import balls
from feller.data.molecules.modality import Molecules
from feller.data.points.points import Points
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.figure import traces
from feller.data.proteins.frames import CA
from feller.data.proteins.modality import Proteins, structures
from feller.data.tables.mixed import as_table
from feller.data.tables.modality import Table
from feller.data.text.figure import MOST as MAX_TEXTS
from feller.data.text.modality import Text
from feller.evaluation.comparison import enough, real_data
from feller.evaluation.effort import Effort


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What was compared with what."""

    generated: Dataset
    train: Dataset
    held_out: Dataset
    """What a fit kept back, or `data`."""
    samples: str | None
    """Where the samples were read; None if the run drew them."""
    data: str | None
    """What the user named to compare with; None for what was kept back."""
    before: Dataset | None = None
    """Samples of the base of a tuned run, from the same source points."""

    @property
    def name(self) -> str:
        """Name of the report: a run's own is `report`, others are called after what was named."""
        return "-".join(["report", *map(stem, filter(None, (self.samples, self.data)))])

    @property
    def sentence(self) -> str:
        """Say what was judged, and beside what."""
        drawn = f"{len(self.generated):,} samples " + (f"in {self.samples}" if self.samples else "drawn for this page")
        real, whose = len(real_data(self.train, self.held_out)), "held out" if self.data is None else f"in {self.data}"
        if enough(self.held_out):
            return f"Judged: {drawn}, beside {real:,} real examples {whose}."
        why = f"since only {len(self.held_out):,} are {whose}" if len(self.held_out) else f"since none are {whose}"
        return f"Judged: {drawn}, beside {real:,} training examples, {why}."


def stem(place: str) -> str:
    """Return a word for a file with its ending, a folder or an example."""
    short = place.removeprefix("example:") if place.startswith("example:") else pathlib.Path(place).name
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in short)


ROWS_A_SECOND = 400
"""Rows of a table for each second of an evaluation."""
MOST_SAMPLES, MOST_LARGE, MOST_TEXTS, MOST_ROWS = 1000, 300, 100, 50_000
"""Drawn for the numbers, of states up to 1,024 numbers, of larger ones, of texts, of rows of a table; not more than the
training set holds, so that the floor is measured at the same size."""


def number_shown(data: Dataset, effort: Effort = Effort()) -> int:  # noqa: B008 - frozen
    """Return how many examples are drawn, beside such training data; of a table as many as its models learn in time."""
    if effort.n is not None:
        return max(effort.n, 2)
    rows = isinstance(as_table(data).modality, Table) and effort.seconds is not None
    most = min(_most(data), int(ROWS_A_SECOND * (effort.seconds or 0.0))) if rows else _most(data)
    return min(most, max(len(data), 2))


def _most(data: Dataset) -> int:
    if isinstance(data.modality, Text):
        return MOST_TEXTS
    if isinstance(as_table(data).modality, Table):
        return MOST_ROWS
    numbers = sum(leaf[0].numel() for leaf in leaves(data.values))
    return MOST_SAMPLES if numbers <= 1024 else MOST_LARGE


def from_all_over(data: Dataset, number: int) -> Dataset:
    """Return examples from all over the data, as neighbouring windows of a text overlap, sorted by class.

    Of texts, of which a page holds few, no more than it holds: sorted, others would push all but the first class out.
    """
    number = min(number, MAX_TEXTS) if isinstance(data.modality, Text) else number
    label = data.values["label"] if isinstance(data.modality, Labelled) else data.given.get("label")
    rows = torch.arange(number) * len(data) // max(number, 1)
    if label is None:
        return data.subset(rows)
    by_class = label.cpu().argsort(stable=True)
    return data.subset(by_class[rows])  # each class with its share of the data


def side_by_side(first: Dataset, second: Dataset, behind: Dataset | None = None) -> tuple[Image.Image, Image.Image]:
    """Draw two sets of one kind, at one scale where what is drawn has lengths; points have others in grey behind."""
    kind = first.modality
    if isinstance(kind, Proteins):
        return side_by_side(structures(first), structures(second))
    if isinstance(kind, Backbones):
        a, b = ([atoms[:, CA] for atoms in kind.chains(some.values, some.given)] for some in (first, second))
        return traces(a, beside=b), traces(b, beside=a)
    if isinstance(kind, Molecules):
        one, other = (kind.molecules(some.values, some.given) for some in (first, second))
        return balls(one, beside=other), balls(other, beside=one)
    if isinstance(kind, Points):
        return kind.show_beside(first, second, behind), kind.show_beside(second, first, behind)
    return kind.show(first.values, first.given), second.modality.show(second.values, second.given)

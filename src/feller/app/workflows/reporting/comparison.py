"""Sizes and descriptions of what samples are compared with."""

import pathlib
from dataclasses import dataclass

import torch

from feller.app.modalities.registration import registration_of
from feller.data.modality import Dataset
from feller.evaluation.comparison import has_enough_held_out, reference_data
from feller.evaluation.evaluation_budget import EvaluationBudget

IN_MEMORY, IN_HAND = "memory", "samples-in-memory"
"""Names of data and of samples that were given in memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleComparison:
    """What was compared with what."""

    generated: Dataset
    train: Dataset
    held_out: Dataset
    """What a fit kept back, or `data`."""
    samples: str | None
    """Where the samples were read; None if the run drew them."""
    data: str | None
    """What the user named to compare with; None for what was kept back."""
    has_train: bool = True
    """True if `train` holds the training data of the run; else it repeats the held-out data."""
    base_samples: Dataset | None = None
    """Samples of the base of a tuned run, from the same source points."""

    @property
    def name(self) -> str:
        """Name of the report: a run's own is `report`, others are called after what was named."""
        return "-".join(["report", *map(stem, filter(None, (self.samples, self.data)))])

    @property
    def sentence(self) -> str:
        """Say what was judged, and beside what."""
        samples_text = f"{len(self.generated):,} samples " + (
            f"in {self.samples}" if self.samples else "drawn for this page"
        )
        real, whose = (
            len(reference_data(self.train, self.held_out)),
            "held out" if self.data is None else f"in {self.data}",
        )
        if has_enough_held_out(self.held_out) or not self.has_train:
            real = len(self.held_out)
            return f"Judged: {samples_text}, beside {real:,} real examples {whose}."
        why = f"since only {len(self.held_out):,} are {whose}" if len(self.held_out) else f"since none are {whose}"
        return f"Judged: {samples_text}, beside {real:,} training examples, {why}."


def stem(place: str) -> str:
    """Return a word for a file with its ending, a folder or an example."""
    short = place.removeprefix("example:") if place.startswith("example:") else pathlib.Path(place).name
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in short)


def n_report_samples(data: Dataset, effort: EvaluationBudget = EvaluationBudget()) -> int:  # noqa: B008 - frozen
    """Return how many examples are drawn beside such training data, no more than these: floors have that size."""
    if effort.n is not None:
        return max(effort.n, 2)
    return min(registration_of(data.modality).max_samples(data, effort.seconds), max(len(data), 2))


def evenly_spaced(data: Dataset, number: int) -> Dataset:
    """Return examples from all over the data, as neighbouring windows of a text overlap, sorted by class.

    Of kinds of which a page holds few, no more than it holds: sorted, others would push all but the first class out.
    """
    kind = registration_of(data.modality)
    number = number if kind.page_size is None else min(number, kind.page_size)
    label = kind.label(data)
    rows = torch.arange(number) * len(data) // max(number, 1)
    if label is None:
        return data.subset(rows)
    by_class = label.cpu().argsort(stable=True)
    return data.subset(by_class[rows])  # each class with its share of the data

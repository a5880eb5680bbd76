"""Samples, and the real data with which a report compares them."""

import pathlib
from dataclasses import dataclass

import torch

from feller.app.modalities.registration import registration_of
from feller.data.modality import Dataset
from feller.evaluation.comparison import has_enough_held_out, reference_data
from feller.evaluation.evaluation_budget import EvaluationBudget

IN_MEMORY, IN_HAND = "memory", "samples-in-memory"
"""Names of data and of samples that were passed in memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleComparison:
    """Samples, the real data to compare them with, and where both come from."""

    generated: Dataset
    train: Dataset
    held_out: Dataset
    """Held-out examples of the run, or the other data that the user named."""
    samples: str | None
    """Path of the samples; None if the run generated them."""
    data: str | None
    """Path or name of the data to compare with; None for the held-out examples of the run."""
    has_train: bool = True
    """True if `train` is the training set of the run; otherwise `train` repeats the held-out data."""
    base_samples: Dataset | None = None
    """Samples of the base model from the same initial noise, for a fine-tuned run."""

    @property
    def name(self) -> str:
        """File name of the report without suffix: `report`, then the names of samples and data, if given."""
        return "-".join(["report", *map(stem, filter(None, (self.samples, self.data)))])

    @property
    def sentence(self) -> str:
        """Sentence about the samples and the data they are compared with."""
        samples_text = f"{len(self.generated):,} samples " + (
            f"in {self.samples}" if self.samples else "drawn for this report"
        )
        real, whose = (
            len(reference_data(self.train, self.held_out)),
            "held out" if self.data is None else f"in {self.data}",
        )
        if has_enough_held_out(self.held_out) or not self.has_train:
            real = len(self.held_out)
            return f"Compared: {samples_text}, with {real:,} real examples {whose}."
        why = f"since only {len(self.held_out):,} are {whose}" if len(self.held_out) else f"since none are {whose}"
        return f"Compared: {samples_text}, with {real:,} training examples, {why}."


def stem(place: str) -> str:
    """Return a word that is safe in file names, for a file, a folder or an example."""
    short = place.removeprefix("example:") if place.startswith("example:") else pathlib.Path(place).name
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in short)


def n_report_samples(data: Dataset, effort: EvaluationBudget = EvaluationBudget()) -> int:  # noqa: B008 - frozen
    """Return the number of samples for a report, at most the training set size because of the noise floors."""
    if effort.n is not None:
        return max(effort.n, 2)
    return min(registration_of(data.modality).max_samples(data, effort.seconds), max(len(data), 2))


def evenly_spaced(data: Dataset, number: int) -> Dataset:
    """Return evenly spaced examples, sorted by class, since neighbours such as windows of a text may overlap.

    The number is at most the modality's `page_size`: otherwise the figure would show the first class only.
    """
    kind = registration_of(data.modality)
    number = number if kind.page_size is None else min(number, kind.page_size)
    label = kind.label(data)
    rows = torch.arange(number) * len(data) // max(number, 1)
    if label is None:
        return data.subset(rows)
    by_class = label.cpu().argsort(stable=True)
    return data.subset(by_class[rows])  # class proportions as in the data

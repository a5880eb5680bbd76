"""Container for samples and for the real data with which a report compares the samples."""

import pathlib
from dataclasses import dataclass

import torch

from feller.app.modalities.registration import registration_of
from feller.data.modality import Dataset
from feller.evaluation.comparison import has_enough_held_out, reference_data
from feller.evaluation.evaluation_budget import EvaluationBudget

IN_MEMORY, IN_HAND = "memory", "samples-in-memory"
"""Words that a report uses as the name of data, and of samples, that were passed as Python objects."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleComparison:
    """Samples, the real data to compare with the samples, and the sources of both."""

    generated: Dataset
    train: Dataset
    held_out: Dataset
    """Held-out examples of the run, or other data that the user named for the comparison."""
    samples: str | None
    """Path of the samples; None if the run generated them."""
    data: str | None
    """Path or name of the data to compare with; None for the held-out examples of the run."""
    has_train: bool = True
    """True if `train` is the training set of the run; otherwise `train` repeats the held-out data."""
    base_samples: Dataset | None = None
    """For a fine-tuned run, samples of the base model from the same initial noise; otherwise None."""

    @property
    def name(self) -> str:
        """File name of the report without suffix: `report`, then the names of samples and data if the user gave any."""
        return "-".join(["report", *map(stem, filter(None, (self.samples, self.data)))])

    @property
    def sentence(self) -> str:
        """Sentence for the report about the samples and the data with which they are compared."""
        samples_text = f"{len(self.generated):,} samples " + (
            f"in {self.samples}" if self.samples else "drawn for this report"
        )
        num_real = len(reference_data(self.train, self.held_out))
        origin = "held out" if self.data is None else f"in {self.data}"
        if has_enough_held_out(self.held_out) or not self.has_train:
            num_real = len(self.held_out)
            return f"Compared: {samples_text}, with {num_real:,} real examples {origin}."
        reason = f"since only {len(self.held_out):,} are {origin}" if len(self.held_out) else f"since none are {origin}"
        return f"Compared: {samples_text}, with {num_real:,} training examples, {reason}."


def stem(place: str) -> str:
    """Return the name of a file, folder or example as a word for file names: special characters become hyphens."""
    name = place.removeprefix("example:") if place.startswith("example:") else pathlib.Path(place).name
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)


def n_report_samples(data: Dataset, effort: EvaluationBudget = EvaluationBudget()) -> int:  # noqa: B008 - frozen
    """Return the number of samples to evaluate for a report.

    By default the number is at most the training set size, because equally many training examples give the reference
    values of distances.

    Args:
        data: Training set.
        effort: Limits of the evaluation: its number of samples if set; otherwise its time limit determines the number.
    """
    if effort.n is not None:
        return max(effort.n, 2)
    return min(registration_of(data.modality).max_samples(data, effort.seconds), max(len(data), 2))


def evenly_spaced(data: Dataset, number: int) -> Dataset:
    """Return `number` examples for a figure: sorted by class, then selected at evenly spaced indices.

    Adjacent examples are avoided, because windows of a text may overlap. The classes occur in their proportions in the
    data. If figures of the modality show a fixed number of examples, at most that number is returned: otherwise the
    figure would show the first class only.
    """
    registration = registration_of(data.modality)
    number = number if registration.page_size is None else min(number, registration.page_size)
    label = registration.label(data)
    rows = torch.arange(number) * len(data) // max(number, 1)
    if label is None:
        return data.subset(rows)
    by_class = label.cpu().argsort(stable=True)
    return data.subset(by_class[rows])  # class proportions as in the data

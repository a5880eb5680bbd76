"""What samples are compared with, in words."""

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass

from feller.data.modality import Dataset
from feller.evaluation.comparison import LEAST, enough, real_data


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

    def missing(self, numbers: Mapping[str, object]) -> dict[str, str]:
        """Say why numbers are not there that need data which training did not see."""
        few, real = len(self.held_out), "held out" if self.data is None else f"in {self.data}"
        why = f"no examples are {real}" if not few else f"only {few:,} examples are {real}, fewer than {LEAST}"
        if enough(self.held_out):
            why = f"most of the examples {real} are copies of training data"
        return {name: why for name in ("nearest_ratio",) if name in numbers and numbers[name] is None}


def stem(place: str) -> str:
    """Return a word for a file with its ending, a folder or an example."""
    short = place.removeprefix("example:") if place.startswith("example:") else pathlib.Path(place).name
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in short)

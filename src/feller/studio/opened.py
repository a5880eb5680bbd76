"""A run on the page."""

from dataclasses import dataclass
from typing import Any

from feller.data.documents.modality import Documents
from feller.data.images.labelled import Labelled
from feller.data.images.modality import Images
from feller.data.modality import Modality
from feller.data.speech.modality import Speech
from feller.data.table.mixed import Mixed
from feller.data.table.modality import Table
from feller.data.text.modality import Text
from feller.description import Description, load_description
from feller.journeys.asked import asked_of
from feller.journeys.bridged import bridged_of
from feller.run import Run


@dataclass(frozen=True, eq=False)
class Opened:
    """A run, and what its model is; it may have no weights yet."""

    run: Run
    name: str
    """By which people tell it from others on the page."""
    about: Description | None
    """None of a bridge, which is no model of data alone."""

    @property
    def modality(self) -> Modality | None:
        """What its data are."""
        return None if self.about is None else self.about.modality

    @property
    def draws(self) -> bool:
        """Whether it draws samples from noise: bridges, regressors and tokenisers do not."""
        return self.about is not None and not self.about.path.instead

    @property
    def is_plain(self) -> bool:
        """Whether `feller.journeys.sample` draws from it."""
        return self.draws and not isinstance(self.modality, Documents | Speech)

    @property
    def asked(self) -> str:
        """What it was fitted to, in words."""
        bridged = bridged_of(self.run)
        if bridged is not None:
            return f"a bridge from {' to '.join(bridged.populations)}"
        asked = asked_of(self.run)
        return f"{asked.data}, fitted with the recipe {asked.recipe}"

    @property
    def is_pictures(self) -> bool:
        """Whether samples are pictures."""
        return isinstance(self.modality, Images | Labelled)

    @property
    def is_rows(self) -> bool:
        """Whether samples are rows of a table."""
        return isinstance(self.modality, Table | Mixed)

    @property
    def is_text(self) -> bool:
        """Whether samples are texts."""
        return isinstance(self.modality, Text)


def opened(runs: list[Run]) -> tuple[Opened, ...]:
    """Return runs with names that tell them apart.

    Raises:
        InputError: If a record is damaged.
    """
    plain = [run.path.resolve().name for run in runs]
    names: list[str] = []
    for i, name in enumerate(plain):
        names.append(name if plain.count(name) == 1 else f"{name} ({plain[: i + 1].count(name)})")
    return tuple(Opened(run, name, _about(run)) for run, name in zip(runs, names, strict=True))


def _about(run: Run) -> Any:
    return None if bridged_of(run) is not None else load_description(run)

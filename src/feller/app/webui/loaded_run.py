"""A run on the page, and what can be shown of it: the one place that asks of which kind its data and its model are."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from feller.app.modalities.registration import Display, registration_of
from feller.app.workflows.bridges.is_bridge import is_bridge
from feller.app.workflows.run_config import record_of
from feller.core.run_folder import Run
from feller.data.examples.registry import EXAMPLE_PREFIX
from feller.data.images.modality import Images
from feller.data.modality import Modality
from feller.models.spec import ModelSpec, load_spec

M = TypeVar("M", bound=Modality)


def display_of(modality: Modality | None) -> Display:
    """Return how samples of some data are shown."""
    return Display() if modality is None else registration_of(modality).display


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A run, and what its model is; it may have no weights yet."""

    run: Run
    name: str
    """By which people tell it from others on the page."""
    about: ModelSpec | None
    """None of a bridge, which is no model of data alone."""

    @property
    def modality(self) -> Modality | None:
        """What its data are."""
        return None if self.about is None else self.about.modality

    def data(self, kind: type[M]) -> M | None:
        """Return what its data are, if they are of a kind."""
        return None if self.modality is None else self.modality.view(kind)

    @property
    def display(self) -> Display:
        """How its samples are shown."""
        return display_of(self.modality)

    @property
    def is_bridge(self) -> bool:
        """Whether it joins populations."""
        return is_bridge(self.run)

    @property
    def draws(self) -> bool:
        """Whether it draws samples from noise: bridges, regressors and tokenisers do not."""
        return self.about is not None and not self.about.family.why_no_samples

    @property
    def is_plain(self) -> bool:
        """Whether `feller.app.workflows.sample` draws from it."""
        return self.draws and self.modality is not None and registration_of(self.modality).draws_as == "samples"

    @property
    def in_time(self) -> bool:
        """Whether samples form over time, in network calls."""
        return self.about is not None and self.about.family.is_process

    @property
    def has_solvers(self) -> bool:
        """Whether its process has a velocity, for which there are solvers."""
        return self.about is not None and self.in_time and self.about.path.affine_schedule is not None

    @property
    def is_differentiable(self) -> bool:
        """Whether a reward of its samples has a gradient: symbols have none."""
        return self.is_plain and self.in_time and self.about is not None and not self.about.path.is_discrete

    @property
    def restores(self) -> Images | None:
        """Its pictures, if they are numbers on straight paths, which `steer --observe` needs."""
        straight = self.draws and self.has_solvers
        return self.data(Images) if straight else None

    @property
    def is_there(self) -> bool:
        """Whether its folder is; it may be removed while the page shows it."""
        return self.run.path.is_dir()

    @property
    def folder(self) -> str:
        """Its folder as people type it where the page was started; its name alone where it lies elsewhere."""
        here = pathlib.Path.cwd()
        place = here / self.run.path
        inside = place.is_relative_to(here) and ".." not in self.run.path.parts
        return str(place.relative_to(here)) if inside else self.name

    @property
    def summary(self) -> str:
        """What it was fitted to, in words; where files lie is nothing for visitors."""
        if self.is_bridge:
            from feller.app.workflows.bridges.bridge_run import bridged_of  # takes long to load

            bridged: Any = bridged_of(self.run)
            return f"a bridge from {' to '.join(map(last_part, bridged.populations))}"
        asked, tuned = record_of(self.run), self.run.read_record(self.run.recipe).get("tuned") or {}
        parts = [
            *([last_part(asked.data)] if asked.data else ()),
            f"fitted with the recipe {last_part(asked.provenance.recipe)}",
        ]
        if (planned := asked.provenance.private) is not None:
            parts.append(f"private, epsilon {planned.epsilon:g}")
        if tuned.get("rewards"):
            parts.append(f"tuned to {' and '.join(map(last_part, tuned['rewards']))}")
        return ", ".join(parts)


def last_part(place: str) -> str:
    """Return the name of a file without the folders that it lies in; other words stay."""
    return place if place.startswith(EXAMPLE_PREFIX) else pathlib.PurePath(place).name or place


def load_runs(runs: Sequence[Run]) -> tuple[LoadedRun, ...]:
    """Return runs with names that tell them apart.

    Raises:
        InputError: If a record is damaged.
    """
    plain = [run.path.resolve().name for run in runs]
    names = [
        name if plain.count(name) == 1 else f"{name} ({plain[: i + 1].count(name)})" for i, name in enumerate(plain)
    ]
    return tuple(
        LoadedRun(run, name, None if is_bridge(run) else load_spec(run)) for run, name in zip(runs, names, strict=True)
    )

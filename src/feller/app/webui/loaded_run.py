"""A run on the page, and what can be shown of it: the one place that asks of which kind its data and its model are."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from feller.app.modalities.registration import Display, registration_of
from feller.app.workflows.bridges.bridge_detection import is_bridge
from feller.app.workflows.run_config import read_fit_record
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
    spec: ModelSpec | None
    """None of a bridge, which is no model of data alone."""

    @property
    def modality(self) -> Modality | None:
        """What its data are."""
        return None if self.spec is None else self.spec.modality

    def modality_as(self, kind: type[M]) -> M | None:
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
    def is_generative(self) -> bool:
        """Whether it draws samples from noise: bridges, regressors and tokenisers do not."""
        return self.spec is not None and not self.spec.family.why_no_samples

    @property
    def is_sampled(self) -> bool:
        """Whether `feller.app.workflows.sample` draws from it."""
        return self.is_generative and self.modality is not None and registration_of(self.modality).output == "samples"

    @property
    def in_time(self) -> bool:
        """Whether samples form over time, in network calls."""
        return self.spec is not None and self.spec.family.is_process

    @property
    def has_solvers(self) -> bool:
        """Whether its process has a velocity, for which there are solvers."""
        return self.spec is not None and self.in_time and self.spec.path.affine_schedule is not None

    @property
    def is_differentiable(self) -> bool:
        """Whether a reward of its samples has a gradient: symbols have none."""
        return self.is_sampled and self.in_time and self.spec is not None and not self.spec.path.is_discrete

    @property
    def restorable_images(self) -> Images | None:
        """Its pictures, if they are numbers on straight paths, which `steer --observe` needs."""
        straight = self.is_generative and self.has_solvers
        return self.modality_as(Images) if straight else None

    @property
    def exists(self) -> bool:
        """Whether its folder is; it may be removed while the page shows it."""
        return self.run.path.is_dir()

    @property
    def folder(self) -> str:
        """Its folder as people type it where the page was started; its name alone where it lies elsewhere."""
        cwd = pathlib.Path.cwd()
        place = cwd / self.run.path
        inside = place.is_relative_to(cwd) and ".." not in self.run.path.parts
        return str(place.relative_to(cwd)) if inside else self.name

    @property
    def summary(self) -> str:
        """What it was fitted to, in words; where files lie is nothing for visitors."""
        if self.is_bridge:
            from feller.app.workflows.bridges.bridge_run import read_bridge_record  # takes long to load

            bridge_record: Any = read_bridge_record(self.run)
            return f"a bridge from {' to '.join(map(file_name, bridge_record.populations))}"
        record, tuning_content = read_fit_record(self.run), self.run.read_record(self.run.recipe).get("tuned") or {}
        facts = [
            *([file_name(record.data)] if record.data else ()),
            f"fitted with the recipe {file_name(record.provenance.recipe)}",
        ]
        if (privacy_plan := record.provenance.private) is not None:
            facts.append(f"private, epsilon {privacy_plan.epsilon:g}")
        if tuning_content.get("rewards"):
            facts.append(f"tuned to {' and '.join(map(file_name, tuning_content['rewards']))}")
        return ", ".join(facts)


def file_name(place: str) -> str:
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

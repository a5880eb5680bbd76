"""Runs shown on the web page, and what each can be used for, such as sampling, steering or restoring images.

The uses depend on the modality and the model family of the run.
"""

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
    """Return the settings for displaying samples of a modality."""
    return Display() if modality is None else registration_of(modality).display


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A run on the web page with its model specification; the run's weights may not have been written yet."""

    run: Run
    name: str
    """Name of the run, unique on the page."""
    spec: ModelSpec | None
    """Model specification; None for a bridge."""

    @property
    def modality(self) -> Modality | None:
        """Modality of the data; None for a bridge."""
        return None if self.spec is None else self.spec.modality

    def modality_as(self, kind: type[M]) -> M | None:
        """Return the modality if it is an instance of the class `kind`; otherwise None."""
        return None if self.modality is None else self.modality.view(kind)

    @property
    def display(self) -> Display:
        """Settings for displaying the samples."""
        return display_of(self.modality)

    @property
    def is_bridge(self) -> bool:
        """True if the run is a bridge between populations."""
        return is_bridge(self.run)

    @property
    def is_generative(self) -> bool:
        """True if the model generates samples, unlike bridges, regressors and tokenizers."""
        return self.spec is not None and not self.spec.family.why_no_samples

    @property
    def is_sampled(self) -> bool:
        """True if `feller.app.workflows.sample` can sample from the run."""
        return self.is_generative and self.modality is not None and registration_of(self.modality).output == "samples"

    @property
    def in_time(self) -> bool:
        """True if the model generates samples by simulating a process in time."""
        return self.spec is not None and self.spec.family.is_process

    @property
    def has_solvers(self) -> bool:
        """True if the process has a velocity field, so that ODE solvers apply."""
        return self.spec is not None and self.in_time and self.spec.path.affine_schedule is not None

    @property
    def is_differentiable(self) -> bool:
        """True if samples are continuous, so that rewards have gradients with respect to them; false for tokens."""
        return self.is_sampled and self.in_time and self.spec is not None and not self.spec.path.is_discrete

    @property
    def restorable_images(self) -> Images | None:
        """Image modality if `steer --observe` supports the run; otherwise None.

        It requires an affine path of pixels, not of latents.
        """
        straight = self.is_generative and self.has_solvers and self.modality and not self.modality.aux_networks
        return self.modality_as(Images) if straight else None

    @property
    def exists(self) -> bool:
        """True if the run folder exists; it may be deleted while the page is open."""
        return self.run.path.is_dir()

    @property
    def folder(self) -> str:
        """Run folder relative to the working directory.

        For a run outside the working directory, only the name of the folder.
        """
        cwd = pathlib.Path.cwd()
        place = cwd / self.run.path
        inside = place.is_relative_to(cwd) and ".." not in self.run.path.parts
        return str(place.relative_to(cwd)) if inside else self.name

    @property
    def summary(self) -> str:
        """Description of the run, without the paths of folders."""
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
            facts.append(f"fine-tuned on {' and '.join(map(file_name, tuning_content['rewards']))}")
        return ", ".join(facts)


def file_name(place: str) -> str:
    """Return the name of a file without its folders; `example:NAME` is unchanged."""
    return place if place.startswith(EXAMPLE_PREFIX) else pathlib.PurePath(place).name or place


def load_runs(runs: Sequence[Run]) -> tuple[LoadedRun, ...]:
    """Load the model specifications of runs, and give each run a unique name.

    Raises:
        InputError: If a file of a run is damaged.
    """
    plain = [run.path.resolve().name for run in runs]
    names = [
        name if plain.count(name) == 1 else f"{name} ({plain[: i + 1].count(name)})" for i, name in enumerate(plain)
    ]
    return tuple(
        LoadedRun(run, name, None if is_bridge(run) else load_spec(run)) for run, name in zip(runs, names, strict=True)
    )

"""A run on the page."""

import contextlib
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from feller.app.workflows.bridges.is_bridge import is_bridge
from feller.app.workflows.run_config import asked_of
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.data.documents.modality import Documents
from feller.data.images.labelled import Labelled
from feller.data.images.modality import Images
from feller.data.modality import Modality
from feller.data.speech.modality import Speech
from feller.data.tables.mixed import Mixed
from feller.data.tables.modality import Table
from feller.data.text.modality import Text
from feller.models.spec import Description, load_description

EXAMPLE = "example:"


@dataclass(frozen=True, eq=False)
class Opened:
    """A run, and what its model is; it may have no weights yet."""

    run: Run
    name: str
    """By which people tell it from others on the page."""
    about: Description | None
    """None of a bridge, which is no model of data alone."""

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
    def places(self) -> dict[str, str]:
        """Return what may be named of this machine -> what it is called on the page: files by their names."""
        found: tuple[str, ...] = ()
        with contextlib.suppress(InputError):  # it may be removed while the page shows it
            found = (*self.sources, *self._others)
        own = dict.fromkeys((str(self.run.path), str(self.run.path.resolve())), self.folder)
        return {**{place: last_part(place) for place in found}, **own}

    @property
    def _others(self) -> tuple[str, ...]:
        """Files beside its data that messages and reports may name."""
        if self.is_bridge:
            from feller.app.workflows.bridges.cost_names import named_in  # takes long to load

            return named_in(_bridged(self.run).costs)
        asked, tuned = asked_of(self.run), self.run.read_record(self.run.recipe).get("tuned") or {}
        wishes = wished_files(tuned.get("rewards", ()))
        files = (asked.recipe.rpartition(":")[0], asked.schema, asked.tokenizer, asked.start_from, *wishes)
        return tuple(filter(None, files))

    @property
    def modality(self) -> Modality | None:
        """What its data are."""
        return None if self.about is None else self.about.modality

    @property
    def draws(self) -> bool:
        """Whether it draws samples from noise: bridges, regressors and tokenisers do not."""
        return self.about is not None and not self.about.family.why_no_samples

    @property
    def is_plain(self) -> bool:
        """Whether `feller.app.workflows.sample` draws from it."""
        return self.draws and not isinstance(self.modality, Documents | Speech)

    @property
    def asked(self) -> str:
        """What it was fitted to, in words; where files lie is nothing for visitors."""
        if self.is_bridge:
            return f"a bridge from {' to '.join(map(last_part, self.sources))}"
        asked, tuned = asked_of(self.run), self.run.read_record(self.run.recipe).get("tuned") or {}
        parts = [last_part(asked.data), f"fitted with the recipe {last_part(asked.recipe)}"]
        if asked.private is not None:
            parts.append(f"private, epsilon {asked.private.epsilon:g}")
        if tuned.get("rewards"):
            parts.append(f"tuned to {' and '.join(map(last_part, tuned['rewards']))}")
        return ", ".join(parts)

    @property
    def sources(self) -> tuple[str, ...]:
        """Where its data are, as they were named."""
        return _bridged(self.run).populations if self.is_bridge else (asked_of(self.run).data,)

    @property
    def is_bridge(self) -> bool:
        """Whether it joins populations."""
        return is_bridge(self.run)

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


def wished_files(wishes: Sequence[str]) -> tuple[str, ...]:
    """Return the files that wishes name."""
    if not wishes:
        return ()
    from feller.control.rewards.named_rewards import named_file  # takes long to load

    return tuple(str(file) for file in map(named_file, wishes) if file is not None)


def last_part(place: str) -> str:
    """Return the name of a file without the folders that it lies in; other words stay."""
    return place if place.startswith(EXAMPLE) else pathlib.PurePath(place).name or place


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


def _about(run: Run) -> Description | None:
    return None if is_bridge(run) else load_description(run)


def _bridged(run: Run) -> Any:
    from feller.app.workflows.bridges.bridge_run import bridged_of  # takes long to load, and few runs are bridges

    return bridged_of(run)

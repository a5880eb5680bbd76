"""A tab of the page, and an ability, which makes one of a run."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from feller.app.reporter import SILENT, Tell
from feller.app.webui.controls import Control
from feller.app.webui.limits import Limits
from feller.app.webui.loaded_run import Opened, last_part, wished_files
from feller.app.webui.outcome import Outcome
from feller.app.webui.scratch import Scratch
from feller.core.errors import UsageError


class Kind(enum.Enum):
    """What a tab may show, in the order of the page."""

    PICTURES = "pictures"
    DRAWING = "drawing"
    SIDES = "sides"
    TABLE = "table"
    NUMBERS = "numbers"
    WORDS = "words"
    SOUNDS = "sounds"
    PAGE = "page"
    FILES = "files"


WIDE = (Kind.SIDES, Kind.NUMBERS, Kind.PAGE)
"""Kinds that take the width of the page, below what is set."""
Answers = Mapping[str, Any]
"""What was set, by the names of the controls."""


@dataclass(frozen=True, kw_only=True)
class Tab:
    """What a person sets, and what is done with it."""

    about: str
    """What it does, in a sentence or two."""
    controls: Mapping[str, Control]
    does: Callable[[Answers, Tell], Outcome]
    shows: tuple[Kind, ...]
    button: str = "Go"
    pictures: int = 1
    """Side by side, at most."""
    sounds: int = 1
    every: float | None = None
    """Seconds after which it is done again by itself."""
    looks: bool = False
    """Whether it computes nothing: then it waits for nothing that does, and is done whenever somebody opens it."""

    def do(self, sent: Mapping[str, Any], limits: Limits, tell: Tell = SILENT) -> Outcome:
        """Read what the client sent and do it.

        Raises:
            UsageError: If something sent is out of range, or the journey refuses it.
            InputError: If the run or a file is not what it must be.
        """
        if sent.keys() != self.controls.keys():
            raise UsageError(f"expected {', '.join(self.controls) or 'nothing'}, got {', '.join(sent) or 'nothing'}")
        return self.does({name: control.read(sent[name], limits) for name, control in self.controls.items()}, tell)


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a tab has around it."""

    runs: tuple[Opened, ...]
    """All runs on the page."""
    scratch: Scratch
    limits: Limits = field(default_factory=Limits)
    rewards: tuple[str, ...] = ()
    """In words, as they were named where the page was started; the client can name none."""
    memory: str | None = None
    """Documents that models of documents may look up, named there, too."""

    @property
    def places(self) -> dict[str, str]:
        """Return what messages may name of this machine -> what it is called on the page."""
        named = (*wished_files(self.rewards), *filter(None, (self.memory,)))
        found = {place: last_part(place) for place in named}
        return found | {place: name for one in self.runs for place, name in one.places.items()}


@dataclass(frozen=True, kw_only=True)
class Ability:
    """Something that some runs can do."""

    name: str
    """Title of its tab."""
    has: Callable[[Opened, Place], bool]
    """Whether a run can; must not read weights, which may not be there yet."""
    tab: Callable[[Opened, Place], Tab]

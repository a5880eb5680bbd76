"""Base classes of tabs and abilities, their outcome, and conditions as controls."""

import enum
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from feller.app.reporter import SILENT, Tell
from feller.app.webui.controls import Choice, Control, Number, Words
from feller.app.webui.limits import Limits, Scratch
from feller.app.webui.loaded_run import Opened, last_part, wished_files
from feller.core.errors import UsageError
from feller.data.modality import Modality
from feller.data.tables.modality import Table
from feller.models.spec import Description


@dataclass(frozen=True)
class Shown:
    """A picture in a file, for people."""

    caption: str
    path: pathlib.Path


@dataclass(frozen=True)
class Rows:
    """A table for people."""

    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that a tab may show; what is empty is not shown."""

    said: str = ""
    """A line or more about what was done."""
    pictures: tuple[Shown, ...] = ()
    sides: tuple[Rows, ...] = ()
    """Two tables that stand beside each other."""
    table: Rows | None = None
    numbers: Rows | None = None
    """Numbers, each with its name and its meaning, all of which is seen at once."""
    words: str = ""
    sounds: tuple[pathlib.Path, ...] = ()
    files: tuple[pathlib.Path, ...] = ()
    """To be downloaded."""
    page: str = ""
    """A report, HTML that was written for a page of its own."""
    drawing: str = ""
    """SVG of our own."""
    over: bool = False
    """Whether nothing more is to come, of what is looked at again and again."""


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


ANY = "as in the data"
"""A condition that is drawn as often as in the training data."""
GIVEN, GUIDANCE, FIXED = "given:", "guidance", "fixed"
"""Begins the names of conditions; names of the others."""
MOST_GUIDANCE = 10.0


def guides(one: Opened) -> dict[str, Control]:
    """Return a list for each condition, a slider where the model can be guided, and a line for parts that are given."""
    about = one.about
    if about is None:
        return {}
    found: dict[str, Control] = {}
    for name in about.frequencies:
        options = (ANY, *about.modality.conditions[name])
        found[f"{GIVEN}{name}"] = Choice(label=name.capitalize(), options=options, value=ANY)
    if about.frequencies and about.drop:
        found[GUIDANCE] = Number(
            label="Guidance",
            hint="1 is plain, more follows the condition more sharply.",
            value=1.0,
            least=0.0,
            most=MOST_GUIDANCE,
            whole=False,
            flags=("--guidance",),
        )
    names = _typed(about)
    if names:
        found[FIXED] = Words(
            label="Given",
            hint=f"What is already known, as NAME=VALUE, one a line. Names: {', '.join(names)[:300]}.",
            example=f"{names[0]}=...",
            lines=2,
            flags=("--given",),
        )
    return found


def _typed(about: Description) -> tuple[str, ...]:
    """Return parts that a person can give by typing; files are never named by the client."""
    modality = about.modality
    names = modality.leaves if isinstance(modality, Table) else about.fixable
    return tuple(name for name in modality.leaves if name in names and name not in modality.filed)


def given_of(answers: Answers, modality: Modality) -> dict[str, str]:
    """Return what is given, by name.

    Raises:
        UsageError: If a line is not NAME=VALUE, or names what only a file can say.
    """
    chosen = {name.removeprefix(GIVEN): value for name, value in answers.items() if name.startswith(GIVEN)}
    given = {name: value for name, value in chosen.items() if value != ANY}
    for line in filter(None, map(str.strip, answers.get(FIXED, "").splitlines())):
        name, is_there, value = (part.strip() for part in line.partition("="))
        if not is_there:
            raise UsageError(f"write what is given as NAME=VALUE, one a line, got {line[:40]!r}")
        if name in modality.filed:
            raise UsageError(f"{name} is given by a file, which this page does not take; use `feller sample --given`")
        if name in given:
            raise UsageError(f"{name} is given twice; leave one out")
        given[name] = value
    return given


def guidance_of(answers: Answers) -> float:
    """Return the weight of guidance, 1 where there is none."""
    return float(answers.get(GUIDANCE, 1.0))

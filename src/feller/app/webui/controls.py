"""What a person sets on the page, as plain objects: what the page draws of them is another's business.

Each reads what the client sends, which may be anything, and refuses what is out of range.
"""

import abc
import math
import pathlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from feller.app.webui.limits import Limits
from feller.core.errors import UsageError
from feller.data.images.load_images import FORMATS

MARKS = ((255, 47, 208), (57, 255, 20))
"""Colours to draw over pictures with: where one is hard to see, the other is not."""


DIGITS = re.compile(r"[+-]?[0-9]+")
LONGEST = 40
"""Letters of a number that is typed."""


@dataclass(frozen=True, kw_only=True)
class Control(abc.ABC):
    """One thing to set."""

    label: str
    hint: str = ""
    """One sentence below the label."""
    flags: tuple[str, ...] = ()
    """What messages of workflows call it, such as --text."""
    only: tuple[str, str] | None = None
    """Name of a choice, and what must be chosen there for this to be seen."""

    @abc.abstractmethod
    def read(self, sent: Any, limits: Limits) -> Any:
        """Return what was set.

        Raises:
            UsageError: If that makes no sense here.
        """


@dataclass(frozen=True, kw_only=True)
class Number(Control):
    """A number between two others."""

    value: float | int
    least: float | int
    most: float | int
    whole: bool = True
    """Whether it has no fraction."""
    slides: bool = True
    """Whether it is chosen by eye rather than typed."""

    def read(self, sent: Any, limits: Limits) -> float | int:
        """Return it."""
        if sent is None:
            raise UsageError(f"{self.label} is empty; type a number from {typed(self.least)} to {typed(self.most)}")
        if isinstance(sent, bool) or not (isinstance(sent, int) or (isinstance(sent, float) and math.isfinite(sent))):
            raise UsageError(f"{self.label} takes a number, got {str(sent)[:40]!r}")
        if not self.least <= sent <= self.most:
            raise UsageError(
                f"{self.label} goes from {typed(self.least)} to {typed(self.most)} here, got {typed(sent)}"
            )
        if self.whole and sent != int(sent):
            raise UsageError(f"{self.label} takes a whole number, got {typed(sent)}")
        return int(sent) if self.whole else float(sent)


@dataclass(frozen=True, kw_only=True)
class Seed(Number):
    """A whole number that the same is drawn with again, and another by another; a text, which loses no digit."""

    def read(self, sent: Any, limits: Limits) -> float | int:
        """Return it."""
        text = sent.strip() if isinstance(sent, str) else None
        if text and not (DIGITS.fullmatch(text) and len(text) <= LONGEST):
            raise UsageError(f"{self.label} takes a whole number, got {text[:LONGEST]!r}")
        return super().read(sent if text is None else int(text) if text else None, limits)


@dataclass(frozen=True, kw_only=True)
class Choice(Control):
    """One of some names."""

    options: tuple[str, ...]
    value: str
    now: Callable[[], tuple[str, ...]] | None = None
    """Looks the options up anew, where they change while the page is open."""

    def read(self, sent: Any, limits: Limits) -> str:
        """Return its name; the first by now where it was there at the start."""
        options, chosen = self.anew(sent)
        if sent not in (*options, *self.options):
            raise UsageError(f"{self.label} cannot be {str(sent)[:40]!r}; choose one of the list")
        return chosen

    def anew(self, sent: Any) -> tuple[tuple[str, ...], str]:
        """Return the options that there are by now, and which is chosen."""
        options = self.options if self.now is None else self.now()
        return options, sent if sent in options else options[0]


@dataclass(frozen=True, kw_only=True)
class Words(Control):
    """A text."""

    value: str = ""
    example: str = ""
    lines: int = 1

    def read(self, sent: Any, limits: Limits) -> str:
        """Return it."""
        if sent is not None and not isinstance(sent, str):
            raise UsageError(f"{self.label} takes a text")
        return limits.check_text(self.label, sent or "")


@dataclass(frozen=True, kw_only=True)
class Cells(Control):
    """A small table of texts."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """What it holds at first."""

    def read(self, sent: Any, limits: Limits) -> list[list[str]]:
        """Return its rows that are not empty."""
        rows = sent if isinstance(sent, list) else []
        rows = [["" if cell is None else str(cell) for cell in row] for row in rows if isinstance(row, list)]
        rows = [row for row in rows if any(cell.strip() for cell in row)]
        if any(len(row) != len(self.columns) for row in rows):
            raise UsageError(f"{self.label} has {len(self.columns)} columns; leave cells empty that are to be filled")
        if len(rows) > limits.rows:
            raise UsageError(f"{self.label} may have {limits.rows} rows here, got {len(rows)}; fill fewer at once")
        for row in rows:
            for cell in row:
                limits.check_text(self.label, cell)
        return rows


@dataclass(frozen=True, kw_only=True)
class Upload(Control):
    """A file of the visitor's, of which the page has a copy."""

    endings: tuple[str, ...] = ()
    """Which it may have, where that is said."""

    def read(self, sent: Any, limits: Limits) -> pathlib.Path | None:
        """Return where the copy is; None if there is none."""
        if not sent:
            return None
        path = pathlib.Path(str(sent))
        if not path.is_file():
            raise UsageError(f"{self.label}: this file is not there any more; upload it again")
        if path.stat().st_size > limits.upload:
            raise UsageError(f"{self.label}: a file may have {limits.upload // 2**20} MB here; choose a smaller one")
        return path


@dataclass(frozen=True, kw_only=True)
class Sound(Upload):
    """A recording."""


@dataclass(frozen=True, kw_only=True)
class Picture(Upload):
    """A picture."""

    def read(self, sent: Any, limits: Limits) -> pathlib.Path | None:
        """Return where the copy is; None if there is none.

        Raises:
            UsageError: If it cannot be read as a picture.
        """
        path = super().read(sent, limits)
        if path is not None:
            _check_picture(path)
        return path


@dataclass(frozen=True, kw_only=True)
class Wave(Control):
    """The picture of a recording, on which a person marks a span by drawing over it."""

    of: str
    """Name of the control that has the recording."""
    size: tuple[int, int]
    """Width and height, in pixels."""
    draw: Callable[[pathlib.Path, tuple[int, int]], Image.Image]
    """Recording and size -> its picture."""

    def read(self, sent: Any, limits: Limits) -> tuple[float, float] | None:
        """Return where the mark begins and ends, as shares of the whole; None without one."""
        parts = sent if isinstance(sent, dict) else {}
        below = parts.get("background")
        if not isinstance(below, Image.Image):
            return None
        box = _marked(below.size, parts.get("layers")).getbbox()
        return None if box is None else (box[0] / below.width, box[2] / below.width)


@dataclass(frozen=True)
class Unreadable:
    """A picture of the visitor's that cannot be read."""

    name: str
    """Of its file."""

    @property
    def told(self) -> str:
        """What the visitor is told."""
        name = self.name or "this file"
        return f"{name}: this is no picture that can be read; choose another file (png, jpg, webp ...)"


@dataclass(frozen=True, eq=False)
class Drawn:
    """A picture that a person drew over."""

    picture: Image.Image
    mask: Image.Image
    """L, white where something was drawn."""


@dataclass(frozen=True, kw_only=True)
class Drawing(Control):
    """A picture to draw on."""

    size: tuple[int, int]
    """Width and height of the canvas, in pixels."""
    first: Callable[[], Image.Image] | None = None
    """Makes a picture to begin with; None where people bring their own."""

    def read(self, sent: Any, limits: Limits) -> Drawn:
        """Return the picture and where something is drawn on it.

        Raises:
            UsageError: If one of both is missing.
        """
        if isinstance(sent, Unreadable):
            raise UsageError(sent.told)
        parts = sent if isinstance(sent, dict) else {}
        below = parts.get("background")
        if not isinstance(below, Image.Image):
            raise UsageError(f"{self.label}: put a picture there first, your own or one of the model")
        mask = _marked(below.size, parts.get("layers"))
        if mask.getbbox() is None:
            raise UsageError(f"{self.label}: draw over what is to be filled in")
        return Drawn(below, mask)


def typed(number: float | int) -> str:
    """Write a number as people type it, thousands apart."""
    if isinstance(number, int):
        return f"{number:,}"
    return f"{number:,.0f}" if number == int(number) and abs(number) < 1e15 else f"{number:g}"


def _check_picture(path: pathlib.Path) -> None:
    """Refuse what is no picture, or only the beginning of one.

    Raises:
        UsageError: Then; names the file.
    """
    try:
        with Image.open(path, formats=FORMATS) as there:
            there.load()
    except Image.DecompressionBombError as error:
        raise UsageError(f"{path.name}: this picture has more pixels than this page takes; shrink it") from error
    except Exception as error:  # Pillow raises a dozen kinds on damaged files
        raise UsageError(Unreadable(path.name).told) from error


def _marked(size: tuple[int, int], layers: Any) -> Image.Image:
    """Return where something is drawn on layers that a client sent, white on black."""
    mask = Image.new("L", size)
    for layer in layers if isinstance(layers, list) else []:
        if isinstance(layer, Image.Image):
            mask.paste(255, (0, 0), layer.convert("RGBA").getchannel("A").resize(size))
    return mask

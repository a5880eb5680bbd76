"""What is to be drawn behind a prompt."""

import abc
from dataclasses import dataclass

from feller.core.errors import UsageError, check_number
from feller.sampling.autoregressive.document_grammar import Kind, Place

ENDLESS = 2**40
"""More symbols than any context holds."""
EITHER = (Kind.TEXT, Kind.CODE)
"""What a segment may be that is hidden as a whole."""


class Plan(abc.ABC):
    """Which of the well-formed ways to go on are taken, and where it ends. Implement three members to add one."""

    @property
    @abc.abstractmethod
    def after(self) -> tuple[Place, ...]:
        """Where a prompt may end."""

    @property
    @abc.abstractmethod
    def begins(self) -> tuple[Kind, ...]:
        """What may come where a segment may begin."""

    @property
    @abc.abstractmethod
    def ends(self) -> Kind:
        """What is drawn last: `<break>` or `<eos>`."""

    @property
    def words(self) -> int:
        """Symbols of one text, or of what is hidden of it, at most."""
        return ENDLESS

    @property
    def room(self) -> int:
        """Symbols that are drawn, at most."""
        return ENDLESS

    @property
    def hidden(self) -> tuple[Kind, ...]:
        """What a segment may be that is hidden as a whole."""
        return EITHER

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes of each hole, 0 where it is of text; `()` where that is left open."""
        return ()


@dataclass(frozen=True)
class Picture(Plan):
    """The codes of one picture, or what is missing of the one in which the prompt ends, and its `<break>`."""

    after = (Place.BARE, Place.BETWEEN, Place.PICTURE)
    begins = (Kind.CODE,)
    ends = Kind.CUT


@dataclass(frozen=True)
class TextPlan(Plan):
    """A text, or the rest of the one in which the prompt ends, and its `<break>`."""

    after = (Place.BARE, Place.BETWEEN, Place.TEXT)
    begins = (Kind.TEXT,)
    ends = Kind.CUT
    most: int
    """Symbols of text that are drawn, at most."""

    def __post_init__(self) -> None:
        check_number("most", self.most, least=1)

    @property
    def room(self) -> int:
        """Count the `<break>` too."""
        return self.most + 1


@dataclass(frozen=True)
class Fill(Plan):
    """What the holes of the prompt hide, in their order, each behind `<infill>`; then `<eos>`.

    In a picture those are as many codes as it lacks; where it has several holes, each gets at least one, and as many as
    it hides where that is said.
    """

    after = (Place.BETWEEN, Place.OPENED, Place.FILL_TEXT, Place.FILL_PICTURE)
    begins = (Kind.INFILL,)
    ends = Kind.EOS
    most: int
    """Symbols of text for each hole, at most."""
    whole: tuple[Kind, ...] = EITHER
    """What a segment may be that is hidden as a whole: `(Kind.TEXT,)`, `(Kind.CODE,)`, or either."""
    codes: tuple[int, ...] = ()
    """Codes of each hole, 0 where it is of text; by default the holes of a picture share what it lacks."""

    def __post_init__(self) -> None:
        check_number("most", self.most, least=1)
        if min(self.codes, default=0) < 0:
            raise UsageError("0 codes or more for each hole", min(self.codes))
        if not self.whole or not {*self.whole} <= {*EITHER}:
            raise UsageError("TEXT, CODE or both for what may be hidden as a whole", self.whole)

    @property
    def words(self) -> int:
        """Return the most."""
        return self.most

    @property
    def hidden(self) -> tuple[Kind, ...]:
        """Return what was asked."""
        return self.whole

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return what was asked."""
        return self.codes


@dataclass(frozen=True)
class Free(Plan):
    """All that is still to come of a document, up to its `<eos>`."""

    after = tuple(place for place in Place if place is not Place.ENDED)
    begins = (Kind.TEXT, Kind.CODE, Kind.EOS, Kind.INFILL)
    ends = Kind.EOS
    most: int
    """Symbols, at most, the `<eos>` with them."""

    def __post_init__(self) -> None:
        check_number("most", self.most, least=1)

    @property
    def room(self) -> int:
        """Return the most."""
        return self.most

"""What is to be drawn behind a prompt."""

import abc
from dataclasses import dataclass

from feller.core.errors import UsageError, check_number
from feller.sampling.autoregressive.document_grammar import Place, SymbolKind

ENDLESS = 2**40
"""More symbols than any context holds."""
EITHER = (SymbolKind.TEXT, SymbolKind.CODE)
"""What a segment may be that is hidden as a whole."""


class DecodingGoal(abc.ABC):
    """Which of the well-formed ways to go on are taken, and where it ends. Implement three members to add one."""

    @property
    @abc.abstractmethod
    def prompt_places(self) -> tuple[Place, ...]:
        """Where a prompt may end."""

    @property
    @abc.abstractmethod
    def segment_kinds(self) -> tuple[SymbolKind, ...]:
        """What may come where a segment may begin."""

    @property
    @abc.abstractmethod
    def final_kind(self) -> SymbolKind:
        """What is drawn last: `<break>` or `<eos>`."""

    @property
    def max_segment_length(self) -> int:
        """Symbols of one text, or of what is hidden of it, at most."""
        return ENDLESS

    @property
    def max_new_symbols(self) -> int:
        """Symbols that are drawn, at most."""
        return ENDLESS

    @property
    def hidden_kinds(self) -> tuple[SymbolKind, ...]:
        """What a segment may be that is hidden as a whole."""
        return EITHER

    @property
    def hole_sizes(self) -> tuple[int, ...]:
        """Codes of each hole, 0 where it is of text; `()` where that is left open."""
        return ()


@dataclass(frozen=True)
class ImageGoal(DecodingGoal):
    """The codes of one picture, or what is missing of the one in which the prompt ends, and its `<break>`."""

    prompt_places = (Place.BARE, Place.BETWEEN, Place.PICTURE)
    segment_kinds = (SymbolKind.CODE,)
    final_kind = SymbolKind.BREAK


@dataclass(frozen=True)
class TextGoal(DecodingGoal):
    """A text, or the rest of the one in which the prompt ends, and its `<break>`."""

    prompt_places = (Place.BARE, Place.BETWEEN, Place.TEXT)
    segment_kinds = (SymbolKind.TEXT,)
    final_kind = SymbolKind.BREAK
    max_symbols: int
    """Symbols of text that are drawn, at most."""

    def __post_init__(self) -> None:
        check_number("max_symbols", self.max_symbols, ge=1)

    @property
    def max_new_symbols(self) -> int:
        """Count the `<break>` too."""
        return self.max_symbols + 1


@dataclass(frozen=True)
class InfillGoal(DecodingGoal):
    """What the holes of the prompt hide, in their order, each behind `<infill>`; then `<eos>`.

    In a picture those are as many codes as it lacks; where it has several holes, each gets at least one, and as many as
    it hides where that is said.
    """

    prompt_places = (Place.BETWEEN, Place.OPENED, Place.FILL_TEXT, Place.FILL_PICTURE)
    segment_kinds = (SymbolKind.INFILL,)
    final_kind = SymbolKind.EOS
    max_symbols: int
    """Symbols of text for each hole, at most."""
    whole_kinds: tuple[SymbolKind, ...] = EITHER
    """What a segment may be that is hidden as a whole: `(SymbolKind.TEXT,)`, `(SymbolKind.CODE,)`, or either."""
    hole_codes: tuple[int, ...] = ()
    """Codes of each hole, 0 where it is of text; by default the holes of a picture share what it lacks."""

    def __post_init__(self) -> None:
        check_number("max_symbols", self.max_symbols, ge=1)
        if min(self.hole_codes, default=0) < 0:
            raise UsageError("0 codes or more for each hole", min(self.hole_codes))
        if not self.whole_kinds or not {*self.whole_kinds} <= {*EITHER}:
            raise UsageError("TEXT, CODE or both for what may be hidden as a whole", self.whole_kinds)

    @property
    def max_segment_length(self) -> int:
        return self.max_symbols

    @property
    def hidden_kinds(self) -> tuple[SymbolKind, ...]:
        return self.whole_kinds

    @property
    def hole_sizes(self) -> tuple[int, ...]:
        return self.hole_codes


@dataclass(frozen=True)
class ContinuationGoal(DecodingGoal):
    """All that is still to come of a document, up to its `<eos>`."""

    prompt_places = tuple(place for place in Place if place is not Place.ENDED)
    segment_kinds = (SymbolKind.TEXT, SymbolKind.CODE, SymbolKind.EOS, SymbolKind.INFILL)
    final_kind = SymbolKind.EOS
    max_symbols: int
    """Symbols, at most, the `<eos>` with them."""

    def __post_init__(self) -> None:
        check_number("max_symbols", self.max_symbols, ge=1)

    @property
    def max_new_symbols(self) -> int:
        return self.max_symbols

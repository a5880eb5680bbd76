"""Decoding goals: the kind of continuation generated after a document prompt, and the token that ends it."""

import abc
from dataclasses import dataclass

from feller.core.errors import UsageError, check_number
from feller.sampling.autoregressive.document_grammar import Place, SymbolKind

ENDLESS = 2**40
"""Token limit that means no limit, because it exceeds any context length."""
EITHER = (SymbolKind.TEXT, SymbolKind.CODE)
"""Default for the possible kinds of a segment that is hidden as a whole: text or image."""


class DecodingGoal(abc.ABC):
    """Base class of decoding goals, which define the allowed continuations of a prompt and their end token."""

    @property
    @abc.abstractmethod
    def prompt_places(self) -> tuple[Place, ...]:
        """Parser positions in which a prompt may end."""

    @property
    @abc.abstractmethod
    def segment_kinds(self) -> tuple[SymbolKind, ...]:
        """Kinds of tokens (text, image code) allowed at the start of a segment."""

    @property
    @abc.abstractmethod
    def final_kind(self) -> SymbolKind:
        """Kind of the last generated token: `<break>` or `<eos>`."""

    @property
    def max_segment_length(self) -> int:
        """Maximum number of tokens of one text, or of the fill of one hole in a text."""
        return ENDLESS

    @property
    def max_new_symbols(self) -> int:
        """Maximum number of generated tokens."""
        return ENDLESS

    @property
    def hidden_kinds(self) -> tuple[SymbolKind, ...]:
        """Kinds (text, image) that are possible for a segment hidden as a whole."""
        return EITHER

    @property
    def hole_sizes(self) -> tuple[int, ...]:
        """Number of image codes to generate for each hole, 0 for a hole in a text; empty if unspecified."""
        return ()


@dataclass(frozen=True)
class ImageGoal(DecodingGoal):
    """Goal: generate one image, or the rest of the image in which the prompt ends, up to `<break>`."""

    prompt_places = (Place.BARE, Place.BETWEEN, Place.PICTURE)
    segment_kinds = (SymbolKind.CODE,)
    final_kind = SymbolKind.BREAK


@dataclass(frozen=True)
class TextGoal(DecodingGoal):
    """Goal: generate one text, or the rest of the text in which the prompt ends, up to `<break>`."""

    prompt_places = (Place.BARE, Place.BETWEEN, Place.TEXT)
    segment_kinds = (SymbolKind.TEXT,)
    final_kind = SymbolKind.BREAK
    max_symbols: int
    """Maximum number of generated text tokens."""

    def __post_init__(self) -> None:
        check_number("max_symbols", self.max_symbols, ge=1)

    @property
    def max_new_symbols(self) -> int:
        return self.max_symbols + 1


@dataclass(frozen=True)
class InfillGoal(DecodingGoal):
    """Goal: fill the holes of the prompt, which are hidden spans marked by `<mask>`, in order, up to `<eos>`.

    The tokens that fill a hole follow an `<infill>` at the end of the document.
    The holes of an image together receive the codes that the image lacks. Each hole gets at least one code, or the
    number given by `hole_codes`.
    """

    prompt_places = (Place.BETWEEN, Place.OPENED, Place.FILL_TEXT, Place.FILL_PICTURE)
    segment_kinds = (SymbolKind.INFILL,)
    final_kind = SymbolKind.EOS
    max_symbols: int
    """Maximum number of text tokens per hole."""
    whole_kinds: tuple[SymbolKind, ...] = EITHER
    """Possible kinds of a segment hidden as a whole: `(SymbolKind.TEXT,)`, `(SymbolKind.CODE,)`, or both."""
    hole_codes: tuple[int, ...] = ()
    """Number of codes per hole, 0 for text; by default, the network divides missing codes between an image's holes."""

    def __post_init__(self) -> None:
        check_number("max_symbols", self.max_symbols, ge=1)
        if min(self.hole_codes, default=0) < 0:
            raise UsageError("at least 0 codes per hole", min(self.hole_codes))
        if not self.whole_kinds or not {*self.whole_kinds} <= {*EITHER}:
            raise UsageError("whole_kinds with SymbolKind.TEXT, SymbolKind.CODE, or both", self.whole_kinds)

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
    """Goal: generate the rest of a document, up to its `<eos>`."""

    prompt_places = tuple(place for place in Place if place is not Place.ENDED)
    segment_kinds = (SymbolKind.TEXT, SymbolKind.CODE, SymbolKind.EOS, SymbolKind.INFILL)
    final_kind = SymbolKind.EOS
    max_symbols: int
    """Maximum number of generated tokens, including `<eos>`."""

    def __post_init__(self) -> None:
        check_number("max_symbols", self.max_symbols, ge=1)

    @property
    def max_new_symbols(self) -> int:
        return self.max_symbols

"""What a well-formed row of documents is, and where one that is not complete stands.

Each document begins with `<eos>`; segments follow with `<break>` behind each, a text or a picture; then, for each
`<mask>` in its order, `<infill>` and what is hidden, which is never empty. A picture has exactly its number of codes,
those that are hidden with them. A text may be empty where it is read; none is drawn so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.errors import InputError
from feller.data.documents.vocabulary import DocumentVocabulary


class SymbolKind(IntEnum):
    """Kinds of symbols."""

    TEXT, CODE, EOS, BREAK, MASK, INFILL = range(6)


class Place(IntEnum):
    """Where a row may stand."""

    BARE = 0
    """Behind the `<eos>` with which a document begins."""
    BETWEEN = 1
    """Behind a `<break>`."""
    TEXT = 2
    """In a text."""
    PICTURE = 3
    """In a picture, which may have all its codes."""
    OPENED = 4
    """Behind the `<infill>` of a segment that is hidden as a whole, so that it may be of either kind."""
    FILL_TEXT = 5
    """In what is hidden of a text."""
    FILL_PICTURE = 6
    """In what is hidden of a picture."""
    ENDED = 7
    """Behind what is to be drawn."""


WHERE = {
    Place.BARE: "behind its <eos>",
    Place.BETWEEN: "behind a <break>",
    Place.TEXT: "in a text without <break>",
    Place.PICTURE: "in a picture without <break>",
    Place.OPENED: "behind an <infill>",
    Place.FILL_TEXT: "in a fill",
    Place.FILL_PICTURE: "in a fill",
    Place.ENDED: "at its end",
}
"""Places in words."""


@dataclass(frozen=True)
class InfillHole:
    """One `<mask>`."""

    kind: SymbolKind | None
    """Of its segment; None where that is hidden as a whole."""
    num_following: int
    """Holes that follow in the same segment."""
    missing_codes: int
    """Codes that its picture lacks, all its holes together."""


@dataclass(frozen=True)
class ParserState:
    """Where a row stands at its end."""

    place: Place
    codes_left: int
    """Codes that the picture still lacks in which the row ends, or all holes of the picture that is being filled."""
    segment_length: int
    """Symbols of the text, picture or fill in which it ends."""
    holes: tuple[InfillHole, ...]
    """Those of the last document."""
    num_opened: int
    """Holes whose `<infill>` is there."""
    num_documents: int
    """Those that are complete."""

    @property
    def is_complete(self) -> bool:
        """Tell whether the last document may end here, or has ended."""
        if self.place is Place.BARE:
            return self.num_documents > 0
        filled = self.num_opened == len(self.holes) and self.codes_left == 0
        return filled and (self.place is Place.BETWEEN or (self.place > Place.PICTURE and self.segment_length > 0))


def symbol_kinds(vocabulary: DocumentVocabulary) -> Int64[Tensor, " count"]:
    """Return the kind of each symbol that a network answers with."""
    ends = [SymbolKind.EOS, SymbolKind.BREAK, SymbolKind.MASK, SymbolKind.INFILL]
    return torch.tensor([SymbolKind.TEXT] * vocabulary.text + [SymbolKind.CODE] * vocabulary.codes + ends)


def check_document(row: Int64[Tensor, " n"], vocabulary: DocumentVocabulary) -> None:
    """Tell what is wrong with a row of documents; padding on its right, and a last `<eos>`, may be there or not.

    Raises:
        InputError: If it is malformed, or the last document is not complete.
    """
    standing = parse_prefix(row, vocabulary)
    if not standing.is_complete:
        open_holes = len(standing.holes) - standing.num_opened
        raise InputError(
            "a complete document",
            f"one that ends {WHERE[standing.place]}, lacks {standing.codes_left} codes and has {open_holes} holes that"
            " nothing fills",
            "Draw what is missing",
        )


def parse_prefix(row: Int64[Tensor, " n"], vocabulary: DocumentVocabulary) -> ParserState:
    """Read the beginning of a row of documents, and say where it stands.

    Raises:
        InputError: If nothing can make it well-formed.
    """
    values: list[int] = row.tolist()
    while values and values[-1] == vocabulary.pad:
        values.pop()
    if not values or values[0] != vocabulary.eos:
        got = _name(values[0], vocabulary) if values else "an empty one"
        raise InputError(f"a row that begins with <eos>, symbol {vocabulary.eos}", got, "Put it in front")
    wrong = next((i for i, value in enumerate(values) if not 0 <= value < vocabulary.num_outputs), None)
    if wrong is not None:
        raise InputError(
            f"symbols from 0 to {vocabulary.num_outputs - 1}", f"{_name(values[wrong], vocabulary)} at place {wrong}"
        )
    starts = [i for i, value in enumerate(values) if value == vocabulary.eos]
    reader = _PrefixParser(values, vocabulary)
    for start, end in pairwise(starts):
        if not reader.document(start + 1, end, 0).is_complete:
            raise reader.fault(end, "a document that is complete, each segment ended and each hole filled")
    return reader.document(starts[-1] + 1, len(values), len(starts) - 1)


@dataclass(frozen=True)
class _PrefixParser:
    """Reads parts of a row."""

    values: Sequence[int]
    vocabulary: DocumentVocabulary

    def fault(self, place: int, expected: str) -> InputError:
        """Say what is wrong."""
        got = _name(self.values[place], self.vocabulary) if place < len(self.values) else "the end"
        return InputError(expected, f"{got} at place {place}")

    def document(self, start: int, end: int, number: int) -> ParserState:
        """Read what stands between two `<eos>`, or behind the last."""
        opens = [i for i in range(start, end) if self.values[i] == self.vocabulary.infill]
        body = opens[0] if opens else end
        cuts = [i for i in range(start, end) if self.values[i] == self.vocabulary.break_token]
        if opens and cuts and cuts[-1] > body:
            raise self.fault(cuts[-1], "no <break> behind an <infill>")
        holes: list[InfillHole] = []
        begin = start
        for cut in cuts:
            holes += self._segment(begin, cut)
            begin = cut + 1
        if opens:
            if begin != body or begin == start:
                raise self.fault(body, "an <infill> behind a <break> only")
            return self._fills([*opens, end], tuple(holes), number)
        if begin < end:
            return self._unfinished(begin, end, holes, number)
        place = Place.BARE if begin == start else Place.BETWEEN
        return ParserState(place, 0, 0, tuple(holes), 0, number)

    def _kind(self, start: int, end: int) -> tuple[SymbolKind | None, int, int]:
        """Return the kind of a segment, its codes and its holes; other kinds together are refused."""
        kind, codes, holes = None, 0, 0
        for i in range(start, end):
            value = self.values[i]
            if value == self.vocabulary.mask:
                holes += 1
                continue
            own = SymbolKind.TEXT if value < self.vocabulary.text else SymbolKind.CODE
            if kind is not None and own is not kind:
                raise self.fault(i, f"a segment of {'text' if kind is SymbolKind.TEXT else 'codes'} alone")
            kind, codes = own, codes + (own is SymbolKind.CODE)
        return kind, codes, holes

    def _segment(self, start: int, end: int) -> list[InfillHole]:
        """Read a segment up to its `<break>`."""
        kind, codes, holes = self._kind(start, end)
        whole = self.vocabulary.picture
        if kind is SymbolKind.CODE and (codes > whole - holes or (not holes and codes < whole)):
            raise self.fault(end, f"a picture of {whole} codes, at least one for each of {holes} holes, not {codes}")
        return [InfillHole(kind, holes - 1 - i, whole - codes if kind is SymbolKind.CODE else 0) for i in range(holes)]

    def _unfinished(self, start: int, end: int, holes: list[InfillHole], number: int) -> ParserState:
        """Read a segment without its `<break>`; where it is nothing but holes, it goes on as a text."""
        kind, codes, own = self._kind(start, end)
        if kind is not SymbolKind.CODE:
            holes += [InfillHole(SymbolKind.TEXT, own - 1 - i, 0) for i in range(own)]
            return ParserState(Place.TEXT, 0, end - start, tuple(holes), 0, number)
        if own:
            raise self.fault(end, "the <break> of a picture with holes")
        if codes > self.vocabulary.picture:
            raise self.fault(start + self.vocabulary.picture, f"a <break> behind {self.vocabulary.picture} codes")
        return ParserState(Place.PICTURE, self.vocabulary.picture - codes, codes, tuple(holes), 0, number)

    def _fills(self, opens: list[int], holes: tuple[InfillHole, ...], number: int) -> ParserState:
        """Read what fills the holes: what stands between places of `<infill>`, and behind the last."""
        if len(opens) - 1 > len(holes):
            raise self.fault(opens[len(holes)], f"no more than {len(holes)} <infill>, one for each hole")
        kind, codes_left, segment_length = None, 0, 0
        for i, (hole, (start, end)) in enumerate(zip(holes, pairwise(opens), strict=False)):
            if not i or not holes[i - 1].num_following:
                kind, codes_left = hole.kind, hole.missing_codes
            fill_kind, codes, masks = self._kind(start + 1, end)
            segment_length = end - start - 1
            if kind is None and fill_kind is not None:
                kind, codes_left = fill_kind, self.vocabulary.picture if fill_kind is SymbolKind.CODE else 0
            last = i == len(opens) - 2
            if masks or (fill_kind is not None and fill_kind is not kind) or not (segment_length or last):
                raise self.fault(start + 1, "what is hidden: text in a text, codes in a picture, at least one symbol")
            codes_left -= codes
            if kind is SymbolKind.CODE and (
                codes_left < hole.num_following or (codes_left and not hole.num_following and not last)
            ):
                raise self.fault(
                    end, f"fills of {hole.missing_codes or self.vocabulary.picture} codes for a picture's holes"
                )
        place = {None: Place.OPENED, SymbolKind.TEXT: Place.FILL_TEXT, SymbolKind.CODE: Place.FILL_PICTURE}[kind]
        return ParserState(place, codes_left, segment_length, holes, len(opens) - 1, number)


def _name(value: int, vocabulary: DocumentVocabulary) -> str:
    """Name a symbol for people."""
    names = {
        vocabulary.eos: "<eos>",
        vocabulary.break_token: "<break>",
        vocabulary.mask: "<mask>",
        vocabulary.infill: "<infill>",
    }
    if value in names:
        return names[value]
    if 0 <= value < vocabulary.text:
        return f"symbol {value} of text"
    if 0 <= value < vocabulary.eos:
        return f"code {value - vocabulary.text} of a picture"
    return "padding" if value == vocabulary.pad else f"the number {value}"

"""Grammar of rows of document tokens, and a parser for prefixes of rows.

Each document starts with `<eos>`. Then come segments (texts or images), each followed by `<break>`. Then, for each
`<mask>` in order, come `<infill>` and its hidden tokens, at least one. An image has a fixed number of codes, including
hidden ones. Parsed texts may be empty; generated texts are never empty.
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
    """Kind of a document token: text, image code, or one of the special tokens."""

    TEXT, CODE, EOS, BREAK, MASK, INFILL = range(6)


class Place(IntEnum):
    """Position in the document grammar that a parser has reached."""

    BARE = 0
    """After the `<eos>` that starts a document."""
    BETWEEN = 1
    """After a `<break>`."""
    TEXT = 2
    """Inside a text."""
    PICTURE = 3
    """Inside an image, which may be complete except for its `<break>`."""
    OPENED = 4
    """After the `<infill>` of a segment hidden as a whole, which may be text or image."""
    FILL_TEXT = 5
    """Inside the tokens that fill a hole in a text."""
    FILL_PICTURE = 6
    """Inside the codes that fill a hole in an image."""
    ENDED = 7
    """After the end of generation."""


WHERE = {
    Place.BARE: "after its <eos>",
    Place.BETWEEN: "after a <break>",
    Place.TEXT: "in a text without <break>",
    Place.PICTURE: "in an image without <break>",
    Place.OPENED: "after an <infill>",
    Place.FILL_TEXT: "in a fill",
    Place.FILL_PICTURE: "in a fill",
    Place.ENDED: "at its end",
}
"""Parser position -> its description in messages."""


@dataclass(frozen=True)
class InfillHole:
    """Hole of a document, marked by a `<mask>`, whose hidden tokens follow after the segments."""

    kind: SymbolKind | None
    """Kind of the segment with the hole; None if the segment is hidden as a whole."""
    num_following: int
    """Number of later holes in the same segment."""
    missing_codes: int
    """Number of codes missing from the image with the hole, over all holes of this image."""


@dataclass(frozen=True)
class ParserState:
    """Parser state at the end of a row."""

    place: Place
    codes_left: int
    """Number of image codes still missing from the last image, or from all holes of the image being filled."""
    segment_length: int
    """Number of tokens of the text, image or fill in which the row ends."""
    holes: tuple[InfillHole, ...]
    """Holes of the last document."""
    num_opened: int
    """Number of holes whose `<infill>` has been read."""
    num_documents: int
    """Number of documents in the row before the last one."""

    @property
    def is_complete(self) -> bool:
        """True if the last document is complete."""
        if self.place is Place.BARE:
            return self.num_documents > 0
        filled = self.num_opened == len(self.holes) and self.codes_left == 0
        return filled and (self.place is Place.BETWEEN or (self.place > Place.PICTURE and self.segment_length > 0))


def symbol_kinds(vocabulary: DocumentVocabulary) -> Int64[Tensor, " count"]:
    """Return the kind (text, image code or special token) of each token that a network predicts."""
    special = [SymbolKind.EOS, SymbolKind.BREAK, SymbolKind.MASK, SymbolKind.INFILL]
    return torch.tensor([SymbolKind.TEXT] * vocabulary.text + [SymbolKind.CODE] * vocabulary.codes + special)


def check_document(row: Int64[Tensor, " n"], vocabulary: DocumentVocabulary) -> None:
    """Check that a row of documents is well-formed; right padding and a final `<eos>` are optional.

    Raises:
        InputError: If the row is malformed, or its last document is incomplete.
    """
    state = parse_prefix(row, vocabulary)
    if not state.is_complete:
        open_holes = len(state.holes) - state.num_opened
        raise InputError(
            "a complete document",
            f"a document that ends {WHERE[state.place]}, with {state.codes_left} missing codes and {open_holes}"
            " unfilled holes",
            "Complete the document",
        )


def parse_prefix(row: Int64[Tensor, " n"], vocabulary: DocumentVocabulary) -> ParserState:
    """Parse the start of a row of documents, and return the parser state at its end.

    Raises:
        InputError: If no continuation is well-formed.
    """
    values: list[int] = row.tolist()
    while values and values[-1] == vocabulary.pad:
        values.pop()
    if not values or values[0] != vocabulary.eos:
        found = _name(values[0], vocabulary) if values else "an empty row"
        raise InputError(f"a row that starts with <eos>, token {vocabulary.eos}", found, "Prepend <eos>")
    invalid = next((i for i, value in enumerate(values) if not 0 <= value < vocabulary.num_outputs), None)
    if invalid is not None:
        raise InputError(
            f"tokens from 0 to {vocabulary.num_outputs - 1}",
            f"{_name(values[invalid], vocabulary)} at position {invalid}",
        )
    starts = [i for i, value in enumerate(values) if value == vocabulary.eos]
    parser = _PrefixParser(values, vocabulary)
    for start, end in pairwise(starts):
        if not parser.document(start + 1, end, 0).is_complete:
            raise parser.fault(end, "a complete document, with all segments ended and all holes filled")
    return parser.document(starts[-1] + 1, len(values), len(starts) - 1)


def planned_hole_sizes(
    row: Int64[Tensor, " n"], state: ParserState, vocabulary: DocumentVocabulary, hole_codes: Sequence[int] = ()
) -> Int64[Tensor, " n"]:
    """Return the number of codes that each `<mask>` of a row hides, 0 at other tokens and where it is unknown.

    Holes of earlier documents are filled in the row, and a single hole of an image hides all codes that it lacks.

    Args:
        row: Row without padding.
        state: Parser state at its end.
        vocabulary: Vocabulary of the row.
        hole_codes: Number of codes of each hole of the last document; empty if unspecified.
    """
    sizes, is_code = torch.zeros_like(row), vocabulary.is_code(row)
    starts = (row == vocabulary.eos).nonzero()[:, 0].tolist()
    for start, end in pairwise([*starts, len(row)]):
        masks, infills = (
            (row[start:end] == token).nonzero()[:, 0].add(start).tolist()
            for token in (vocabulary.mask, vocabulary.infill)
        )
        for mask, (begin, stop) in zip(masks, pairwise([*infills, end]), strict=False):
            sizes[mask] = is_code[begin:stop].sum()
    masks = (row == vocabulary.mask).nonzero()[:, 0][-len(state.holes) :] if state.holes else row[:0]
    for i, (mask, hole) in enumerate(zip(masks.tolist(), state.holes, strict=True)):
        if len(hole_codes) == len(state.holes):
            sizes[mask] = hole_codes[i]
        elif hole.missing_codes and not hole.num_following and (i == 0 or not state.holes[i - 1].num_following):
            sizes[mask] = hole.missing_codes
    return sizes


@dataclass(frozen=True)
class _PrefixParser:
    values: Sequence[int]
    vocabulary: DocumentVocabulary

    def fault(self, place: int, expected: str) -> InputError:
        """Return the error for the token at position `place`, where `expected` should stand."""
        found = _name(self.values[place], self.vocabulary) if place < len(self.values) else "the end"
        return InputError(expected, f"{found} at position {place}")

    def document(self, start: int, end: int, number: int) -> ParserState:
        """Parse the tokens from `start` to `end`, one document without its `<eos>`; return the parser state at its end.

        `number` is the number of documents before it.
        """
        infills = [i for i in range(start, end) if self.values[i] == self.vocabulary.infill]
        body_end = infills[0] if infills else end
        breaks = [i for i in range(start, end) if self.values[i] == self.vocabulary.break_token]
        if infills and breaks and breaks[-1] > body_end:
            raise self.fault(breaks[-1], "no <break> after an <infill>")
        holes: list[InfillHole] = []
        segment_start = start
        for position in breaks:
            holes += self._segment(segment_start, position)
            segment_start = position + 1
        if infills:
            if segment_start != body_end or segment_start == start:
                raise self.fault(body_end, "<infill> only after a <break>")
            return self._fills([*infills, end], tuple(holes), number)
        if segment_start < end:
            return self._unfinished(segment_start, end, holes, number)
        place = Place.BARE if segment_start == start else Place.BETWEEN
        return ParserState(place, 0, 0, tuple(holes), 0, number)

    def _kind(self, start: int, end: int) -> tuple[SymbolKind | None, int, int]:
        """Return the kind of a segment, its number of image codes and its number of holes; refuse mixed kinds."""
        kind, codes, holes = None, 0, 0
        for i in range(start, end):
            value = self.values[i]
            if value == self.vocabulary.mask:
                holes += 1
                continue
            value_kind = SymbolKind.TEXT if value < self.vocabulary.text else SymbolKind.CODE
            if kind is not None and value_kind is not kind:
                raise self.fault(i, f"only {'text' if kind is SymbolKind.TEXT else 'codes'} in this segment")
            kind, codes = value_kind, codes + (value_kind is SymbolKind.CODE)
        return kind, codes, holes

    def _segment(self, start: int, end: int) -> list[InfillHole]:
        kind, codes, holes = self._kind(start, end)
        total = self.vocabulary.picture
        if kind is SymbolKind.CODE and (codes > total - holes or (not holes and codes < total)):
            raise self.fault(
                end, f"an image of {total} codes, with at least one hidden in each of {holes} holes, not {codes}"
            )
        return [InfillHole(kind, holes - 1 - i, total - codes if kind is SymbolKind.CODE else 0) for i in range(holes)]

    def _unfinished(self, start: int, end: int, holes: list[InfillHole], num_documents: int) -> ParserState:
        """Parse a segment that lacks its `<break>`, and return the parser state at its end.

        A segment that consists only of holes counts as text.
        """
        kind, codes, num_holes = self._kind(start, end)
        if kind is not SymbolKind.CODE:
            holes += [InfillHole(SymbolKind.TEXT, num_holes - 1 - i, 0) for i in range(num_holes)]
            return ParserState(Place.TEXT, 0, end - start, tuple(holes), 0, num_documents)
        if num_holes:
            raise self.fault(end, "the <break> of an image with holes")
        if codes > self.vocabulary.picture:
            raise self.fault(start + self.vocabulary.picture, f"a <break> after {self.vocabulary.picture} codes")
        return ParserState(Place.PICTURE, self.vocabulary.picture - codes, codes, tuple(holes), 0, num_documents)

    def _fills(self, infills: list[int], holes: tuple[InfillHole, ...], num_documents: int) -> ParserState:
        """Parse the tokens that fill the holes of the last document, and return the parser state at the end of the row.

        `infills` holds the position of each `<infill>` and of the end, and `num_documents` counts the documents before.
        """
        if len(infills) - 1 > len(holes):
            raise self.fault(infills[len(holes)], f"at most {len(holes)} <infill>, one per hole")
        kind, codes_left, segment_length = None, 0, 0
        for i, (hole, (start, end)) in enumerate(zip(holes, pairwise(infills), strict=False)):
            if not i or not holes[i - 1].num_following:
                kind, codes_left = hole.kind, hole.missing_codes
            fill_kind, codes, num_masks = self._kind(start + 1, end)
            segment_length = end - start - 1
            if kind is None and fill_kind is not None:
                kind, codes_left = fill_kind, self.vocabulary.picture if fill_kind is SymbolKind.CODE else 0
            is_last = i == len(infills) - 2
            if num_masks or (fill_kind is not None and fill_kind is not kind) or not (segment_length or is_last):
                raise self.fault(start + 1, "a fill of at least one token of the segment's kind (text or codes)")
            codes_left -= codes
            if kind is SymbolKind.CODE and (
                codes_left < hole.num_following or (codes_left and not hole.num_following and not is_last)
            ):
                raise self.fault(
                    end, f"fills of {hole.missing_codes or self.vocabulary.picture} codes for the holes of an image"
                )
        place = {None: Place.OPENED, SymbolKind.TEXT: Place.FILL_TEXT, SymbolKind.CODE: Place.FILL_PICTURE}[kind]
        return ParserState(place, codes_left, segment_length, holes, len(infills) - 1, num_documents)


def _name(value: int, vocabulary: DocumentVocabulary) -> str:
    names = {
        vocabulary.eos: "<eos>",
        vocabulary.break_token: "<break>",
        vocabulary.mask: "<mask>",
        vocabulary.infill: "<infill>",
    }
    if value in names:
        return names[value]
    if 0 <= value < vocabulary.text:
        return f"text token {value}"
    if 0 <= value < vocabulary.eos:
        return f"image code {value - vocabulary.text}"
    return "padding" if value == vocabulary.pad else f"the invalid token {value}"

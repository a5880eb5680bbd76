"""Automaton of the tokens allowed next in document decoding, which keeps every row completable within its limit.

The automaton uses NumPy on the CPU, because the overhead of tensor calls would be significant compared to a decoding
step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Int64

from feller.core.errors import UsageError
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.sampling.autoregressive.decoding_goals import DecodingGoal
from feller.sampling.autoregressive.document_grammar import WHERE, ParserState, Place, SymbolKind

BARE, BETWEEN, TEXT, PICTURE, OPENED, FILL_TEXT, FILL_PICTURE, ENDED = map(int, Place)
KIND_TEXT, KIND_CODE, KIND_EOS, KIND_BREAK, _, KIND_INFILL = map(int, SymbolKind)


@dataclass(frozen=True)
class ParserStateBatch:
    """Parser states of a batch of rows during document decoding.

    A field [b, h] is a hole table: each row has one entry for every possible value of `num_opened`.
    """

    place: Int64[np.ndarray, " b"]
    codes_left: Int64[np.ndarray, " b"]
    """Number of image codes missing from the image being generated or filled."""
    segment_length: Int64[np.ndarray, " b"]
    """Number of tokens of the current text, image or fill."""
    num_opened: Int64[np.ndarray, " b"]
    """Number of holes whose `<infill>` was generated."""
    room: Int64[np.ndarray, " b"]
    """Number of tokens that may still be generated in each row."""
    min_remaining: Int64[np.ndarray, "b h"]
    """Minimum number of tokens needed to fill all unopened holes and end the row."""
    num_following: Int64[np.ndarray, "b h"]
    """Number of holes of the same segment after the last opened hole."""
    next_place: Int64[np.ndarray, "b h"]
    """Parser position after the next `<infill>` if the hole is in a new segment; `ENDED` if no hole is left."""
    missing_codes: Int64[np.ndarray, "b h"]
    """Number of codes missing from the image of the next hole."""

    def select(self, index: np.ndarray) -> "ParserStateBatch":
        """Return the states of some rows, selected by indices or a mask."""
        return ParserStateBatch(*(getattr(self, field.name)[index] for field in fields(self)))

    def at_opened(
        self, table: Int64[np.ndarray, "b h"], ahead: Int64[np.ndarray, " b"] | int = 0
    ) -> Int64[np.ndarray, " b"]:
        """Return each row's entry of a hole table [b, h], at the index `num_opened` + `ahead`."""
        if table.shape[1] == 1:  # no holes
            return table[:, 0]
        return table[np.arange(len(table)), self.num_opened + ahead]


@dataclass(frozen=True)
class Automaton:
    """Automaton of the well-formed continuations that a decoding goal allows.

    A token is allowed if the row can still be completed within its remaining length. Therefore at least one token is
    allowed until the row ends.
    """

    vocabulary: DocumentVocabulary
    goal: DecodingGoal

    def initial_state(self, parser_states: Sequence[ParserState], room: Sequence[int]) -> ParserStateBatch:
        """Return the state of rows after their prompts, where `room` is the remaining length of each row in tokens.

        Raises:
            UsageError: If the goal does not fit a prompt, or the remaining length is too short.
        """
        self._check(parser_states)
        max_holes = max((len(parser_state.holes) for parser_state in parser_states), default=0)
        tables = [self._tables(parser_state, max_holes) for parser_state in parser_states]
        scalars = [self._numbers(parser_state) for parser_state in parser_states]
        limits = np.minimum(np.array(room, dtype=np.int64), self.goal.max_new_symbols)
        place, codes_left, segment_length, num_opened = np.array(scalars, dtype=np.int64).reshape(-1, 4).T
        hole_tables = np.array(tables, dtype=np.int64).reshape(-1, 4, max_holes + 1).swapaxes(0, 1)
        state = ParserStateBatch(place, codes_left, segment_length, num_opened, limits, *hole_tables)
        min_symbols = self.min_symbols(state)
        too_short = (min_symbols > limits).nonzero()[0]
        if len(too_short):
            row = int(too_short[0])
            raise UsageError(
                f"room for at least {int(min_symbols[row])} tokens after prompt {row}",
                f"room for {int(limits[row])}",
                "Shorten the prompt, or raise the limit",
            )
        return state

    def min_symbols(self, state: ParserStateBatch) -> Int64[np.ndarray, " b"]:
        """Return the minimum number of tokens that complete each row."""
        place, min_remaining = state.place, state.at_opened(state.min_remaining)
        num_following = state.at_opened(state.num_following)
        segment_symbols = 2 if SymbolKind.TEXT in self.goal.segment_kinds else self.vocabulary.picture + 1
        fill_symbols = state.codes_left + num_following + state.at_opened(state.min_remaining, num_following)
        minimum = segment_symbols + min_remaining
        if self.goal.final_kind is SymbolKind.EOS:
            minimum = np.where(place == BETWEEN, min_remaining, minimum)
        minimum = np.where(place == TEXT, 1 + min_remaining, minimum)
        minimum = np.where(place == PICTURE, state.codes_left + 1 + min_remaining, minimum)
        minimum = np.where(place == OPENED, 1 + min_remaining, minimum)
        minimum = np.where(place == FILL_TEXT, (state.segment_length == 0) + min_remaining, minimum)
        minimum = np.where(place == FILL_PICTURE, fill_symbols, minimum)
        return np.where(place == ENDED, 0, minimum)

    def allowed(self, state: ParserStateBatch) -> Bool[np.ndarray, "b kinds"]:
        """Return the mask of allowed kinds of the next token, in the order of `SymbolKind`; False for ended rows."""
        place, codes_left = state.place, state.codes_left
        segment_length, picture = state.segment_length, self.vocabulary.picture
        min_remaining, num_following = state.at_opened(state.min_remaining), state.at_opened(state.num_following)
        spare = state.room - 1 - min_remaining
        is_start, is_opened = place <= BETWEEN, place == OPENED
        in_text, in_picture = place == TEXT, place == PICTURE
        fill_text, fill_picture = place == FILL_TEXT, place == FILL_PICTURE

        can_text = (in_text & (spare >= 1)) | ((is_opened | fill_text) & (spare >= 0))
        if SymbolKind.TEXT in self.goal.segment_kinds:
            can_text = can_text | (is_start & (spare >= 1))
        can_text = can_text & (segment_length < self.goal.max_segment_length)

        remaining_after = state.at_opened(state.min_remaining, num_following * is_opened)
        opens_image = (
            is_opened & (picture > num_following) & (picture - 1 + num_following + remaining_after <= state.room - 1)
        )
        can_code = (in_picture & (codes_left > 0)) | (fill_picture & (codes_left > num_following)) | opens_image
        if SymbolKind.CODE in self.goal.segment_kinds:
            can_code = can_code | (is_start & (spare >= picture))

        can_break = in_text & (segment_length > 0) | (in_picture & (codes_left == 0))
        can_end = ((segment_length > 0) & fill_text) | (
            (segment_length > 0) & fill_picture & ((num_following > 0) | (codes_left == 0))
        )
        if self.goal.final_kind is SymbolKind.EOS:
            can_end = can_end | (place == BETWEEN)
        if self.goal.hole_sizes:
            hole_size = np.array([0, *self.goal.hole_sizes])[state.num_opened]
            can_code = can_code & ~((hole_size > 0) & (segment_length >= hole_size))
            can_end = can_end & ~(segment_length < hole_size)
        is_last = state.at_opened(state.next_place) == ENDED
        never = np.zeros_like(is_last)
        return np.stack([can_text, can_code, can_end & is_last, can_break, never, can_end & ~is_last], 1)

    def step(self, state: ParserStateBatch, kind: Int64[np.ndarray, " b"]) -> ParserStateBatch:
        """Return the state after each row receives a token of the given (allowed) kind."""
        place, num_following = state.place, state.at_opened(state.num_following)
        is_text, is_code, is_break, is_infill = (kind == k for k in (KIND_TEXT, KIND_CODE, KIND_BREAK, KIND_INFILL))
        is_start, is_opened = place <= BETWEEN, place == OPENED
        opens_segment = is_infill & ((state.num_opened == 0) | (num_following == 0))
        end_place = BETWEEN if self.goal.final_kind is SymbolKind.EOS else ENDED

        codes_left = np.where(is_code & (is_start | is_opened), self.vocabulary.picture, state.codes_left) - is_code
        codes_left = np.where(opens_segment, state.at_opened(state.missing_codes), codes_left)
        next_place = np.where(is_text & is_start, TEXT, place)
        next_place = np.where(is_code & is_start, PICTURE, next_place)
        next_place = np.where(is_text & is_opened, FILL_TEXT, next_place)
        next_place = np.where(is_code & is_opened, FILL_PICTURE, next_place)
        next_place = np.where(opens_segment, state.at_opened(state.next_place), next_place)
        next_place = np.where(is_break, end_place, next_place)
        next_place = np.where(kind == KIND_EOS, ENDED, next_place)
        segment_length = np.where(is_text | is_code, state.segment_length + 1, 0)
        num_opened = state.num_opened + is_infill
        return replace(
            state,
            place=next_place,
            codes_left=codes_left,
            segment_length=segment_length,
            num_opened=num_opened,
            room=state.room - 1,
        )

    def _check(self, states: Sequence[ParserState]) -> None:
        is_infill = SymbolKind.INFILL in self.goal.segment_kinds and SymbolKind.EOS not in self.goal.segment_kinds
        for row, state in enumerate(states):
            if state.place not in self.goal.prompt_places or (is_infill and not state.holes):
                places = ", or ".join(WHERE[place] for place in self.goal.prompt_places)
                raise UsageError(
                    f"a prompt that ends {places}{', and has holes,' if is_infill else ''} for {self.goal}",
                    f"prompt {row}, which ends {WHERE[state.place]} and has {len(state.holes)} holes",
                )
            if self.goal.hole_sizes and not _sized(self.goal.hole_sizes, state, self.vocabulary.picture):
                raise UsageError(
                    f"sizes of {len(state.holes)} holes that sum to the missing codes of each image",
                    f"{self.goal.hole_sizes} for prompt {row}",
                    "Count the hidden codes of each hole, 0 for text",
                )
            max_holes = max((hole.num_following + 1 for hole in state.holes if hole.kind is None), default=0)
            if self.goal.hidden_kinds == (SymbolKind.CODE,) and max_holes > self.vocabulary.picture:
                raise UsageError(
                    f"at most {self.vocabulary.picture} holes in a hidden image, one per code",
                    f"{max_holes} in prompt {row}",
                    "Merge adjacent holes",
                )

    def _numbers(self, state: ParserState) -> tuple[int, int, int, int]:
        """Return parser position, missing codes, segment length and number of opened holes.

        In a hole of known kind, the position is that of this kind.
        """
        place, codes_left = state.place, state.codes_left
        kind = self._whole(state.num_opened - 1)
        if place is Place.OPENED and kind is not None:
            place = _entry(kind)
            codes_left = self.vocabulary.picture if place is Place.FILL_PICTURE else 0
        return place, codes_left, state.segment_length, state.num_opened

    def _whole(self, hole_index: int) -> SymbolKind | None:
        """Return the kind (text or code) that must fill a hole of a whole segment; None if both are allowed."""
        if self.goal.hole_sizes:
            return SymbolKind.CODE if self.goal.hole_sizes[hole_index] else SymbolKind.TEXT
        return self.goal.hidden_kinds[0] if len(self.goal.hidden_kinds) == 1 else None

    def _tables(self, state: ParserState, max_holes: int) -> tuple[Sequence[int], ...]:
        if self.goal.final_kind is SymbolKind.BREAK:
            return [0] * (max_holes + 1), [0] * (max_holes + 1), [Place.ENDED] * (max_holes + 1), [0] * (max_holes + 1)
        holes, picture = state.holes, self.vocabulary.picture
        kinds = [self._whole(i) if hole.kind is None else hole.kind for i, hole in enumerate(holes)]
        missing_codes = [
            picture if hole.kind is None and kind is SymbolKind.CODE else hole.missing_codes
            for hole, kind in zip(holes, kinds, strict=True)
        ]
        min_remaining = [1] * (max_holes + 1)  # the `<eos>`
        for i in range(len(holes) - 1, -1, -1):
            is_last = holes[i].num_following == 0
            codes = missing_codes[i] if is_last else 0
            min_remaining[i] = min_remaining[i + 1] + 1 + (codes if kinds[i] is SymbolKind.CODE else 1)
        pad = max_holes - len(holes)
        num_following = [0, *(hole.num_following for hole in holes)] + [0] * pad
        next_place = [*map(_entry, kinds), Place.ENDED] + [Place.ENDED] * pad
        return min_remaining, num_following, next_place, [*missing_codes, 0] + [0] * pad


def _sized(sizes: Sequence[int], state: ParserState, picture: int) -> bool:
    """Return True if `sizes`, the requested number of tokens of each hole, fit the prompt.

    It must be 0 for holes in texts, and add up to the number of missing codes for the holes of an image.
    """
    if len(sizes) != len(state.holes):
        return False
    total = 0
    for size, hole in zip(sizes, state.holes, strict=True):
        total += size
        if not size and hole.kind is SymbolKind.CODE:
            return False
        if not hole.num_following:
            totals = {SymbolKind.CODE: (hole.missing_codes,), SymbolKind.TEXT: (0,), None: (0, picture)}[hole.kind]
            if total not in totals:
                return False
            total = 0
    return True


def _entry(kind: SymbolKind | None) -> Place:
    """Return the parser position after an `<infill>`, given the kind of its hole; None if the kind is open."""
    return {None: Place.OPENED, SymbolKind.TEXT: Place.FILL_TEXT, SymbolKind.CODE: Place.FILL_PICTURE}[kind]

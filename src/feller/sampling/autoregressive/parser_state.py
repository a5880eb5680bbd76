"""Which symbols may come next in rows that are being drawn, so that each can be ended in the room it has.

NumPy on the processor: a step of a network is short enough for the calls of tensors to count.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Int64

from feller.core.errors import UsageError
from feller.data.documents.vocabulary import Symbols
from feller.sampling.autoregressive.decoding_goals import Plan
from feller.sampling.autoregressive.document_grammar import WHERE, Kind, Place, Standing

BARE, BETWEEN, TEXT, PICTURE, OPENED, FILL_TEXT, FILL_PICTURE, ENDED = map(int, Place)
SAYS, CODES, ENDS, CUTS, _, FILLS = map(int, Kind)


@dataclass(frozen=True)
class State:
    """Where rows stand; what is known of holes is looked up by the number of those whose `<infill>` is there."""

    place: Int64[np.ndarray, " b"]
    left: Int64[np.ndarray, " b"]
    """Codes that the picture still lacks that is being drawn or filled."""
    said: Int64[np.ndarray, " b"]
    """Symbols of the text, picture or fill so far."""
    opened: Int64[np.ndarray, " b"]
    """Holes whose `<infill>` is there."""
    room: Int64[np.ndarray, " b"]
    """Symbols that may still be drawn."""
    rest: Int64[np.ndarray, "b h"]
    """The fewest with which all holes that are not opened yet are filled and the row ends."""
    behind: Int64[np.ndarray, "b h"]
    """Holes of the same segment that follow the one that was opened last."""
    entry: Int64[np.ndarray, "b h"]
    """Place behind the next `<infill>`, where it begins another segment's fills; `ENDED` if there is none."""
    missing: Int64[np.ndarray, "b h"]
    """Codes that the next hole's picture lacks."""

    def rows(self, which: np.ndarray) -> "State":
        """Return that of some of the rows, by their numbers or by marks."""
        return State(*(getattr(self, field.name)[which] for field in fields(self)))

    def now(self, table: Int64[np.ndarray, "b h"], ahead: Int64[np.ndarray, " b"] | int = 0) -> Int64[np.ndarray, " b"]:
        """Look up what a table says at this number of opened holes, or some holes ahead."""
        if table.shape[1] == 1:  # no holes
            return table[:, 0]
        return table[np.arange(len(table)), self.opened + ahead]


@dataclass(frozen=True)
class Automaton:
    """The well-formed ways on that a plan takes.

    A symbol may come where the row can be ended behind it within its room; so one may always come until it has ended.
    """

    symbols: Symbols
    plan: Plan

    def begin(self, standings: Sequence[Standing], room: Sequence[int]) -> State:
        """Return the state of rows that stand somewhere, each with room for so many symbols.

        Raises:
            UsageError: If the plan cannot go on from there, or not within the room.
        """
        self._check(standings)
        most = max((len(standing.holes) for standing in standings), default=0)
        tables = [self._tables(standing, most) for standing in standings]
        numbers = [self._numbers(standing) for standing in standings]
        allowed = np.minimum(np.array(room, dtype=np.int64), self.plan.room)
        place, left, said, opened = np.array(numbers, dtype=np.int64).reshape(-1, 4).T
        rest, behind, entry, missing = np.array(tables, dtype=np.int64).reshape(-1, 4, most + 1).swapaxes(0, 1)
        state = State(place, left, said, opened, allowed, rest, behind, entry, missing)
        needed = self.need(state)
        short = (needed > allowed).nonzero()[0]
        if len(short):
            row = int(short[0])
            raise UsageError(
                f"room for at least {int(needed[row])} symbols behind prompt {row}",
                int(allowed[row]),
                "Shorten the prompt, or allow more",
            )
        return state

    def need(self, state: State) -> Int64[np.ndarray, " b"]:
        """Return the fewest symbols with which the rows end as planned."""
        place, rest, behind = state.place, state.now(state.rest), state.now(state.behind)
        segment = 2 if Kind.TEXT in self.plan.begins else self.symbols.picture + 1
        filled = state.left + behind + state.now(state.rest, behind)
        need = segment + rest
        if self.plan.ends is Kind.EOS:
            need = np.where(place == BETWEEN, rest, need)
        need = np.where(place == TEXT, 1 + rest, need)
        need = np.where(place == PICTURE, state.left + 1 + rest, need)
        need = np.where(place == OPENED, 1 + rest, need)
        need = np.where(place == FILL_TEXT, (state.said == 0) + rest, need)
        need = np.where(place == FILL_PICTURE, filled, need)
        return np.where(place == ENDED, 0, need)

    def allowed(self, state: State) -> Bool[np.ndarray, "b kinds"]:
        """Mark the kinds of symbols that may come next, in the order of `Kind`; none where a row has ended."""
        place, left, said, picture = state.place, state.left, state.said, self.symbols.picture
        rest, behind = state.now(state.rest), state.now(state.behind)
        spare = state.room - 1 - rest
        begins, fresh = place <= BETWEEN, place == OPENED
        in_text, in_picture = place == TEXT, place == PICTURE
        fill_text, fill_picture = place == FILL_TEXT, place == FILL_PICTURE

        text = (in_text & (spare >= 1)) | ((fresh | fill_text) & (spare >= 0))
        if Kind.TEXT in self.plan.begins:
            text = text | (begins & (spare >= 1))
        text = text & (said < self.plan.words)

        after = state.now(state.rest, behind * fresh)
        whole = fresh & (picture > behind) & (picture - 1 + behind + after <= state.room - 1)
        code = (in_picture & (left > 0)) | (fill_picture & (left > behind)) | whole
        if Kind.CODE in self.plan.begins:
            code = code | (begins & (spare >= picture))

        cut = in_text & (said > 0) | (in_picture & (left == 0))
        over = ((said > 0) & fill_text) | ((said > 0) & fill_picture & ((behind > 0) | (left == 0)))
        if self.plan.ends is Kind.EOS:
            over = over | (place == BETWEEN)
        if self.plan.sizes:
            size = np.array([0, *self.plan.sizes])[state.opened]
            code, over = code & ~((size > 0) & (said >= size)), over & ~(said < size)
        none = state.now(state.entry) == ENDED
        never = np.zeros_like(none)
        return np.stack([text, code, over & none, cut, never, over & ~none], 1)

    def step(self, state: State, kind: Int64[np.ndarray, " b"]) -> State:
        """Return where the rows stand behind symbols of kinds that were allowed."""
        place, behind = state.place, state.now(state.behind)
        text, code, cut, infill = (kind == each for each in (SAYS, CODES, CUTS, FILLS))
        begins, fresh = place <= BETWEEN, place == OPENED
        another = infill & ((state.opened == 0) | (behind == 0))
        ended = BETWEEN if self.plan.ends is Kind.EOS else ENDED

        left = np.where(code & (begins | fresh), self.symbols.picture, state.left) - code
        left = np.where(another, state.now(state.missing), left)
        next_place = np.where(text & begins, TEXT, place)
        next_place = np.where(code & begins, PICTURE, next_place)
        next_place = np.where(text & fresh, FILL_TEXT, next_place)
        next_place = np.where(code & fresh, FILL_PICTURE, next_place)
        next_place = np.where(another, state.now(state.entry), next_place)
        next_place = np.where(cut, ended, next_place)
        next_place = np.where(kind == ENDS, ENDED, next_place)
        said = np.where(text | code, state.said + 1, 0)
        opened = state.opened + infill
        return replace(state, place=next_place, left=left, said=said, opened=opened, room=state.room - 1)

    def _check(self, standings: Sequence[Standing]) -> None:
        """Refuse prompts that the plan does not go on from."""
        fills = Kind.INFILL in self.plan.begins and Kind.EOS not in self.plan.begins
        for row, standing in enumerate(standings):
            if standing.place not in self.plan.after or (fills and not standing.holes):
                wanted = ", or ".join(WHERE[place] for place in self.plan.after)
                raise UsageError(
                    f"a prompt that ends {wanted}{', and has holes,' if fills else ''} for {self.plan}",
                    f"prompt {row} that ends {WHERE[standing.place]}, and has {len(standing.holes)} holes",
                )
            if self.plan.sizes and not _sized(self.plan.sizes, standing, self.symbols.picture):
                raise UsageError(
                    f"sizes of {len(standing.holes)} holes, which add up to what each picture lacks",
                    f"{self.plan.sizes} for prompt {row}",
                    "Count what each hole hides, 0 for those of text",
                )
            most = max((hole.behind + 1 for hole in standing.holes if hole.kind is None), default=0)
            if self.plan.hidden == (Kind.CODE,) and most > self.symbols.picture:
                raise UsageError(
                    f"at most {self.symbols.picture} holes in a hidden picture, one for each code",
                    f"{most} in prompt {row}",
                    "Join those that touch",
                )

    def _numbers(self, standing: Standing) -> tuple[int, int, int, int]:
        """Return place, codes left, symbols said and holes opened; a hole of either kind may be known to be of one."""
        place, left = standing.place, standing.left
        kind = self._whole(standing.opened - 1)
        if place is Place.OPENED and kind is not None:
            place = _entry(kind)
            left = self.symbols.picture if place is Place.FILL_PICTURE else 0
        return place, left, standing.said, standing.opened

    def _whole(self, number: int) -> Kind | None:
        """Return what a segment is that is hidden as a whole, by the number of its hole; None for either."""
        if self.plan.sizes:
            return Kind.CODE if self.plan.sizes[number] else Kind.TEXT
        return self.plan.hidden[0] if len(self.plan.hidden) == 1 else None

    def _tables(self, standing: Standing, most: int) -> tuple[Sequence[int], ...]:
        """Return the rows of the tables of holes."""
        if self.plan.ends is Kind.CUT:
            return [0] * (most + 1), [0] * (most + 1), [Place.ENDED] * (most + 1), [0] * (most + 1)
        holes, picture = standing.holes, self.symbols.picture
        sorts = [self._whole(i) if hole.kind is None else hole.kind for i, hole in enumerate(holes)]
        lacks = [
            picture if hole.kind is None and sort is Kind.CODE else hole.missing
            for hole, sort in zip(holes, sorts, strict=True)
        ]
        rest = [1] * (most + 1)  # the `<eos>`
        for i in range(len(holes) - 1, -1, -1):
            last = holes[i].behind == 0
            codes = lacks[i] if last else 0
            rest[i] = rest[i + 1] + 1 + (codes if sorts[i] is Kind.CODE else 1)
        pad = most - len(holes)
        behind = [0, *(hole.behind for hole in holes)] + [0] * pad
        entry = [*map(_entry, sorts), Place.ENDED] + [Place.ENDED] * pad
        return rest, behind, entry, [*lacks, 0] + [0] * pad


def _sized(sizes: Sequence[int], standing: Standing, picture: int) -> bool:
    """Tell whether holes can have some sizes: 0 in a text, and all that is missing in a picture."""
    if len(sizes) != len(standing.holes):
        return False
    total = 0
    for size, hole in zip(sizes, standing.holes, strict=True):
        total += size
        if not size and hole.kind is Kind.CODE:
            return False
        if not hole.behind:
            lacks = {Kind.CODE: (hole.missing,), Kind.TEXT: (0,), None: (0, picture)}[hole.kind]
            if total not in lacks:
                return False
            total = 0
    return True


def _entry(kind: Kind | None) -> Place:
    """Return the place behind the `<infill>` of a hole."""
    return {None: Place.OPENED, Kind.TEXT: Place.FILL_TEXT, Kind.CODE: Place.FILL_PICTURE}[kind]

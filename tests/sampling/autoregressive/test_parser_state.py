"""Allowed next tokens, against enumeration of all documents."""

import functools
import itertools

import numpy as np
import pytest

from feller.core.errors import InputError, UsageError
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.sampling.autoregressive.decoding_goals import (
    ContinuationGoal,
    DecodingGoal,
    ImageGoal,
    InfillGoal,
    TextGoal,
)
from feller.sampling.autoregressive.document_grammar import WHERE, Place, SymbolKind, check_document, parse_prefix
from feller.sampling.autoregressive.parser_state import Automaton
from tests.errors import numbers, refuses
from tests.sampling.autoregressive.readers import written

SYMBOLS = DocumentVocabulary(text=1, codes=1, picture=3)
LETTERS = "a0EBMI"
"""One symbol of each kind."""
KINDS = dict(zip(LETTERS, SymbolKind, strict=True))


def complete(text: str) -> bool:
    try:
        check_document(written(text, SYMBOLS), SYMBOLS)
    except InputError:
        return False
    return True


def ways_on(prompt: str, most: int) -> set[str]:
    """Return all valid continuations of a prompt up to an `<eos>`, by `check_document` of every string."""
    found = set()
    for length in range(most):
        for letters in itertools.product("a0BI", repeat=length):
            text = "".join(letters)
            whole = prompt + text + "E"
            empty = any(whole[i] in "EB" and whole[i + 1] == "B" for i in range(len(prompt) - 1, len(whole) - 1))
            if not empty and complete(whole):
                found.add(text + "E")
    return found


def ways_taken(prompt: str, plan: DecodingGoal, room: int) -> set[str]:
    """Return all continuations that the automaton allows."""
    automaton, found = Automaton(SYMBOLS, plan), set()
    state = automaton.initial_state([parse_prefix(written(prompt, SYMBOLS), SYMBOLS)], [room])

    def go_on(text: str, state) -> None:
        if state.place[0] == Place.ENDED:
            assert automaton.min_symbols(state)[0] == 0
            assert not automaton.allowed(state).any()
            found.add(text)
            return
        marks = automaton.allowed(state)[0]
        assert marks.any(), text
        assert 0 < automaton.min_symbols(state)[0] <= state.room[0], text
        for letter in itertools.compress(LETTERS, marks):
            go_on(text + letter, automaton.step(state, np.array([KINDS[letter]])))

    go_on("", state)
    return found


@functools.cache
def free(prompt: str) -> frozenset[str]:
    return frozenset(ways_on(prompt, 6))


@pytest.mark.parametrize(
    "prompt",
    [
        *("E", "Ea", "EaB", "E0", "EaBEaB", "EMB", "EaMB", "EMB000B", "EMBI", "EMBIa", "EMBI0"),
        *("E0MBI", "EMMBIaI", "EM0MBI0I", "EMBaMB"),
        *(
            pytest.param(prompt, marks=pytest.mark.slow)
            for prompt in ("E0MB", "EMMB", "EMMBI", "EMMBI0", "EM0MB", "EMBMB", "EMMMBI")
        ),
    ],
)
def test_continuations_are_all_well_formed_documents(prompt: str) -> None:
    """Up to 6 symbols: 4^5 strings. Where none fits, that is said."""
    for most in range(1, 7):
        expected = {text for text in free(prompt) if len(text) <= most}
        if expected:
            assert ways_taken(prompt, ContinuationGoal(most), 99) == expected
            assert ways_taken(prompt, ContinuationGoal(99), most) == expected
        else:
            with refuses(UsageError) as caught:
                ways_taken(prompt, ContinuationGoal(most), 99)
            needed = int(numbers(caught.value.expected)[0])
            assert needed == min(map(len, free(prompt)), default=max(needed, 7))
            assert numbers(caught.value.found) == [str(most)]


@pytest.mark.parametrize("prompt", ["EMB", "EaMB", "EMBI", "E0MBI", "EMMB", "EM0MB", "EMBMB", "EMBaMB", "EMMBIaI"])
@pytest.mark.parametrize("most", [1, 2])
def test_infills_add_no_segment(prompt: str, most: int) -> None:

    def fits(text: str, kinds: str) -> bool:
        fills = (prompt + text).split("I")[1:]
        short = all(len(fill.rstrip("E")) <= most for fill in fills if "a" in fill)
        begun = "I" in prompt or text.startswith("I")
        hidden = [segment for segment in prompt.strip("E").split("I")[0].split("B") if segment]
        filled = iter(fills)
        right = True
        for segment in hidden:
            for c in segment:
                if c == "M":
                    fill = next(filled, "")
                    right &= {*segment} != {"M"} or fill[:1] in kinds
        return short and begun and right

    for whole, kinds in (
        ((SymbolKind.TEXT, SymbolKind.CODE), "a0"),
        ((SymbolKind.TEXT,), "a"),
        ((SymbolKind.CODE,), "0"),
    ):
        expected = {text for text in free(prompt) if fits(text, kinds)}
        if expected and not (prompt == "EMMBIaI" and kinds == "0"):
            assert ways_taken(prompt, InfillGoal(most, whole), 6) == expected


@pytest.mark.parametrize(
    ("prompt", "sizes"),
    [
        ("EMMB", (1, 2)),
        ("EMMB", (2, 1)),
        ("EM0MB", (1, 1)),
        ("EMB", (3,)),
        ("EMB", (0,)),
        ("EMBI", (3,)),
        ("EMBI", (0,)),
    ],
)
def test_hole_codes_fix_the_length_of_fills(prompt: str, sizes: tuple[int, ...]) -> None:
    def suits(fill: str, size: int) -> bool:
        return fill == size * "0" if size else "0" not in fill

    expected = set()
    for text in free(prompt):
        fills = [fill.rstrip("E") for fill in (prompt + text).split("I")[1:]]
        if "B" not in text and len(fills) == len(sizes) and all(map(suits, fills, sizes)):
            expected.add(text)
    assert expected
    assert ways_taken(prompt, InfillGoal(9, hole_codes=sizes), 6) == expected


@pytest.mark.parametrize(
    ("prompt", "sizes"), [("EMMB", (1, 1)), ("EMMB", (3,)), ("E0MB", (3,)), ("EaMB", (1,)), ("E0MMB", (2, 0))]
)
def test_inconsistent_hole_codes_are_refused(prompt: str, sizes: tuple[int, ...]) -> None:
    with refuses(UsageError) as caught:
        ways_taken(prompt, InfillGoal(9, hole_codes=sizes), 9)
    assert numbers(caught.value.expected) == [str(prompt.count("M"))]
    assert numbers(caught.value.found) == [*map(str, sizes), "0"]


def test_image_and_text_goals() -> None:
    for prompt in ("E", "EaB", "EMB", "EaBEaB"):
        assert ways_taken(prompt, ImageGoal(), 9) == {"000B"}
        assert ways_taken(prompt, TextGoal(3), 99) == {"aB", "aaB", "aaaB"}
        assert ways_taken(prompt, TextGoal(99), 3) == {"aB", "aaB"}
    assert ways_taken("EaB00", ImageGoal(), 9) == {"0B"}
    assert ways_taken("EaB000", ImageGoal(), 9) == {"B"}
    assert ways_taken("Eaaa", TextGoal(1), 9) == {"B", "aB"}
    assert ways_taken("EMaM", TextGoal(1), 9) == {"B", "aB"}


def test_rows_are_independent() -> None:
    prompts = ["E", "EMB", "E0MBaMB", "EMMMBI", "EaB00"]
    standings = [parse_prefix(written(prompt, SYMBOLS), SYMBOLS) for prompt in prompts]
    automaton = Automaton(SYMBOLS, ContinuationGoal(12))
    together = automaton.initial_state(standings, [12] * 5)
    alone = [automaton.initial_state([standing], [12]) for standing in standings]
    rows = list(range(5))
    for step in range(12):
        marks = automaton.allowed(together)
        assert np.array_equal(marks, np.concatenate([automaton.allowed(alone[i]) for i in rows]))
        chosen = np.array([np.flatnonzero(row)[(step * 7 + i) % row.sum()] for i, row in zip(rows, marks, strict=True)])
        together = automaton.step(together, chosen)
        for i, kind in zip(rows, chosen, strict=True):
            alone[i] = automaton.step(alone[i], np.array([kind]))
        going = together.place != Place.ENDED
        together, rows = together.select(going), list(itertools.compress(rows, going))
        if not rows:
            break
    assert not rows


@pytest.mark.parametrize(
    ("prompt", "plan"),
    [
        ("Ea", ImageGoal()),
        ("EaMBI", ImageGoal()),
        ("EaB00", TextGoal(3)),
        ("EaB", InfillGoal(3)),
        ("E", InfillGoal(3)),
        ("EMa", InfillGoal(3)),
    ],
)
def test_prompts_incompatible_with_the_goal_are_refused(prompt: str, plan: DecodingGoal) -> None:
    with refuses(UsageError) as caught:
        ways_taken(prompt, plan, 99)
    expected, found = caught.value.expected, caught.value.found
    assert all(WHERE[place] in expected for place in plan.prompt_places)
    assert str(plan) in expected
    assert WHERE[parse_prefix(written(prompt, SYMBOLS), SYMBOLS).place] in found
    assert numbers(found) == ["0", str(prompt.count("M"))]


@pytest.mark.parametrize(
    ("prompt", "plan", "expected", "found"),
    [("EMMMMB", InfillGoal(3, (SymbolKind.CODE,)), ["3"], ["4", "0"]), ("E", ContinuationGoal(2), ["3", "0"], ["2"])],
)
def test_prompts_without_enough_room_are_refused(
    prompt: str, plan: DecodingGoal, expected: list[str], found: list[str]
) -> None:
    with refuses(UsageError) as caught:
        ways_taken(prompt, plan, 99)
    assert (numbers(caught.value.expected), numbers(caught.value.found)) == (expected, found)


@pytest.mark.parametrize("make", [TextGoal, ContinuationGoal, InfillGoal])
def test_zero_symbols_are_refused(make: type[DecodingGoal]) -> None:
    with refuses(UsageError, argument="max_symbols", found="0"):
        make(0)


def test_invalid_infill_goals_are_refused() -> None:
    with refuses(UsageError, found="()"):
        InfillGoal(3, ())
    with refuses(UsageError, found="-1"):
        InfillGoal(3, hole_codes=(2, -1))

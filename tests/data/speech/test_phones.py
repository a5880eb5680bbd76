"""Phones on the frames of their sound: the worked examples of Voicebox, sums, and round trips."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError
from feller.core.rng import Draws
from feller.core.serialization import from_data, to_data
from feller.data.loading.raw import Layout
from feller.data.speech.phones import (
    ARPABET,
    SIL,
    Inventory,
    Spoken,
    Word,
    frames_of,
    laid_out,
    placed,
    plain,
    repeated,
    unaligned,
)


def word(text: str, start: int, **lengths: int) -> Word:
    phones = []
    for phone, length in lengths.items():
        phones.append(Spoken(phone, start, length))
        start += length
    return Word(text, tuple(phones))


def test_ghost_silences_of_the_worked_example() -> None:
    """Words A B / C / D E F, aligned as SIL A B B SIL C D D D E E F SIL SIL."""
    words = [
        word("", 0, SIL=1),
        word("ab", 1, A=1, B=2),
        word("", 4, SIL=1),
        word("c", 5, C=1),
        word("def", 6, D=3, E=2, F=1),
        word("", 12, SIL=2),
    ]
    layout = laid_out(words)
    assert layout.phones == ("SIL", "A_B", "B_E", "SIL", "C_S", "SIL", "D_B", "E_I", "F_E", "SIL")
    assert layout.durations == (1, 1, 2, 1, 1, 0, 3, 2, 1, 2)
    assert layout.frames == 14
    inventory = Inventory.of(layout.phones)
    frames = repeated(inventory.numbers(layout.phones), torch.tensor(layout.durations))
    said = [inventory.names[number] for number in frames.tolist()]
    assert said == ["SIL", "A_B", "B_E", "B_E", "SIL", "C_S", "D_B", "D_B", "D_B", "E_I", "E_I", "F_E", "SIL", "SIL"]


def test_editing_of_the_worked_example() -> None:
    """From "hello world" to "hello tom": three new phones last 1, 5 and 2 frames."""
    phones = unaligned([("HH", "AH", "L", "OW"), ("T", "AA", "M")])
    assert phones == ("SIL", "HH_B", "AH_I", "L_I", "OW_E", "SIL", "T_B", "AA_I", "M_E", "SIL")
    known = torch.tensor([8, 3, 2, 2, 1, 7, 0, 0, 0, 10])
    new = torch.tensor([False] * 6 + [True] * 3 + [False])
    durations = torch.where(new, torch.tensor([0, 0, 0, 0, 0, 0, 1, 5, 2, 0]), known)
    assert int(durations.sum()) == 8 + 3 + 2 + 2 + 1 + 7 + 8 + 10
    mask = frames_of(new, durations)
    assert mask.tolist() == [False] * 23 + [True] * 8 + [False] * 10
    assert (
        repeated(torch.arange(10), known).tolist() == [0] * 8 + [1] * 3 + [2] * 2 + [3] * 2 + [4] + [5] * 7 + [9] * 10
    )


def test_silences_that_follow_each_other_are_one() -> None:
    layout = laid_out([word("", 0, SIL=2), word("", 2, SIL=3), word("a", 5, AH=1)])
    assert (layout.phones, layout.durations) == (("SIL", "AH_S", "SIL"), (5, 1, 0))


@pytest.mark.parametrize(
    ("phones", "expected"), [("K", ["K_S"]), ("K AE", ["K_B", "AE_E"]), ("K AE T S", ["K_B", "AE_I", "T_I", "S_E"])]
)
def test_places_in_a_word(phones: str, expected: list[str]) -> None:
    assert list(placed(phones.split())) == expected


def test_the_inventory_of_english() -> None:
    inventory = Inventory.of(["T_B", "AA_I", "M_E", "SIL"])
    assert len(ARPABET) == 39
    assert len(inventory) == 1 + 4 * 39
    assert inventory.names[0] == SIL
    assert inventory.numbers(["SIL", "AA_B", "AA_I", "AA_E", "AA_S", "ZH_S"]).tolist() == [0, 1, 2, 3, 4, 156]
    assert from_data(Inventory, to_data(inventory)) == inventory


def test_the_inventory_of_other_languages_is_that_of_the_data() -> None:
    inventory = Inventory.of(["ʃ_B", "aɪ_I", "n_E", "SIL"])
    assert inventory.names == (
        SIL,
        *(phone + place for phone in ("aɪ", "n", "ʃ") for place in ("_B", "_I", "_E", "_S")),
    )
    with pytest.raises(InputError, match="1 phones are not among the 13 that are known, first ʒ_S"):
        inventory.numbers(["ʒ_S"])


@pytest.mark.parametrize("names", [(), ("AH_S",), (SIL, "AH_S", "AH_S"), (SIL, "")])
def test_odd_inventories_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="SIL first"):
        Inventory(names)


def test_stress_is_dropped_of_english_alone() -> None:
    assert [plain(phone) for phone in ("AH0", "AH", "ER1", "SIL", "XX1", "a1")] == [
        "AH",
        "AH",
        "ER",
        "SIL",
        "XX1",
        "a1",
    ]


durations = st.lists(st.integers(0, 9), min_size=1, max_size=20)


@settings(deadline=None)
@given(lengths=durations, more=st.integers(0, 5))
def test_repetition_is_that_of_lists(lengths: list[int], more: int) -> None:
    expected = [i + 1 for i, length in enumerate(lengths) for _ in range(length)]
    values, length = torch.arange(1, len(lengths) + 1), torch.tensor(lengths)
    assert repeated(values, length).tolist() == expected
    assert repeated(values, length, sum(lengths) + more).tolist() == expected + [0] * more
    assert repeated(values[None], length[None], max(sum(lengths) - more, 0)).tolist() == [
        expected[: max(sum(lengths) - more, 0)]
    ]
    assert torch.equal(repeated(values, length), torch.repeat_interleave(values, length))


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=1, max_size=4), seed=st.integers(0, 99)
)
def test_masks_of_frames_have_the_length_of_their_phones(rows: list[list[int]], seed: int) -> None:
    length = torch.tensor(rows)
    mask = Draws(seed).at("mask").coins(0.5, length.shape)
    frames = frames_of(mask, length, 20)
    assert frames.dtype == torch.bool
    assert frames.sum(1).tolist() == (length * mask).sum(1).tolist()
    together = frames_of(mask, length, 20) | frames_of(~mask, length, 20)
    assert torch.equal(together, torch.arange(20) < length.sum(1, keepdim=True))


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(1, 9), min_size=1, max_size=4)), max_size=8))
def test_a_layout_keeps_all_frames(parts: list[tuple[bool, list[int]]]) -> None:
    words, now = [], 0
    for silent, lengths in parts:
        phones = []
        for length in [sum(lengths)] if silent else lengths:
            phones.append(Spoken(SIL if silent else "AH", now, length))
            now += length
        words.append(Word("" if silent else "x", tuple(phones)))
    layout = laid_out(words)
    assert layout.frames == now
    assert layout.phones[0] == layout.phones[-1] == SIL
    spoken = [lengths for silent, lengths in parts if not silent]
    assert layout.phones.count(SIL) == len(spoken) + 1
    assert len(layout.phones) == len(layout.durations) == len(spoken) + 1 + sum(map(len, spoken))
    assert all(
        a == SIL or b == SIL or (a[-2:], b[-2:]) not in {("_E", "_B"), ("_S", "_S")}
        for a, b in zip(layout.phones, layout.phones[1:], strict=False)
    )
    assert isinstance(layout, Layout)

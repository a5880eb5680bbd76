"""Phones, their alignment, pronunciation dictionaries and spoken text."""

import pathlib
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.speech.lexicon import Lexicon, cmu_entries, own_words, read_lexicon, spoken_number, words_of
from feller.data.speech.phones import (
    ARPABET,
    SIL,
    Inventory,
    TimedPhone,
    Word,
    align_phones,
    frames_of,
    repeat_by_duration,
    strip_stress,
    unaligned_phones,
    with_word_positions,
)
from tests.errors import refuses


def word(text: str, start: int, **lengths: int) -> Word:
    phones = []
    for phone, length in lengths.items():
        phones.append(TimedPhone(phone, start, length))
        start += length
    return Word(text, tuple(phones))


def test_alignment_with_empty_silences() -> None:
    """Words A B / C / D E F, aligned as SIL A B B SIL C D D D E E F SIL SIL."""
    words = [
        word("", 0, SIL=1),
        word("ab", 1, A=1, B=2),
        word("", 4, SIL=1),
        word("c", 5, C=1),
        word("def", 6, D=3, E=2, F=1),
        word("", 12, SIL=2),
    ]
    layout = align_phones(words)
    assert layout.phones == ("SIL", "A_B", "B_E", "SIL", "C_S", "SIL", "D_B", "E_I", "F_E", "SIL")
    assert layout.durations == (1, 1, 2, 1, 1, 0, 3, 2, 1, 2)
    assert layout.frames == 14
    inventory = Inventory.of(layout.phones)
    frames = repeat_by_duration(inventory.numbers(layout.phones), torch.tensor(layout.durations))
    assert [inventory.names[number] for number in frames.tolist()] == [
        "SIL",
        "A_B",
        "B_E",
        "B_E",
        "SIL",
        "C_S",
        "D_B",
        "D_B",
        "D_B",
        "E_I",
        "E_I",
        "F_E",
        "SIL",
        "SIL",
    ]


def test_durations_of_an_edit() -> None:
    """From "hello world" to "hello tom", whose three new phones last 1, 5 and 2 frames."""
    phones = unaligned_phones([("HH", "AH", "L", "OW"), ("T", "AA", "M")])
    assert phones == ("SIL", "HH_B", "AH_I", "L_I", "OW_E", "SIL", "T_B", "AA_I", "M_E", "SIL")
    known = torch.tensor([8, 3, 2, 2, 1, 7, 0, 0, 0, 10])
    new = torch.tensor([False] * 6 + [True] * 3 + [False])
    durations = torch.where(new, torch.tensor([0, 0, 0, 0, 0, 0, 1, 5, 2, 0]), known)
    assert int(durations.sum()) == 8 + 3 + 2 + 2 + 1 + 7 + 8 + 10
    mask = frames_of(new, durations)
    assert mask.tolist() == [False] * 23 + [True] * 8 + [False] * 10


def test_adjacent_silences_are_merged() -> None:
    layout = align_phones([word("", 0, SIL=2), word("", 2, SIL=3), word("a", 5, AH=1)])
    assert (layout.phones, layout.durations) == (("SIL", "AH_S", "SIL"), (5, 1, 0))


@pytest.mark.parametrize(
    ("phones", "expected"), [("K", ["K_S"]), ("K AE", ["K_B", "AE_E"]), ("K AE T S", ["K_B", "AE_I", "T_I", "S_E"])]
)
def test_word_positions(phones: str, expected: list[str]) -> None:
    assert list(with_word_positions(phones.split())) == expected


def test_english_inventory() -> None:
    inventory = Inventory.of(["T_B", "AA_I", "M_E", "SIL"])
    assert len(ARPABET) == 39
    assert len(inventory) == 1 + 4 * 39
    assert inventory.names[0] == SIL
    assert inventory.numbers(["SIL", "AA_B", "AA_I", "AA_E", "AA_S", "ZH_S"]).tolist() == [0, 1, 2, 3, 4, 156]
    assert from_dict(Inventory, to_dict(inventory)) == inventory


def test_inventory_of_other_languages() -> None:
    inventory = Inventory.of(["ʃ_B", "aɪ_I", "n_E", "SIL"])
    places = ("_B", "_I", "_E", "_S")
    assert inventory.names == (SIL, *(phone + place for phone in ("aɪ", "n", "ʃ") for place in places))
    with refuses(InputError, found="1 other phones, such as ʒ_S"):
        inventory.numbers(["ʒ_S"])


@pytest.mark.parametrize("names", [(), ("AH_S",), (SIL, "AH_S", "AH_S"), (SIL, "")])
def test_invalid_inventories_are_refused(names: tuple[str, ...]) -> None:
    with refuses(InputError, found=", ".join(names) or "none"):
        Inventory(names)


def test_stress_is_stripped_from_english_phones() -> None:
    phones, stripped = ("AH0", "AH", "ER1", "SIL", "XX1", "a1"), ["AH", "AH", "ER", "SIL", "XX1", "a1"]
    assert [strip_stress(phone) for phone in phones] == stripped


durations = st.lists(st.integers(0, 9), min_size=1, max_size=20)


@settings(deadline=None)
@given(lengths=durations, more=st.integers(0, 5))
def test_repeat_by_duration_equals_list_repetition(lengths: list[int], more: int) -> None:
    expected = [i + 1 for i, length in enumerate(lengths) for _ in range(length)]
    values, length = torch.arange(1, len(lengths) + 1), torch.tensor(lengths)
    assert repeat_by_duration(values, length).tolist() == expected
    assert repeat_by_duration(values, length, sum(lengths) + more).tolist() == expected + [0] * more
    cut = max(sum(lengths) - more, 0)
    assert repeat_by_duration(values[None], length[None], cut).tolist() == [expected[:cut]]


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=1, max_size=4), seed=st.integers(0, 99)
)
def test_frame_masks_follow_durations(rows: list[list[int]], seed: int) -> None:
    length = torch.tensor(rows)
    mask = Rng(seed).stream("mask").bernoulli(0.5, length.shape)
    frames = frames_of(mask, length, 20)
    assert frames.dtype == torch.bool
    assert frames.sum(1).tolist() == (length * mask).sum(1).tolist()
    together = frames_of(mask, length, 20) | frames_of(~mask, length, 20)
    assert torch.equal(together, torch.arange(20) < length.sum(1, keepdim=True))


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(1, 9), min_size=1, max_size=4)), max_size=8))
def test_alignment_keeps_all_frames(parts: list[tuple[bool, list[int]]]) -> None:
    words, now = [], 0
    for silent, lengths in parts:
        phones = []
        for length in [sum(lengths)] if silent else lengths:
            phones.append(TimedPhone(SIL if silent else "AH", now, length))
            now += length
        words.append(Word("" if silent else "x", tuple(phones)))
    layout = align_phones(words)
    assert layout.frames == now
    assert layout.phones[0] == layout.phones[-1] == SIL
    spoken = [lengths for silent, lengths in parts if not silent]
    assert layout.phones.count(SIL) == len(spoken) + 1
    assert len(layout.phones) == len(layout.durations) == len(spoken) + 1 + sum(map(len, spoken))
    assert {("_E", "_B"), ("_S", "_S")}.isdisjoint((a[-2:], b[-2:]) for a, b in pairwise(layout.phones))


@pytest.fixture(scope="module")
def cmu() -> Lexicon:
    return Lexicon(cmu_entries())


def test_cmu_dictionary(cmu: Lexicon) -> None:
    phones, missing = cmu.phones("Hello, world!")
    assert phones == (("HH", "AH", "L", "OW"), ("W", "ER", "L", "D"))
    assert missing == ()
    assert cmu.pronunciations("a") == (("AH",), ("EY",))
    assert {phone for found in cmu.entries.values() for one in found for phone in one} == {*ARPABET}
    assert all(cmu.pronunciations(f"{letter}.") for letter in "abcdefghijklmnopqrstuvwxyz")


def test_words_that_the_dictionary_lacks(cmu: Lexicon) -> None:
    """They are returned, spelled on request, or looked up without accents."""
    phones, missing = cmu.phones("the woodcutters and the zyzzx")
    assert missing == ("woodcutters", "zyzzx")
    assert len(phones) == 3
    assert cmu.phones("zbq", spelled=True) == ((("Z", "IY", "B", "IY", "K", "Y", "UW"),), ())
    assert cmu.phones("hello", spelled=True)[0] == (("HH", "AH", "L", "OW"),)
    assert cmu.phones("\u0436", spelled=True) == ((), ("\u0436",))
    assert cmu.pronunciations("café") == cmu.pronunciations("cafe") != ()


def test_own_lexicon_has_precedence(tmp_path: pathlib.Path) -> None:
    (tmp_path / "own.txt").write_text("Zyzzx Z IH1 Z\n\nhello HH EH L OW\nhello(2) HH AH L OW\n")
    lexicon = Lexicon(cmu_entries(), read_lexicon(tmp_path / "own.txt"))
    assert lexicon.pronunciations("zyzzx") == (("Z", "IH", "Z"),)
    assert lexicon.pronunciations("hello") == (("HH", "EH", "L", "OW"), ("HH", "AH", "L", "OW"))
    assert lexicon.pronunciations("world") == (("W", "ER", "L", "D"),)


@pytest.mark.parametrize(("line", "found"), [("word", "'word'"), ("word W XX", "'XX'")])
def test_invalid_lexicon_lines_are_refused(tmp_path: pathlib.Path, line: str, found: str) -> None:
    own = tmp_path / "own.txt"
    own.write_text(f"good G UH D\n{line}\n")
    with refuses(InputError, file=str(own), place="line 2", found=found):
        read_lexicon(own)


def test_own_words_have_phones_of_the_data(tmp_path: pathlib.Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("Straße ʃ t ʁ aː s ə\nchien ʃ j e\u0303\n")
    lexicon = Lexicon({}, own_words(own, {"SIL", "ʃ", "t", "ʁ", "aː", "s", "ə", "j", "\u1ebd"}))
    assert lexicon.pronunciations("straße") == (("ʃ", "t", "ʁ", "aː", "s", "ə"),)
    assert lexicon.pronunciations("chien") == (("ʃ", "j", "\u1ebd"),)  # a combining accent is normalised
    assert lexicon.pronunciations("hello") == ()
    with refuses(InputError, place="line 1", found="'ʁ'"):
        own_words(own, {"SIL", "ʃ", "t", "aː", "s", "ə"})
    assert own_words(tmp_path / "none.txt", {"ʃ"}) == {}


def test_own_words_may_have_any_english_phone(tmp_path: pathlib.Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("zebu Z IY1 B UW0\n")
    assert own_words(own, {"SIL", "AA", "B"}) == {"zebu": (("Z", "IY", "B", "UW"),)}
    assert own_words(own, ()) == own_words(own, {"SIL"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Printing, in the only sense!", "printing in the only sense"),
        ("Don't stop \u2014 it's Tom\u2019s", "don't stop it's tom's"),
        ("the 'forty-two line' Bible", "the forty two line bible"),
        ("'tis the boys' own", "'tis the boys own"),
        ('"I"; (we) [you]: they?', "i we you they"),
        ("the U.S. and e.g. Mr. X", "the u s and e g mr x"),
        ("bread & butter, 5%", "bread and butter five percent"),
        ("über Café", "über café"),
        ("room 1,205 has 21 of 3.05", "room one thousand two hundred five has twenty one of three point zero five"),
        ("In 1845.", "in one thousand eight hundred forty five"),
        ("at 3:30", "at three thirty"),
        ("agent 007", "agent zero zero seven"),
    ],
)
def test_words_of_text(text: str, words: str) -> None:
    assert " ".join(words_of(text)) == words


@pytest.mark.parametrize(
    "text", ["", " \n", "?!", "costs $5", "the 21st", "x + y", "1/2 cup", "12.05.1999", "1,5", "a@b"]
)
def test_unpronounceable_texts_are_refused(text: str) -> None:
    with refuses(InputError) as error:
        words_of(text)
    assert str(error.value.found)[1:-1] in repr(text)


@pytest.mark.parametrize(
    ("digits", "words"),
    [
        ("0", "zero"),
        ("13", "thirteen"),
        ("40", "forty"),
        ("100", "one hundred"),
        ("999", "nine hundred ninety nine"),
        ("1000", "one thousand"),
        ("1,000,001", "one million one"),
        ("120,000", "one hundred twenty thousand"),
        ("999000000999", "nine hundred ninety nine billion nine hundred ninety nine"),
        ("0.5", "zero point five"),
    ],
)
def test_spoken_numbers(digits: str, words: str) -> None:
    assert " ".join(spoken_number(digits)) == words


@pytest.mark.parametrize("digits", ["1234567890123", "1,23", "", "x"])
def test_invalid_numbers_are_refused(digits: str) -> None:
    with refuses(InputError, found=repr(digits)):
        spoken_number(digits)

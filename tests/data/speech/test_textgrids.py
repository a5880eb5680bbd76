"""TextGrids in Praat's two formats of text, and what may be wrong with them."""

import pathlib

import pytest

from feller.core.errors import InputError
from feller.data.speech.alignment_files import fit_to_sound
from feller.data.speech.phones import SIL, TimedPhone, Word, align_phones
from feller.data.speech.textgrid import read_textgrid

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.52
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "Words"
        xmin = 0
        xmax = 0.52
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.1
            text = ""
        intervals [2]:
            xmin = 0.1
            xmax = 0.304
            text = "Hello"
        intervals [3]:
            xmin = 0.304
            xmax = 0.45
            text = "I"
        intervals [4]:
            xmin = 0.45
            xmax = 0.52
            text = ""
    item [2]:
        class = "TextTier"
        name = "remarks"
        xmin = 0
        xmax = 0.52
        points: size = 1
        points [1]:
            number = 0.2
            mark = "she says ""hello"" 3 times"
    item [3]:
        class = "IntervalTier"
        name = "PHONES"
        xmin = 0
        xmax = 0.52
        intervals: size = 7
        intervals [1]:
            xmin = 0
            xmax = 0.1
            text = ""
        intervals [2]:
            xmin = 0.1
            xmax = 0.146
            text = "HH"
        intervals [3]:
            xmin = 0.146
            xmax = 0.2
            text = "AH0"
        intervals [4]:
            xmin = 0.2
            xmax = 0.254
            text = "L"
        intervals [5]:
            xmin = 0.254
            xmax = 0.304
            text = "OW1"
        intervals [6]:
            xmin = 0.304
            xmax = 0.45
            text = "AY1"
        intervals [7]:
            xmin = 0.45
            xmax = 0.52
            text = "sil"
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
0.52
<exists>
2
"IntervalTier"
"reader - words"
0
0.52
4
0
0.1
""
0.1
0.304
"Hello"
0.304
0.45
"I"
0.45
0.52
""
"IntervalTier"
"reader - phones"
0
0.52
6
0
0.1
""
0.1
0.146
"HH"
0.146
0.2
"AH0"
0.2
0.254
"L"
0.254
0.304
"OW1"
0.304
0.45
"AY1"
"""
EXPECTED = (
    Word("", (TimedPhone(SIL, 0, 10),)),
    Word("hello", (TimedPhone("HH", 10, 5), TimedPhone("AH", 15, 5), TimedPhone("L", 20, 5), TimedPhone("OW", 25, 5))),
    Word("i", (TimedPhone("AY", 30, 15),)),
    Word("", (TimedPhone(SIL, 45, 7),)),
)


@pytest.mark.parametrize("text", [LONG, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_both_formats_say_the_same(tmp_path: pathlib.Path, text: str, encoding: str) -> None:
    (tmp_path / "a.TextGrid").write_text(text, encoding=encoding)
    assert read_textgrid(tmp_path / "a.TextGrid") == EXPECTED


def test_it_is_laid_out_on_frames(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.TextGrid").write_text(LONG)
    layout = align_phones(fit_to_sound(read_textgrid(tmp_path / "a.TextGrid"), 52))
    assert layout.phones == ("SIL", "HH_B", "AH_I", "L_I", "OW_E", "SIL", "AY_S", "SIL")
    assert layout.durations == (10, 5, 5, 5, 5, 0, 15, 7)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("ooTextFile", "other", "the header ooTextFile"),
        ('"PHONES"', '"sounds"', "expected a tier called phones; found 'words', 'remarks', 'sounds'"),
        ('text = "AY1"', 'text = "spn"', "spn at 0.304 s, an out-of-vocabulary word"),
        ('text = "AY1"', 'text = ""', "none for 'I' at 0.304 s"),
        ('text = "sil"', 'text = "M"', "M at 0.45 s, in a silence"),
        ("intervals: size = 7", "intervals: size = 9", "truncated"),
        ("intervals: size = 4", 'intervals: size = "4"', "expected a number; found the text '4'"),
        ("intervals: size = 4", "intervals: size = 3", r"expected a quoted string; found 0.45"),
        ("intervals: size = 4", "intervals: size = 1e999", "expected a finite number; found 1e999"),
        ("xmax = 0.304", "xmax = 1e999", "expected a finite number; found 1e999"),
        ('class = "TextTier"', "class = 5", "expected a quoted string; found 5"),
    ],
)
def test_malformed_grids_are_told_in_one_line(tmp_path: pathlib.Path, old: str, new: str, words: str) -> None:
    (tmp_path / "a.TextGrid").write_text(LONG.replace(old, new))
    with pytest.raises(InputError, match=words) as caught:
        read_textgrid(tmp_path / "a.TextGrid")
    assert "a.TextGrid" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_grid_that_is_none(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.TextGrid").write_bytes(b"\xff\xfeabc")
    with pytest.raises(InputError, match="UTF-16"):
        read_textgrid(tmp_path / "a.TextGrid")
    (tmp_path / "b.TextGrid").write_text("")
    with pytest.raises(InputError, match="truncated"):
        read_textgrid(tmp_path / "b.TextGrid")

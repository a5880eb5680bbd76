"""TextGrids in both text formats of Praat."""

import pathlib

import pytest

from feller.core.errors import InputError
from feller.data.speech.alignment_files import fit_to_sound
from feller.data.speech.phones import SIL, TimedPhone, Word, align_phones
from feller.data.speech.textgrid import read_textgrid
from tests.errors import refuses

Interval = tuple[float, float, str]
WORDS: list[Interval] = [(0, 0.1, ""), (0.1, 0.304, "Hello"), (0.304, 0.45, "I"), (0.45, 0.52, "")]
PHONES: list[Interval] = [
    *[(0, 0.1, ""), (0.1, 0.146, "HH"), (0.146, 0.2, "AH0"), (0.2, 0.254, "L"), (0.254, 0.304, "OW1")],
    *[(0.304, 0.45, "AY1"), (0.45, 0.52, "sil")],
]


def long_tier(number: int, name: str, intervals: list[Interval]) -> str:
    lines = [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
    lines += ["        xmin = 0", "        xmax = 0.52", f"        intervals: size = {len(intervals)}"]
    for i, (start, end, text) in enumerate(intervals, 1):
        lines += [f"        intervals [{i}]:", f"            xmin = {start}", f"            xmax = {end}"]
        lines.append(f'            text = "{text}"')
    return "\n".join(lines) + "\n"


def short_tier(name: str, intervals: list[Interval]) -> str:
    cells = "".join(f'{start}\n{end}\n"{text}"\n' for start, end, text in intervals)
    return f'"IntervalTier"\n"{name}"\n0\n0.52\n{len(intervals)}\n{cells}'


HEADER = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
POINTS = """    item [2]:
        class = "TextTier"
        name = "remarks"
        xmin = 0
        xmax = 0.52
        points: size = 1
        points [1]:
            number = 0.2
            mark = "she says ""hello"" 3 times"
"""
LONG = (
    f"{HEADER}xmin = 0\nxmax = 0.52\ntiers? <exists>\nsize = 3\nitem []:\n"
    f"{long_tier(1, 'Words', WORDS)}{POINTS}{long_tier(3, 'PHONES', PHONES)}"
)
SHORT = (
    f"{HEADER}0\n0.52\n<exists>\n2\n{short_tier('reader - words', WORDS)}{short_tier('reader - phones', PHONES[:-1])}"
)
EXPECTED = (
    Word("", (TimedPhone(SIL, 0, 10),)),
    Word("hello", (TimedPhone("HH", 10, 5), TimedPhone("AH", 15, 5), TimedPhone("L", 20, 5), TimedPhone("OW", 25, 5))),
    Word("i", (TimedPhone("AY", 30, 15),)),
    Word("", (TimedPhone(SIL, 45, 7),)),
)


@pytest.mark.parametrize(
    ("text", "encoding"), [(LONG, "utf-8"), (LONG, "utf-16"), (SHORT, "utf-8-sig")], ids=["long", "utf-16", "short"]
)
def test_textgrid_formats(tmp_path: pathlib.Path, text: str, encoding: str) -> None:
    (tmp_path / "a.TextGrid").write_text(text, encoding=encoding)
    words = read_textgrid(tmp_path / "a.TextGrid")
    assert words == EXPECTED
    layout = align_phones(fit_to_sound(words, 52))
    assert layout.phones == ("SIL", "HH_B", "AH_I", "L_I", "OW_E", "SIL", "AY_S", "SIL")
    assert layout.durations == (10, 5, 5, 5, 5, 0, 15, 7)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("ooTextFile", "other", "another header"),
        ('"PHONES"', '"sounds"', "'words', 'remarks', 'sounds'"),
        ('text = "AY1"', 'text = "spn"', "spn at 0.304 s, an out-of-vocabulary word"),
        ('text = "AY1"', 'text = ""', "none for 'I' at 0.304 s"),
        ('text = "sil"', 'text = "M"', "M at 0.45 s, in a silence"),
        ("intervals: size = 7", "intervals: size = 9", "a truncated file"),
        ("intervals: size = 4", 'intervals: size = "4"', "the text '4'"),
        ("intervals: size = 4", "intervals: size = 3", "0.45"),
        ("intervals: size = 4", "intervals: size = 1e999", "1e999"),
        ("xmax = 0.304", "xmax = 1e999", "1e999"),
        ('class = "TextTier"', "class = 5", "5"),
        (LONG, "", "a truncated file"),
    ],
)
def test_invalid_textgrids_are_refused(tmp_path: pathlib.Path, old: str, new: str, found: str) -> None:
    file = tmp_path / "a.TextGrid"
    file.write_text(LONG.replace(old, new))
    with refuses(InputError, file=str(file), found=found):
        read_textgrid(file)


def test_invalid_utf16_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.TextGrid").write_bytes(b"\xff\xfeabc")
    with refuses(InputError, file=str(tmp_path / "a.TextGrid")):
        read_textgrid(tmp_path / "a.TextGrid")

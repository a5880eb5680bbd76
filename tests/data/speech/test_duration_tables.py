"""Tables of durations: there and back, and every way in which one can be wrong."""

import pathlib

import pytest

from feller.core.errors import InputError
from feller.data.loading.raw import Layout
from feller.data.speech.durations import read_durations, write_durations

LAYOUT = Layout(("SIL", "HH_B", "OW_E", "SIL"), (0, 3, 99_999, 12))


def test_there_and_back(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    write_durations(LAYOUT, path)
    assert path.read_text() == "phone,frames\nSIL,0\nHH_B,3\nOW_E,99999\nSIL,12\n"
    assert read_durations(path, LAYOUT.phones) == LAYOUT.durations


def test_what_people_write_otherwise_is_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfPhone, Frames\r\n SIL , 0\r\n\r\n"HH_B",3\r\nOW_E,007\r\nSIL,12')
    assert read_durations(path, LAYOUT.phones) == (0, 3, 7, 12)
    path.write_text("phone;frames\nSIL;0\nHH_B;3\nOW_E;7\nSIL;12\n")
    assert read_durations(path, LAYOUT.phones) == (0, 3, 7, 12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a table with the head phone,frames, got none"),
        ("SIL,0\nHH_B,3\nOW_E,4\nSIL,1\n", "expected a table with the head phone,frames, got SIL,0"),
        ("phones,frames\nSIL,0\n", "expected a table with the head phone,frames, got phones,frames"),
        ("phone,frames\n", "expected durations of the 4 phones of the text, silences among them, got 0"),
        ("phone,frames\nSIL,0\nHH_B,3\nOW_E,4\n", "4 phones of the text, silences among them, got 3; is it the table"),
        ("phone,frames\nSIL,0\nHH_B,3\nOW_E,4\nSIL,1\nSIL,1\n", "4 phones of the text, silences among them, got 5"),
        ("phone,frames\nSIL,0\nL_B,3\nOW_E,4\nSIL,1\n", "expected HH_B as phone 2 of the text, got L_B"),
        ("phone,frames\nSIL,0\nHH_B\n", "line 3: expected a phone and its frames, got 'HH_B'"),
        ("phone,frames\nSIL,0,1\n", "line 2: expected a phone and its frames, got 'SIL,0,1'"),
        ("phone,frames\nSIL,-1\n", "line 2: expected how many frames of 10 ms SIL lasts, from 0 to 99,999, got '-1'"),
        ("phone,frames\nSIL,0\nHH_B,0\n", "line 3: expected how many frames of 10 ms HH_B lasts, from 1 to 99,999"),
        ("phone,frames\nSIL,0\nHH_B,-3\n", "got '-3'"),
        ("phone,frames\nSIL,0\nHH_B,2.5\n", "got '2.5'"),
        ("phone,frames\nSIL,0\nHH_B,nan\n", "got 'nan'"),
        ("phone,frames\nSIL,0\nHH_B,\n", "got ''"),
        ("phone,frames\nSIL,0\nHH_B,100000\n", "from 1 to 99,999, got '100000'"),
        ("phone,frames\nSIL,0\nHH_B,+3\n", "got '+3'"),
        ("phone,frames\nSIL,²\n", "got '²'"),
    ],
)
def test_wrong_tables_are_told(tmp_path: pathlib.Path, text: str, said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_durations(path, LAYOUT.phones)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_files_are_told(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_durations(path, LAYOUT.phones)

"""Tables of text: what is understood, and what is said about what is not."""

import pathlib

import pytest

from feller.core.errors import InputError
from feller.data.loading.read import read
from feller.data.points.tables import find_table


def table(folder: pathlib.Path, text: str | bytes) -> pathlib.Path:
    path = folder / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "columns", "values"),
    [
        ("1,2\n3,4\n", (), [[1, 2], [3, 4]]),
        ("x,y\n1,2\n", ("x", "y"), [[1, 2]]),
        ("x;y\n1;2e3\n", ("x", "y"), [[1, 2000]]),
        ("x\ty\n1\t-2\n", ("x", "y"), [[1, -2]]),
        ("\ufeffx,y\r\n1,2\r\n\r\n3,4\r\n\r\n", ("x", "y"), [[1, 2], [3, 4]]),
        ('"x;1", "y ""q"""\n 1 , 2', ("x;1", 'y "q"'), [[1, 2]]),
        ("x\n1\n\n2\n", ("x",), [[1], [2]]),
        ("0,1\n0.5,2\n", (), [[0.5, 2]]),
        ("0,1\n5,2\n", (), [[0, 1], [5, 2]]),
        ("0,label,1\n0.5,a,2\n", (), [[0.5, 2]]),
    ],
)
def test_understood(tmp_path: pathlib.Path, text: str, columns: tuple[str, ...], values: list[list[float]]) -> None:
    found = find_table(table(tmp_path, text))
    assert found.columns == columns
    assert found.values.tolist() == values


def test_a_row_that_counts_columns_is_told(tmp_path: pathlib.Path) -> None:
    assert "left out" in find_table(table(tmp_path, "0,1\n0.5,2\n")).notes[0]


@pytest.mark.parametrize("name", ["label", "class", "Label"])
def test_labels_are_sorted_as_numbers_where_they_are(tmp_path: pathlib.Path, name: str) -> None:
    found = find_table(table(tmp_path, f"x,{name},y\n1,10,2\n3,9,4\n5,b,6\n7,9,8\n"))
    assert found.classes == ("9", "10", "b")
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0, 2, 0]
    assert found.columns == ("x", "y")
    assert found.values.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("x,y\n", "there are none"),
        ("x,y\n1,2\n3\n", "row 3 has 1 cell, expected 2"),
        ("x,y\n1,2\n\n3,4,5\n", "row 4 has 3 cells, expected 2"),
        ("x,y\n1,2\n3,nan\n", r"row 3, column 2 \(y\) holds nan"),
        ("1,2\n-inf,3\n", "row 2, column 1 holds -inf"),
        ("x,y\n1,2\n3,\n", r"row 3, column 2 \(y\) is empty, expected a finite number; 1 such in all"),
        ("x,y\n1,1e999\n", r"row 2, column 2 \(y\) holds inf"),
        ("x,y\n1,2\n3,Oslo\n", "number in column 'y', row 3, the header counted, got 'Oslo'"),
        ("x,y\n1,1_000\n", "number in column 'y', row 2, the header counted, got '1_000'"),
        ("1,2\n3,a\n", "number in column 2, row 2, got 'a'"),
        (",y\n1,2\n", "column 1 has no name"),
        ("x,x\n1,2\n", "two columns are called 'x'"),
        ("label,class,x\n1,2,3\n", "expected one column called label or class, got 2"),
        ("label\na\n", "there is only 'label'"),
        ("x,label\n1,\n", "row 2 has no label"),
        ('x,y\n1,"2\n', "no table of text"),
        ("label,x,y\na,1,inf\n", r"row 2, column 3 \(y\) holds inf"),
        ("x,label\n1,a\n2,\n", "row 3 has no label"),
        (b"x,y\n1,\xff\n", "UTF-8, got byte 0xff"),
        ("x,label\n" + "".join(f"1,{i / 7}\n" for i in range(200)), "200 different labels for 200 examples"),
    ],
)
def test_refused_in_one_line(tmp_path: pathlib.Path, text: str | bytes, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read(str(table(tmp_path, text)))
    assert "\n" not in str(caught.value)
    assert "t.csv" in str(caught.value)

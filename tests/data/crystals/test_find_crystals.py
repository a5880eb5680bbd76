"""Crystals from files: tables, folders, limits, what is left out and what is refused."""

import csv
import gzip
import io
import pathlib

import numpy as np
import pytest

from feller.data import read
from feller.data.arrays import interpret
from feller.data.asked import Asked
from feller.data.crystals.cif import cif_text
from feller.data.crystals.crystal import Crystal
from feller.data.crystals.files import holds_crystals
from feller.data.crystals.find import find_crystals
from feller.errors import InputError

CELL = np.array([4.0, 5.0, 6.0, 90, 80, 100])


def cif(size: int, seed: int = 0) -> str:
    draw = np.random.default_rng(seed)
    return cif_text(Crystal(draw.integers(1, 90, size), draw.random((size, 3)), CELL), f"x{seed}")


def table(*rows: list[str], names: tuple[str, ...] = ("", "id", "cif", "energy"), delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([names, *rows])
    return text.getvalue()


def row(size: int, seed: int = 0) -> list[str]:
    return ["0", "mp-1", "# a remark\n" + cif(size, seed), "-1.5"]


PARTIAL = cif(2).replace("  1\n", "  0.5\n")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv"])
def test_column_of_a_table_is_read(tmp_path: pathlib.Path, name: str) -> None:
    text = table(row(3, 1), row(2, 2), delimiter="\t" if "tsv" in name else ",").encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    assert holds_crystals(tmp_path / name)
    found = find_crystals(tmp_path / name)
    assert (found.atoms > 0).sum(1).tolist() == [3, 2]
    assert found.notes == ()
    np.testing.assert_allclose(found.lattice, [CELL, CELL])
    assert len(read(str(tmp_path / name))) == 2


def test_label_of_a_table_is_a_condition(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text(table([cif(2), "b"], [cif(3), "a"], names=("CIF", "Class")))
    data = read(str(tmp_path / "a.csv"))
    assert data.modality.conditions == {"atoms": ("2", "3"), "label": ("a", "b")}
    assert data.given["label"].tolist() == [1, 0]
    (tmp_path / "a.csv").write_text(table([cif(2), "b"], [cif(3), ""], names=("cif", "label")))
    with pytest.raises(InputError, match="1 crystals have no label, and 1 have one"):
        read(str(tmp_path / "a.csv"))


def test_other_tables_are_no_crystals(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text("x,specific\n1,2\n")
    (tmp_path / "b.csv.gz").write_bytes(b"no gzip")
    (tmp_path / "c.cif").write_text("cif\n")
    assert not any(holds_crystals(tmp_path / name) for name in ("a.csv", "b.csv.gz", "c.cif"))


def test_files_and_folders_are_read_in_order(tmp_path: pathlib.Path) -> None:
    (tmp_path / "b.cif").write_text(cif(2, 1) + "\n" + cif(3, 2))
    (tmp_path / "a.CIF.gz").write_bytes(gzip.compress(cif(4, 3).encode()))
    (tmp_path / "readme.txt").write_text("x")
    assert (find_crystals(tmp_path).atoms > 0).sum(1).tolist() == [4, 2, 3]
    assert len(read(str(tmp_path))) == 3
    assert len(read(str(tmp_path / "b.cif"))) == 2


def test_equal_names_of_blocks_are_crystals_of_their_own(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.cif").write_text(cif(2, 1) + cif(3, 2).replace("data_x2", "data_x1"))
    assert (find_crystals(tmp_path / "a.cif").atoms > 0).sum(1).tolist() == [2, 3]


def test_large_and_partial_crystals_are_left_out_and_told(tmp_path: pathlib.Path) -> None:
    rows = [row(2), row(70), ["0", "x", PARTIAL, ""], row(5)]
    (tmp_path / "a.csv").write_text(table(*rows))
    found = find_crystals(tmp_path / "a.csv")
    assert (found.atoms > 0).sum(1).tolist() == [2, 5]
    large, partial = found.notes
    assert partial.startswith("crystals left out for partial occupancy: 1, the first is row 4 (which ends in line ")
    assert large.startswith("crystals left out for over 64 atoms: 1, the first is row 3 ")
    assert len(find_crystals(tmp_path / "a.csv", longest=None).atoms) == 3
    assert len(read(str(tmp_path / "a.csv"), size=4)) == 1
    with pytest.raises(InputError, match=r"no crystal is left .*partial occupancy: 1"):
        read(str(tmp_path / "a.csv"), size=1)


def test_isotopes_are_told(tmp_path: pathlib.Path) -> None:
    text = cif_text(Crystal(np.array([1, 8]), np.random.default_rng(0).random((2, 3)), CELL), "x")
    (tmp_path / "a.cif").write_text(text.replace("  H  H0", "  D  D0"))
    found = find_crystals(tmp_path / "a.cif")
    assert found.atoms.tolist() == [[1, 8]]
    assert found.notes == ("crystals whose deuterium or tritium counts as hydrogen: 1, the first is a.cif",)


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        ("", "begins with data_, got nothing"),
        ("nan", "begins with data_, got 'nan'"),
        (cif(2)[:60], "got none"),
        (cif(2).replace("_cell_angle_beta   80", "_cell_angle_beta   800"), "cell with a volume"),
        (cif(2) + cif(3), "holds 2 crystals, expected one"),
    ],
)
def test_damaged_rows_are_named_and_counted(tmp_path: pathlib.Path, broken: str, match: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(table(row(2), ["0", "x", broken, "1"], row(3)))
    with pytest.raises(InputError, match=rf"a\.csv: row 3 \(which ends in line \d+\).*{match}") as error:
        read(str(path))
    assert "\n" not in str(error.value)
    assert "such in all" not in str(error.value)


def test_count_of_damaged_rows(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text(table(row(2), *[["0", "x", "y", "1"]] * 3))
    with pytest.raises(InputError, match=r"row 3 .*; 3 such in all; mend or drop it"):
        read(str(tmp_path / "a.csv"))


@pytest.mark.parametrize("text", ["cif\n", "cif,x\n1\n", 'cif\n"1\n', "cif\n\xff\n"])
def test_damaged_table_is_named(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.csv"):
        read(str(tmp_path / "a.csv"))


def test_file_without_crystals_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.cif").write_text("hello")
    with pytest.raises(InputError, match=r"a\.cif: a\.cif: expected a block of CIF.* got 'hello'"):
        read(str(tmp_path / "a.cif"))
    (tmp_path / "b.cif.gz").write_bytes(gzip.compress(cif(2).encode())[:-9])
    with pytest.raises(InputError, match="cannot be unpacked"):
        read(str(tmp_path / "b.cif.gz"))


def test_arrays_are_read_and_checked() -> None:
    whole = {
        "element": np.array([[8, 22], [11, 0]]),
        "place": np.full((2, 2, 3), 1.25),
        "lattice": np.stack([CELL, CELL]),
        "valid": np.array([[True, True], [True, False]]),
    }
    found = interpret(whole, "a.npz", Asked(limit=None))
    assert found.atoms.tolist() == [[8, 22], [11, 0]]
    assert found.values[:, :, 0].tolist() == [[0.25, 0.25], [0.25, 0]]
    assert (
        interpret({k: v for k, v in whole.items() if k != "valid"}, "a", Asked(limit=None)).atoms.tolist()
        == found.atoms.tolist()
    )
    labelled = interpret({**whole, "labels": np.array([1, 0]), "classes": np.array(["a", "b"])}, "a", Asked(limit=None))
    assert (labelled.labels.tolist(), labelled.classes) == ([1, 0], ("a", "b"))
    for change, match in (
        ({"element": np.array([[8.0, 22], [11, 0]])}, "expected whole numbers element"),
        ({"element": np.array([[8, 122], [11, 0]])}, "atomic numbers from 1 to 118"),
        ({"element": np.array([[8, 0], [11, 0]])}, "atomic numbers from 1 to 118"),
        ({"place": np.zeros((2, 2))}, "expected whole numbers element"),
        ({"place": np.full((2, 2, 3), np.nan)}, "finite coordinates"),
        ({"lattice": np.zeros((2, 6))}, "crystal 1 has a cell without volume, 2 such"),
        ({"lattice": np.zeros((1, 6))}, "expected whole numbers element"),
        ({"valid": np.array([[False, True], [True, False]])}, "at its beginning"),
        ({"valid": np.array([[False, False], [True, False]])}, "at its beginning"),
        ({"valid": np.ones((2, 2))}, "truths"),
    ):
        with pytest.raises(InputError, match=match):
            interpret({**whole, **change}, "a.npz", Asked(limit=None))

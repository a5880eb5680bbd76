"""Crystals from files: tables, folders, limits, what is left out and what is refused; and the example."""

import csv
import gzip
import io
import pathlib

import numpy as np
import pytest
import torch

from feller.core.errors import InputError
from feller.data.crystals.cif import Crystal, cif_text
from feller.data.crystals.dataset import check_cells, load_crystals, pad_crystals
from feller.data.crystals.files import holds_crystals
from feller.data.crystals.lattice import to_cell
from feller.data.crystals.modality import crystal_dataset
from feller.data.loading.array_formats import raw_from_arrays
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawCrystals
from feller.data.loading.read_options import ReadOptions
from feller.data.loading.sample_reader import read_samples
from feller.data.text.modality import Text
from tests.errors import refuses

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
    found = load_crystals(tmp_path / name)
    assert (found.atomic_numbers > 0).sum(1).tolist() == [3, 2]
    assert found.notes == ()
    np.testing.assert_allclose(found.lattice, [CELL, CELL])
    assert len(read(str(tmp_path / name))) == 2


def test_label_of_a_table_is_a_condition(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text(table([cif(2), "b"], [cif(3), "a"], names=("CIF", "Class")))
    data = read(str(tmp_path / "a.csv"))
    assert data.modality.conditions == {"atoms": ("2", "3"), "label": ("a", "b")}
    assert data.given["label"].tolist() == [1, 0]
    (tmp_path / "a.csv").write_text(table([cif(2), "b"], [cif(3), ""], names=("cif", "label")))
    with pytest.raises(InputError, match="found 1 crystals without a label and 1 with one"):
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
    assert (load_crystals(tmp_path).atomic_numbers > 0).sum(1).tolist() == [4, 2, 3]
    assert len(read(str(tmp_path))) == 3
    assert len(read(str(tmp_path / "b.cif"))) == 2


def test_equal_names_of_blocks_are_crystals_of_their_own(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.cif").write_text(cif(2, 1) + cif(3, 2).replace("data_x2", "data_x1"))
    assert (load_crystals(tmp_path / "a.cif").atomic_numbers > 0).sum(1).tolist() == [2, 3]


def test_large_and_partial_crystals_are_left_out_and_told(tmp_path: pathlib.Path) -> None:
    rows = [row(2), row(70), ["0", "x", PARTIAL, ""], row(5)]
    (tmp_path / "a.csv").write_text(table(*rows))
    found = load_crystals(tmp_path / "a.csv")
    assert (found.atomic_numbers > 0).sum(1).tolist() == [2, 5]
    large, partial = found.notes
    place = "(the header is row 1; ends in line "
    assert partial.startswith(f"crystals left out for partial occupancy: 1, the first is row 4 {place}")
    assert large.startswith(f"crystals with over 64 atoms left out: 1, the first is row 3 {place}")
    assert len(load_crystals(tmp_path / "a.csv", longest=None).atomic_numbers) == 3
    assert len(read(str(tmp_path / "a.csv"), longest=4)) == 1
    with pytest.raises(InputError, match=r"no crystal is left .*partial occupancy: 1"):
        read(str(tmp_path / "a.csv"), longest=1)


def test_isotopes_are_told(tmp_path: pathlib.Path) -> None:
    text = cif_text(Crystal(np.array([1, 8]), np.random.default_rng(0).random((2, 3)), CELL), "x")
    (tmp_path / "a.cif").write_text(text.replace("  H  H0", "  D  D0"))
    found = load_crystals(tmp_path / "a.cif")
    assert found.atomic_numbers.tolist() == [[1, 8]]
    assert found.notes == ("crystals with deuterium or tritium, read as hydrogen: 1, the first is crystal 1",)


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        ("", "found nothing"),
        ("nan", "found 'nan'"),
        (cif(2)[:60], "found 'data_x0"),
        (cif(2).replace("_cell_angle_beta   80", "_cell_angle_beta   800"), "positive volume"),
        (cif(2) + cif(3), "expected one crystal in the CIF text; found 2 crystals"),
    ],
)
def test_damaged_rows_are_named_and_counted(tmp_path: pathlib.Path, broken: str, match: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(table(row(2), ["0", "x", broken, "1"], row(3)))
    with pytest.raises(
        InputError, match=rf"a\.csv[:,] row 3 \(the header is row 1; ends in line \d+\).*{match}"
    ) as error:
        read(str(path))
    assert "\n" not in str(error.value)
    assert "in total" not in str(error.value)


def test_count_of_damaged_rows(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text(table(row(2), *[["0", "x", "y", "1"]] * 3))
    with pytest.raises(InputError, match=r"row 3 .*; 3 damaged in total\. Correct or remove this crystal"):
        read(str(tmp_path / "a.csv"))
    (tmp_path / "a.csv").write_text(table(row(2), ["0", "x", "y", "1"], ["0", "x", " ", "1"]))
    with pytest.raises(
        InputError, match=r"found 'y'.*; 2 damaged in total, 1 of them empty\. Correct or remove this crystal"
    ):
        read(str(tmp_path / "a.csv"))


@pytest.mark.parametrize("text", ["cif\n", "cif,x\n1\n", 'cif\n"1\n', "cif\n\xff\n"])
def test_damaged_table_is_named(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.csv"):
        read(str(tmp_path / "a.csv"))


def test_file_without_crystals_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.cif").write_text("hello")
    with pytest.raises(InputError, match=r"a\.cif[:,] crystal 1: .* found 'hello'"):
        read(str(tmp_path / "a.cif"))
    (tmp_path / "b.cif.gz").write_bytes(gzip.compress(cif(2).encode())[:-9])
    with pytest.raises(InputError, match="cannot be decompressed"):
        read(str(tmp_path / "b.cif.gz"))


def test_arrays_are_read_and_checked() -> None:
    whole = {
        "element": np.array([[8, 22], [11, 0]]),
        "place": np.full((2, 2, 3), 1.25),
        "lattice": np.stack([CELL, CELL]),
        "valid": np.array([[True, True], [True, False]]),
    }
    found = raw_from_arrays(whole, "a.npz", ReadOptions(limit=None))
    assert found.atomic_numbers.tolist() == [[8, 22], [11, 0]]
    assert found.values[:, :, 0].tolist() == [[0.25, 0.25], [0.25, 0]]
    assert (
        raw_from_arrays(
            {k: v for k, v in whole.items() if k != "valid"}, "a", ReadOptions(limit=None)
        ).atomic_numbers.tolist()
        == found.atomic_numbers.tolist()
    )
    labelled = raw_from_arrays(
        {**whole, "labels": np.array([1, 0]), "classes": np.array(["a", "b"])}, "a", ReadOptions(limit=None)
    )
    assert (labelled.labels.tolist(), labelled.classes) == ([1, 0], ("a", "b"))
    for change, match in (
        ({"element": np.array([[8.0, 22], [11, 0]])}, "expected arrays element"),
        ({"element": np.array([[8, 122], [11, 0]])}, "atomic numbers from 1 to 118"),
        ({"element": np.array([[8, 0], [11, 0]])}, "atomic numbers from 1 to 118"),
        ({"place": np.zeros((2, 2))}, "expected arrays element"),
        ({"place": np.full((2, 2, 3), np.nan)}, "row 1: expected finite coordinates"),
        ({"place": np.array([[[0, 0, 0], [0, 0, 0.5]], [[0, 0, np.inf], [0, 0, 0]]])}, "row 2: expected finite"),
        ({"lattice": np.zeros((2, 6))}, "row 1: expected a unit cell"),
        ({"lattice": np.stack([CELL, CELL * [300, 1, 1, 1, 1, 1]])}, "row 2: expected .* of 0.1 to 1,000 Å"),
        ({"lattice": np.zeros((1, 6))}, "expected arrays element"),
        ({"valid": np.array([[False, True], [True, False]])}, "row 1: expected at least one valid entry of atoms"),
        ({"valid": np.array([[False, False], [True, False]])}, "row 1: expected at least one valid entry of atoms"),
        ({"valid": np.ones((2, 2))}, "booleans"),
    ):
        with pytest.raises(InputError, match=match):
            raw_from_arrays({**whole, **change}, "a.npz", ReadOptions(limit=None))


def near(apart: float, lattice: np.ndarray = CELL) -> Crystal:
    """Return a crystal with two atoms so far apart, in Å, across a face of the cell."""
    return Crystal(
        np.array([11, 17, 8]), np.array([[0.5, 0.5, 0.5], [0, 0, 0], [1 - apart / lattice[0], 0, 0]]), lattice
    )


@pytest.mark.parametrize("name", ["a.csv", "a.cif", "folder", "a.npz"])
def test_atoms_on_top_of_each_other_are_damage(tmp_path: pathlib.Path, name: str) -> None:
    """Unless they are samples, which are read as they are."""
    places = {"a.csv": r"row 3 \(.*\)", "a.cif": "crystal 2", "folder": "00001.cif", "a.npz": "row 2"}
    for apart, damaged in ((0.29, True), (0.31, False)):
        atoms, inside, lattice = pad_crystals([near(2), near(apart)])
        whole = crystal_dataset(RawCrystals(inside, atomic_numbers=atoms, lattice=lattice))
        whole.modality.write(whole.values, whole.given, tmp_path / name)
        assert len(read_samples(tmp_path / name, whole.modality)[0]["element"]) == 2
        if damaged:
            said = (
                rf"{name}[:,] {places[name]}: atoms 2 \(Cl\) and 3 \(O\) of the cell are 0\.29 Å apart; expected 0\.3"
            )
            with pytest.raises(InputError, match=said):
                read(str(tmp_path / name))
        else:
            assert len(read(str(tmp_path / name))) == 2


def test_distances_are_those_of_pymatgen() -> None:
    """The nearest of all images, in cells that are far from square."""
    from pymatgen.core import Lattice

    draw, refused = np.random.default_rng(3), 0
    for _ in range(200):
        cell = to_cell(torch.from_numpy(0.3 * draw.normal(size=(1, 6)) + [1.0, 1.0, 1.0, 0, 0, 0]))[0].numpy()
        places = draw.random((12, 3))
        apart = Lattice.from_parameters(*cell).get_all_distances(places, places)[np.triu_indices(12, 1)].min()
        found = RawCrystals(places[None], atomic_numbers=np.full((1, 12), 6), lattice=cell[None])
        if apart < 0.3:
            refused += 1
            with pytest.raises(InputError, match=f"row 1: .*{apart:.3g} Å apart"):
                check_cells(found)
        else:
            check_cells(found)
    assert 20 < refused < 180


def test_column_of_another_name_is_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text(table(row(2), names=("", "id", "Structure", "energy")))
    with pytest.raises(InputError, match=r"found CIF in the column 'Structure'\. Rename the column to cif"):
        read(str(tmp_path / "a.csv"))
    (tmp_path / "b.csv").write_text(table([cif(2)], [cif(3)], names=("text",)))
    assert isinstance(read(str(tmp_path / "b.csv")).modality, Text)


def test_table_without_rows_is_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text("id,cif\n")
    with pytest.raises(InputError, match=r"a\.csv: expected rows of crystals below the header; found none"):
        read(str(tmp_path / "a.csv"))


def test_mark_of_utf8_is_left_aside(tmp_path: pathlib.Path) -> None:
    for name in ("a.cif", "a.csv"):
        text = cif(2) if name == "a.cif" else table(row(2))
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert len(read(str(tmp_path / name))) == 1


def test_data_that_a_model_does_not_know_are_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text(table(row(2, 1), row(2, 2)))
    (tmp_path / "b.cif").write_text(cif(2, 1) + cif(2, 3))
    model = read(str(tmp_path / "a.csv")).modality
    known = ", ".join(model.elements)
    with pytest.raises(
        InputError, match=rf"b\.cif[:,] crystal 2: expected one of {known}, .*; found \w+\. Leave out this element"
    ) as error:
        read(str(tmp_path / "b.cif"), like=model)
    assert str(error.value).count("b.cif") == 1
    (tmp_path / "c.cif").write_text(cif(2, 1) + cif(3, 1))
    with refuses(InputError, found="3"):
        read_samples(tmp_path / "c.cif", model)


def test_cells_are_cubes_of_five_atoms() -> None:
    train, test = read("example:perovskites"), read("example:perovskites/test")
    assert (len(train), len(test)) == (2000, 500)
    assert train.modality == test.modality
    assert train.modality.sizes == ("5",)
    assert len(train.modality.elements) == 56
    anions = [train.modality.elements.index(symbol) for symbol in ("N", "O", "F", "S")]
    for part in (train, test):
        assert (part.values["lattice"][:, 3:] == 90).all()
        assert (part.values["lattice"][:, :3] == part.values["lattice"][:, :1]).all()
        assert ((part.values["lattice"] > 3) & (part.values["lattice"] < 91)).all()
        assert (torch.isin(part.values["element"], torch.tensor(anions)).sum(1) >= 3).all()
        assert part.given["valid"]["element"].all()


def test_no_cell_is_in_both_parts() -> None:
    rows = [
        {
            (*element, *place)
            for element, place in zip(v["element"].tolist(), v["place"].flatten(1).tolist(), strict=True)
        }
        for v in (read("example:perovskites").values, read("example:perovskites/test").values)
    ]
    assert not rows[0] & rows[1]


def test_read_like_a_model_is_the_same() -> None:
    own = read("example:perovskites/test")
    like = read("example:perovskites/test", like=own.modality)
    assert torch.equal(own.values["element"], like.values["element"])
    torch.testing.assert_close(own.values["place"], like.values["place"])
    assert torch.equal(own.given["atoms"], like.given["atoms"])

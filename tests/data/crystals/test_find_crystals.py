"""Crystal datasets from tables, folders and arrays, and the perovskite example."""

import contextlib
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
def test_cif_column_of_a_table(tmp_path: pathlib.Path, name: str) -> None:
    text = table(row(3, 1), row(2, 2), delimiter="\t" if "tsv" in name else ",").encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    assert holds_crystals(tmp_path / name)
    found = load_crystals(tmp_path / name)
    assert (found.atomic_numbers > 0).sum(1).tolist() == [3, 2]
    assert found.notes == ()
    np.testing.assert_allclose(found.lattice, [CELL, CELL])
    assert len(read(str(tmp_path / name))) == 2


def test_label_column_is_a_condition(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text(table([cif(2), "b"], [cif(3), "a"], names=("CIF", "Class")))
    data = read(str(tmp_path / "a.csv"))
    assert data.modality.conditions == {"atoms": ("2", "3"), "label": ("a", "b")}
    assert data.given["label"].tolist() == [1, 0]
    (tmp_path / "a.csv").write_text(table([cif(2), "b"], [cif(3), ""], names=("cif", "label")))
    with refuses(InputError, file=str(tmp_path / "a.csv")):
        read(str(tmp_path / "a.csv"))


def test_tables_without_cif_are_not_crystals(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text("x,specific\n1,2\n")
    (tmp_path / "b.csv.gz").write_bytes(b"no gzip")
    (tmp_path / "c.cif").write_text("cif\n")
    assert not any(holds_crystals(tmp_path / name) for name in ("a.csv", "b.csv.gz", "c.cif"))


def test_folder_order(tmp_path: pathlib.Path) -> None:
    (tmp_path / "b.cif").write_text(cif(2, 1) + "\n" + cif(3, 2).replace("data_x2", "data_x1"))  # equal block names
    (tmp_path / "a.CIF.gz").write_bytes(gzip.compress(cif(4, 3).encode()))
    (tmp_path / "readme.txt").write_text("x")
    assert (load_crystals(tmp_path).atomic_numbers > 0).sum(1).tolist() == [4, 2, 3]
    assert len(read(str(tmp_path))) == 3
    assert len(read(str(tmp_path / "b.cif"))) == 2
    (tmp_path / "b.cif").write_bytes(b"\xef\xbb\xbf" + cif(2).encode())
    assert len(read(str(tmp_path / "b.cif"))) == 1


def test_large_and_partial_crystals_are_left_out(tmp_path: pathlib.Path) -> None:
    rows = [row(2), row(70), ["0", "x", PARTIAL, ""], row(5)]
    (tmp_path / "a.csv").write_text(table(*rows))
    found = load_crystals(tmp_path / "a.csv")
    assert (found.atomic_numbers > 0).sum(1).tolist() == [2, 5]
    large, partial = found.notes
    assert "row 3" in large
    assert "row 4" in partial
    assert len(load_crystals(tmp_path / "a.csv", longest=None).atomic_numbers) == 3
    assert len(read(str(tmp_path / "a.csv"), longest=4)) == 1
    with refuses(InputError, file=str(tmp_path / "a.csv")):
        read(str(tmp_path / "a.csv"), longest=1)


@pytest.mark.parametrize(
    "text",
    ["", "nan", cif(2)[:60], cif(2).replace("_cell_angle_beta   80", "_cell_angle_beta   800"), cif(2) + cif(3)],
    ids=["empty", "word", "cut", "cell", "two"],
)
def test_damaged_rows_are_refused(tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(table(row(2), ["0", "x", text, "1"], row(3)))
    with refuses(InputError, file=str(path)) as caught:
        read(str(path))
    assert "row 3 " in str(caught.value)


def test_damaged_rows_are_counted(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(table(row(2), *[["0", "x", text, "1"] for text in ("y", " ", "y")]))
    with refuses(InputError, file=str(path)) as caught:
        read(str(path))
    assert all(text in str(caught.value) for text in ("row 3 ", "'y'", "3 damaged", "1 of them empty"))


STRUCTURE = table(row(2), names=("", "id", "Structure", "energy"))


@pytest.mark.parametrize("text", ["cif\n", "cif,x\n1\n", 'cif\n"1\n', "cif\n\xff\n", STRUCTURE])
def test_damaged_tables_are_refused(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    with refuses(InputError, file=str(tmp_path / "a.csv")):
        read(str(tmp_path / "a.csv"))


def test_text_column_takes_precedence(tmp_path: pathlib.Path) -> None:
    (tmp_path / "b.csv").write_text(table([cif(2)], [cif(3)], names=("text",)))
    assert isinstance(read(str(tmp_path / "b.csv")).modality, Text)


def test_files_without_crystals_are_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.cif").write_text("hello")
    (tmp_path / "b.cif.gz").write_bytes(gzip.compress(cif(2).encode())[:-9])
    for name in ("a.cif", "b.cif.gz"):
        with refuses(InputError, file=str(tmp_path / name)):
            read(str(tmp_path / name))


def test_arrays_are_read_and_checked() -> None:
    whole = {
        "element": np.array([[8, 22], [11, 0]]),
        "place": np.full((2, 2, 3), 1.25),
        "lattice": np.stack([CELL, CELL]),
        "valid": np.array([[True, True], [True, False]]),
    }
    options = ReadOptions(limit=None)
    found = raw_from_arrays(whole, "a.npz", options)
    assert found.atomic_numbers.tolist() == [[8, 22], [11, 0]]
    assert found.values[:, :, 0].tolist() == [[0.25, 0.25], [0.25, 0]]
    unmasked = {name: array for name, array in whole.items() if name != "valid"}
    assert raw_from_arrays(unmasked, "a", options).atomic_numbers.tolist() == found.atomic_numbers.tolist()
    labels = {"labels": np.array([1, 0]), "classes": np.array(["a", "b"])}
    labelled = raw_from_arrays({**whole, **labels}, "a", options)
    assert (labelled.labels.tolist(), labelled.classes) == ([1, 0], ("a", "b"))
    for changes, row in (
        ({"element": np.array([[8.0, 22], [11, 0]])}, None),
        ({"element": np.array([[8, 122], [11, 0]])}, 1),
        ({"element": np.array([[8, 0], [11, 0]])}, 1),
        ({"place": np.zeros((2, 2))}, None),
        ({"place": np.full((2, 2, 3), np.nan)}, 1),
        ({"place": np.array([[[0, 0, 0], [0, 0, 0.5]], [[0, 0, np.inf], [0, 0, 0]]])}, 2),
        ({"lattice": np.zeros((2, 6))}, 1),
        ({"lattice": np.stack([CELL, CELL * [300, 1, 1, 1, 1, 1]])}, 2),
        ({"lattice": np.zeros((1, 6))}, None),
        ({"valid": np.array([[False, True], [True, False]])}, 1),
        ({"valid": np.array([[False, False], [True, False]])}, 1),
        ({"valid": np.ones((2, 2))}, None),
    ):
        with refuses(InputError, row=row):
            raw_from_arrays({**whole, **changes}, "a.npz", options)


def crystal_with_distance(apart: float, lattice: np.ndarray = CELL) -> Crystal:
    """Return a crystal with two atoms `apart` Å from each other across a face of the cell."""
    return Crystal(
        np.array([11, 17, 8]), np.array([[0.5, 0.5, 0.5], [0, 0, 0], [1 - apart / lattice[0], 0, 0]]), lattice
    )


@pytest.mark.parametrize(
    ("name", "place"),
    [("a.csv", "row 3 "), ("a.cif", "crystal 2"), ("folder", "00001.cif"), ("a.npz", "row 2")],
)
def test_coinciding_atoms_are_refused(tmp_path: pathlib.Path, name: str, place: str) -> None:
    """Samples of a model are read without this check."""
    for distance in (0.29, 0.31):
        atoms, coords, lattice = pad_crystals([crystal_with_distance(2), crystal_with_distance(distance)])
        data = crystal_dataset(RawCrystals(coords, atomic_numbers=atoms, lattice=lattice))
        data.modality.write(data.values, data.given, tmp_path / name)
        assert len(read_samples(tmp_path / name, data.modality)[0]["element"]) == 2
        if distance > 0.3:
            assert len(read(str(tmp_path / name))) == 2
            continue
        with refuses(InputError, file=str(tmp_path / name)) as caught:
            read(str(tmp_path / name))
        assert str(caught.value.place).startswith(place)


def test_min_distance_equals_pymatgen() -> None:
    """The cells are far from square, so that the nearest image matters."""
    from pymatgen.core import Lattice

    draw, refused = np.random.default_rng(3), 0
    for _ in range(200):
        cell = to_cell(torch.from_numpy(0.3 * draw.normal(size=(1, 6)) + [1.0, 1.0, 1.0, 0, 0, 0]))[0].numpy()
        coords = draw.random((12, 3))
        distance = Lattice.from_parameters(*cell).get_all_distances(coords, coords)[np.triu_indices(12, 1)].min()
        refused += distance < 0.3
        with refuses(InputError, place="row 1") if distance < 0.3 else contextlib.nullcontext() as caught:
            check_cells(RawCrystals(coords[None], atomic_numbers=np.full((1, 12), 6), lattice=cell[None]))
        assert caught is None or f"{distance:.3g} Å" in str(caught.value)
    assert 20 < refused < 180


def test_unknown_elements_and_sizes_are_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text(table(row(2, 1), row(2, 2)))
    (tmp_path / "b.cif").write_text(cif(2, 1) + cif(2, 3))
    model = read(str(tmp_path / "a.csv")).modality
    with refuses(InputError, file=str(tmp_path / "b.cif"), place="crystal 2", found="Ta"):
        read(str(tmp_path / "b.cif"), like=model)
    (tmp_path / "c.cif").write_text(cif(2, 1) + cif(3, 1))
    with refuses(InputError, found="3"):
        read_samples(tmp_path / "c.cif", model)


def test_perovskites_example() -> None:
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
    keys = [
        {
            (*element, *place)
            for element, place in zip(
                part.values["element"].tolist(), part.values["place"].flatten(1).tolist(), strict=True
            )
        }
        for part in (train, test)
    ]
    assert not keys[0] & keys[1]
    reloaded = read("example:perovskites/test", like=test.modality)
    assert torch.equal(test.values["element"], reloaded.values["element"])
    torch.testing.assert_close(test.values["place"], reloaded.values["place"])
    assert torch.equal(test.given["atoms"], reloaded.given["atoms"])

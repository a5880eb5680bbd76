"""Dataset reading: names, kinds of files, and random damage."""

import gzip
import pathlib
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.crystals.cif import Crystal, cif_text
from feller.data.examples.registry import EXAMPLE_PREFIX
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.data.proteins.files import pdb_text
from tests.data.proteins.test_chains import atoms as chain_atoms
from tests.errors import refuses


def test_unknown_examples_are_refused() -> None:
    with refuses(UsageError, argument="example", found="'digit'"):
        read(f"{EXAMPLE_PREFIX}digit")
    with refuses(InputError, argument="data", found="'exmple:moon'"):
        read("exmple:moon")
    with refuses(UsageError, argument="part", found="'tset'"):
        read(f"{EXAMPLE_PREFIX}digits/tset")


def test_longest_applies_to_sized_data_only() -> None:
    assert read(f"{EXAMPLE_PREFIX}digits/test", longest=4).modality == Images(4, 4, 1, 16, tuple("0123456789"))
    with refuses(UsageError, remedy="Remove longest"):
        read(f"{EXAMPLE_PREFIX}moons", longest=4)
    with refuses(UsageError, argument="longest", found="0"):
        read(f"{EXAMPLE_PREFIX}digits", longest=0)


def test_example_like_a_model() -> None:
    for name in ("digits", "moons"):
        expected = read(f"{EXAMPLE_PREFIX}{name}/test")
        reloaded = read(f"{EXAMPLE_PREFIX}{name}/test", like=expected.modality)
        assert torch.equal(expected.values, reloaded.values)
        assert reloaded.modality is expected.modality
        assert all(torch.equal(expected.given[key], reloaded.given[key]) for key in expected.given)


def whole_files(folder: pathlib.Path) -> list[pathlib.Path]:
    numbers = np.random.default_rng(0)
    pixels = numbers.integers(0, 256, (3, 6, 5), dtype=np.uint8)
    header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4) for size in pixels.shape)
    (folder / "a-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
    (folder / "b-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pixels.tobytes(), mtime=0))
    (folder / "c.csv").write_text("x,y,label\n" + "".join(f"{a},{b},k\n" for a, b in numbers.normal(size=(9, 2))))
    coordinates = "lat,lon\n" + "".join(f"{10 * a},{30 * b}\n" for a, b in numbers.normal(size=(9, 2)))
    (folder / "h.csv.gz").write_bytes(gzip.compress(coordinates.encode(), mtime=0))
    (folder / "i.csv").write_text(
        "pdb,phi,psi\n" + "".join(f"x,{100 * a},{b}\n" for a, b in numbers.normal(size=(9, 2)))
    )
    np.save(folder / "d.npy", numbers.normal(size=(9, 2)))
    np.savez(folder / "e.npz", samples=pixels, labels=np.arange(3), classes=["a", "b", "c"])
    np.savez_compressed(folder / "f.npz", samples=numbers.normal(size=(9, 2)))
    colour = Image.fromarray(numbers.integers(0, 256, (6, 5, 3), dtype=np.uint8))
    for ending in ("png", "jpg", "gif", "webp", "tif", "bmp"):
        colour.save(folder / f"g.{ending}")
    return sorted(folder.iterdir())


@settings(deadline=None, max_examples=250, derandomize=True)
@given(st.data())
def test_random_damage_is_read_or_refused_in_one_line(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = data.draw(st.sampled_from(whole_files(pathlib.Path(folder))))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(0, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        length = data.draw(st.integers(0, len(content)) | st.just(len(content)))
        path.write_bytes(content[:length])
        message = None
        try:
            check(read(str(path)))
        except InputError as error:
            message = str(error)
        assert message is None or (path.name in message and "\n" not in message)


def check(data: Dataset) -> None:
    """Check that training can start from a data set."""
    state = data.modality.encode(data.values)
    assert len(data) > 0
    reference = data.modality.space().sample_base(len(data), Rng(0).stream("x"))
    assert state.shape == reference.shape
    assert torch.isfinite(state).all()
    for key, classes in data.modality.conditions.items():
        assert data.given[key].shape == (len(data),)
        assert 0 <= data.given[key].min() <= data.given[key].max() < len(classes)


XYZ = "2\n\nC 0 0 0\nO 0 0 1\n"
CUBE = Crystal(np.array([11, 17]), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.array([4.0, 4, 4, 90, 90, 90]))


def structure_folders(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return a folder of files of each kind of structures."""
    folders = {name: folder / name for name in ("xyz", "cif", "pdb")}
    for path in folders.values():
        path.mkdir()
    for i in range(2):
        (folders["xyz"] / f"{i}.xyz").write_text(XYZ)
        (folders["cif"] / f"{i}.cif").write_text(cif_text(CUBE, "x"))
        (folders["pdb"] / f"{i}.pdb").write_text(pdb_text([chain_atoms(12)]))
    return folders


@pytest.mark.parametrize("model", ["xyz", "cif", "pdb"])
@pytest.mark.parametrize("data", ["xyz", "cif", "pdb"])
def test_structures_of_another_kind_are_refused(tmp_path: pathlib.Path, model: str, data: str) -> None:
    """Regardless of filters by size."""
    names = {"xyz": "molecules", "cif": "crystals", "pdb": "protein backbones"}
    folders = structure_folders(tmp_path)
    modality = read(str(folders[model])).modality
    if model == data:
        assert len(read(str(folders[model]), like=modality, longest=2 if model != "pdb" else None)) == 2
        return
    (folders["xyz"] / "0.xyz").write_text("3\n\nC 0 0 0\nO 0 0 1\nO 0 1 0\n" * 2)
    for source in (f"{folders[data]}/", f"{folders[data]}/0.{data}"):
        with refuses(InputError, file=source, expected=names[model], found=names[data]):
            read(source, like=modality)


def test_arrays_of_another_kind_are_refused(tmp_path: pathlib.Path) -> None:
    folders = structure_folders(tmp_path)
    (tmp_path / "a.xyz").write_text("3\n\nC 0 0 0\nO 0 0 1\nO 0 1 0\n")
    data = read(str(tmp_path / "a.xyz"))
    data.modality.write(data.values, data.given, tmp_path / "a.npz")
    with refuses(InputError, file=str(tmp_path / "a.npz"), expected="crystals", found="molecules"):
        read(str(tmp_path / "a.npz"), like=read(str(folders["cif"])).modality)


def test_mixed_folder_is_refused(tmp_path: pathlib.Path) -> None:
    folder = structure_folders(tmp_path)["xyz"]
    (folder / "a.cif").write_text(cif_text(CUBE, "x"))
    with refuses(InputError, expected="files of one type"):
        read(str(folder))


def test_skipped_files_are_noted(tmp_path: pathlib.Path) -> None:
    folders = structure_folders(tmp_path)
    for name in ("b.txt", "a.md", "c.csv"):
        (folders["cif"] / name).write_text("x")
    (note,) = read(str(folders["cif"])).notes
    assert all(word in note for word in (" 3 ", "a.md", "b.txt", "c.csv"))
    for name in (*(f"{i}.log" for i in range(4)), "x.png", "y.png"):
        (folders["pdb"] / name).write_text("x")
    note = read(str(folders["pdb"])).notes[0]
    assert all(word in note for word in (" 6 ", "0.log", "x.png", "..."))
    assert "y.png" not in note


def test_own_files_are_not_noted(tmp_path: pathlib.Path) -> None:
    data = read("example:proteins").subset(torch.arange(2))
    data.modality.write(data.values, data.given, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir())[-1] == "sequences.fasta"
    assert not any("skipped" in note for note in read(str(tmp_path / "out")).notes)


@pytest.mark.parametrize("source", ["nowhere/", "./nowhere", "empty/", "a.docx", "a.npz", "tables", "shards"])
def test_unreadable_sources_are_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "tables", "shards"):
        (tmp_path / name).mkdir()
    (tmp_path / "a.docx").write_text("x")
    (tmp_path / "a.npz").write_text("")
    for number in range(2):
        (tmp_path / "tables" / f"{number}.csv").write_text("x,y\n1,2\n")
        (tmp_path / "shards" / f"x-0000{number}.csv").write_text("x,y\n1,2\n")
    (tmp_path / "shards" / "manifest.json").write_text("{}")
    with refuses(InputError, file=source.removeprefix("./").rstrip("/")):
        read(source)

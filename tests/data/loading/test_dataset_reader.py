"""From names to data, also where files are damaged at random."""

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


def test_missing_and_unknown(tmp_path: pathlib.Path) -> None:
    with refuses(InputError, found="none"):
        read(str(tmp_path / "nowhere"))
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(InputError, match=r"file type is not recognised; expected \.csv"):
        read(str(tmp_path / "a.docx"))
    (tmp_path / "a.npz").write_text("")
    with pytest.raises(InputError, match="the file is empty"):
        read(str(tmp_path / "a.npz"))


def test_examples_are_named() -> None:
    with refuses(UsageError, argument="example", found="'digit'"):
        read(f"{EXAMPLE_PREFIX}digit")
    with refuses(UsageError, argument="part", found="'tset'"):
        read(f"{EXAMPLE_PREFIX}digits/tset")
    assert len(read(f"{EXAMPLE_PREFIX}digits/train")) == len(read(f"{EXAMPLE_PREFIX}digits"))


def test_size_applies_to_pictures_only() -> None:
    assert read(f"{EXAMPLE_PREFIX}digits/test", longest=4).modality == Images(4, 4, 1, 16, tuple("0123456789"))
    with pytest.raises(UsageError, match="contains points, which have no size"):
        read(f"{EXAMPLE_PREFIX}moons", longest=4)
    with refuses(UsageError, argument="longest", found="0"):
        read(f"{EXAMPLE_PREFIX}digits", longest=0)


def test_an_example_like_a_model_is_itself() -> None:
    for name in ("digits", "moons"):
        own = read(f"{EXAMPLE_PREFIX}{name}/test")
        like = read(f"{EXAMPLE_PREFIX}{name}/test", like=own.modality)
        assert torch.equal(own.values, like.values)
        assert like.modality is own.modality
        assert all(torch.equal(own.given[key], like.given[key]) for key in own.given)


def test_subset_keeps_conditions_beside_values() -> None:
    data = read(f"{EXAMPLE_PREFIX}digits/test")
    part = data.subset(torch.tensor([5, 2]))
    assert len(part) == 2
    assert torch.equal(part.values, data.values[[5, 2]])
    assert torch.equal(part.given["label"], data.given["label"][[5, 2]])
    assert part.modality is data.modality


def whole_files(folder: pathlib.Path) -> list[pathlib.Path]:
    numbers = np.random.default_rng(0)
    pixels = numbers.integers(0, 256, (3, 6, 5), dtype=np.uint8)
    header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4) for size in pixels.shape)
    (folder / "a-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
    (folder / "b-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pixels.tobytes(), mtime=0))
    (folder / "c.csv").write_text("x,y,label\n" + "".join(f"{a},{b},k\n" for a, b in numbers.normal(size=(9, 2))))
    places = "lat,lon\n" + "".join(f"{10 * a},{30 * b}\n" for a, b in numbers.normal(size=(9, 2)))
    (folder / "h.csv.gz").write_bytes(gzip.compress(places.encode(), mtime=0))
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
def test_random_damage_gives_data_or_one_line(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = data.draw(st.sampled_from(whole_files(pathlib.Path(folder))))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(0, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        kept = data.draw(st.integers(0, len(content)) | st.just(len(content)))
        path.write_bytes(content[:kept])
        said = None
        try:
            check(read(str(path)))
        except InputError as error:
            said = str(error)
        assert said is None or (path.name in said and "\n" not in said)


def check(data: Dataset) -> None:
    """A data set that training can start from."""
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


def structures(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return a folder of each kind of structures."""
    folders = {name: folder / name for name in ("xyz", "cif", "pdb")}
    for path in folders.values():
        path.mkdir()
    for i in range(2):
        (folders["xyz"] / f"{i}.xyz").write_text(XYZ)
        (folders["cif"] / f"{i}.cif").write_text(cif_text(CUBE, "x"))
        (folders["pdb"] / f"{i}.pdb").write_text(pdb_text([chain_atoms(12)]))
    return folders


@pytest.mark.parametrize("one", ["xyz", "cif", "pdb"])
@pytest.mark.parametrize("other", ["xyz", "cif", "pdb"])
def test_other_structures_than_those_of_a_model_are_told(tmp_path: pathlib.Path, one: str, other: str) -> None:
    """Before any of them is left out for its size."""
    names = {"xyz": "molecules", "cif": "crystals", "pdb": "protein backbones"}
    folders = structures(tmp_path)
    modality = read(str(folders[one])).modality
    if one == other:
        assert len(read(str(folders[one]), like=modality, longest=2 if one != "pdb" else None)) == 2
        return
    (folders["xyz"] / "0.xyz").write_text("3\n\nC 0 0 0\nO 0 0 1\nO 0 1 0\n" * 2)
    for source in (f"{folders[other]}/", f"{folders[other]}/0.{other}"):
        with pytest.raises(InputError, match=f"^{source}: expected {names[one]}; found {names[other]}$"):
            read(source, like=modality)


def test_arrays_of_another_kind_than_a_model_are_told(tmp_path: pathlib.Path) -> None:
    folders = structures(tmp_path)
    (tmp_path / "a.xyz").write_text("3\n\nC 0 0 0\nO 0 0 1\nO 0 1 0\n")
    data = read(str(tmp_path / "a.xyz"))
    data.modality.write(data.values, data.given, tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"a\.npz: expected crystals; found molecules"):
        read(str(tmp_path / "a.npz"), like=read(str(folders["cif"])).modality)


def test_folder_of_several_kinds_is_refused(tmp_path: pathlib.Path) -> None:
    folder = structures(tmp_path)["xyz"]
    (folder / "a.cif").write_text(cif_text(CUBE, "x"))
    with pytest.raises(InputError, match="expected files of one type"):
        read(str(folder))


def test_other_files_beside_structures_are_told(tmp_path: pathlib.Path) -> None:
    folders = structures(tmp_path)
    for name in ("b.txt", "a.md", "c.csv"):
        (folders["cif"] / name).write_text("x")
    assert read(str(folders["cif"])).notes == ("skipped 3 files that are not crystals: a.md, b.txt, c.csv",)
    for i in range(4):
        (folders["pdb"] / f"{i}.log").write_text("x")
    for name in ("x.png", "y.png"):
        (folders["pdb"] / name).write_text("x")
    told = "skipped 6 files that are not protein backbones: 0.log, 1.log, 2.log, 3.log, x.png, ..."
    assert read(str(folders["pdb"])).notes[0] == told


def test_our_own_overview_beside_structures_is_not_told(tmp_path: pathlib.Path) -> None:
    data = read("example:proteins").subset(torch.arange(2))
    data.modality.write(data.values, data.given, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir())[-1] == "sequences.fasta"
    assert not any("skipped" in note for note in read(str(tmp_path / "out")).notes)


def test_folder_of_tables_says_to_name_one(tmp_path: pathlib.Path) -> None:
    for name in ("b.csv", "a.csv"):
        (tmp_path / name).write_text("x,y\n1,2\n")
    with pytest.raises(
        InputError, match=rf"expected images, texts or structures\. Give one file, such as {tmp_path}/a\.csv"
    ):
        read(str(tmp_path))


def test_shards_of_samples_say_which_form_is_read(tmp_path: pathlib.Path) -> None:
    for number in range(2):
        (tmp_path / f"x-0000{number}.csv").write_text("x,y\n1,2\n")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(
        InputError, match=r"sample shards in the format \.csv.* --out such as NAME\.parquet.*x-00000\.csv"
    ):
        read(str(tmp_path))


def test_wrong_name_of_an_example_is_told() -> None:
    with refuses(InputError, argument="example", found="'moon'"):
        read("exmple:moon")


def test_names_are_not_told_twice(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for source, told in (
        ("nowhere/", "nowhere: expected a file or a folder; found none"),
        ("empty/", "empty: the folder is empty"),
        ("./nowhere", "nowhere: expected a file or a folder; found none"),
    ):
        with pytest.raises(InputError, match=f"^{told}$"):
            read(source)

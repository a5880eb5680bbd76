"""Selection of the images of a folder, and their size."""

import os
import pathlib
import sys
import types

import numpy as np
import pytest
from PIL import Image

from feller.core.errors import InputError, UsageError
from feller.core.optional_dependency import NotInstalledError
from feller.data.images import image_loading
from feller.data.images.image_resizing import common_size
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from tests.errors import refuses


def save(path: pathlib.Path, size: tuple[int, int] = (4, 4), shade: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, shade).save(path)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a folder with nested folders and with links to a folder outside, to itself and to an image outside."""
    root = tmp_path / "in"
    save(root / "a" / "1.png", shade=1)
    save(root / "a" / "x" / "2.png", shade=2)
    save(root / "a" / "x" / "y" / "3.png", shade=3)
    save(root / "b" / "deep" / "4.png", shade=4)
    save(tmp_path / "outside" / "5.png", shade=5)
    os.symlink(tmp_path / "outside", root / "c")
    os.symlink(root, root / "a" / "circle")
    os.symlink(tmp_path / "outside" / "5.png", root / "b" / "6.png")
    (root / "bare").mkdir()
    return root


@pytest.mark.parametrize(
    ("options", "classes", "shades"),
    [
        ({}, ("a",), [1]),
        ({"nested": True}, ("a", "b"), [1, 2, 3, 4]),
        ({"links": True}, ("a", "b", "c"), [1, 5, 5]),
        ({"nested": True, "links": True}, ("a", "b", "c"), [1, 2, 3, 5, 4, 5]),
    ],
)
def test_nested_folders_and_links(folder, options, classes, shades) -> None:
    data = read(str(folder), **options)
    assert data.modality.classes == classes
    assert data.values[:, 0, 0, 0].tolist() == shades
    assert sum("bare" in note for note in data.notes) == 1
    assert sum("--links" in note for note in data.notes) == ("links" not in options)
    assert sum("--nested" in note for note in data.notes) == ("nested" not in options)


def test_options_of_folders_belong_to_folders(tmp_path) -> None:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).standard_normal((20, 2)))
    with refuses(UsageError, argument="nested"):
        read(str(tmp_path / "points.npy"), nested=True)


@pytest.mark.parametrize(
    ("sizes", "size"),
    [
        ([(8, 4), (8, 4), (5, 9)], (8, 4)),
        ([(40, 30), (80, 60), (20, 15), (7, 9)], (40, 30)),  # most have the aspect ratio 4:3
        ([(10, 50), (60, 20), (30, 90), (71, 40), (25, 24)], (24, 24)),
        ([(5, 7)], (5, 7)),
    ],
)
def test_common_size(sizes, size) -> None:
    assert common_size(sizes) == common_size(sizes[::-1]) == size


def test_mixed_sizes_become_a_square(tmp_path) -> None:
    for i, size in enumerate([(10, 50), (60, 20), (30, 90), (71, 40), (25, 24)]):
        save(tmp_path / f"{i}.png", size)
    data = read(str(tmp_path))
    assert data.modality == Images(24, 24, 1)
    assert any("24x24" in note for note in data.notes)
    save(tmp_path / "other" / "wide.png", (80, 20))
    assert read(str(tmp_path / "other"), like=data.modality).values.shape == (1, 1, 24, 24)


def test_sixteen_bits_are_said(tmp_path) -> None:
    Image.new("I;16", (4, 4), 257 * 9).save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    (note,) = read(str(tmp_path)).notes
    assert note.startswith("1 of 2 images have 16 bits")


def test_huge_images_have_a_remedy(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    save(tmp_path / "a.png")
    with refuses(InputError) as caught:
        read(str(tmp_path))
    assert "bomb" not in str(caught.value).lower()
    assert "Reduce" in caught.value.remedy


def test_heic_without_its_package(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(image_loading, "has_heic", lambda: False)
    save(tmp_path / "a.png")
    (tmp_path / "b.HEIC").write_bytes(b"heic")
    data = read(str(tmp_path))
    assert len(data) == 1
    assert [note for note in data.notes if "HEIC" in note and "pillow-heif" in note and "(1)" in note]
    with refuses(NotInstalledError):
        read(str(tmp_path / "b.HEIC"))


def test_heic_with_its_package(tmp_path, monkeypatch) -> None:
    """The package registers a plugin of Pillow; here one that reads PNG under that name."""
    from PIL import PngImagePlugin

    class Heif(PngImagePlugin.PngImageFile):
        format = "HEIF"

    def register() -> None:
        Image.register_open("HEIF", Heif, lambda prefix: prefix.startswith(b"\x89PNG"))

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    monkeypatch.setattr(image_loading, "has_heic", lambda: True)
    monkeypatch.setattr(image_loading, "FORMATS", ("JPEG",))
    save(tmp_path / "a.png", shade=7)
    (tmp_path / "a.png").rename(tmp_path / "a.heic")
    try:
        for source in (tmp_path, tmp_path / "a.heic"):
            assert read(str(source)).values.unique().tolist() == [7]
    finally:
        Image.OPEN.pop("HEIF", None)

"""Folders of images and IDX files."""

import gzip
import os
import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from feller.core.errors import InputError
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from tests.errors import refuses


def save(path: pathlib.Path, mode: str = "L", size: tuple[int, int] = (4, 4), colour: object = 100, **more) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **more)


def test_subfolders_are_sorted_classes(tmp_path: pathlib.Path) -> None:
    for name, shade in (("dog", 30), ("cat", 20), ("ant", 10)):
        save(tmp_path / name / "1.png", colour=shade)
        save(tmp_path / name / "2.bmp", colour=shade)
    data = read(str(tmp_path))
    assert data.modality == Images(4, 4, 1, 255, ("ant", "cat", "dog"))
    assert data.given["label"].tolist() == [0, 0, 1, 1, 2, 2]
    assert data.values[:, 0, 0, 0].tolist() == [10, 10, 20, 20, 30, 30]
    assert data.notes == ()


@pytest.mark.parametrize("ending", ["png", "jpg", "jpeg", "bmp", "gif", "webp", "tif", "tiff", "PNG"])
def test_image_formats(tmp_path: pathlib.Path, ending: str) -> None:
    save(tmp_path / f"a.{ending}", "RGB", colour=(200, 100, 50))
    pixel = read(str(tmp_path)).values[0, :, 0, 0].tolist()
    assert pixel == pytest.approx([200, 100, 50], abs=4)
    assert len(read(str(tmp_path / f"a.{ending}"))) == 1


def test_mixed_modes_become_rgb(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "a.png", "L", colour=7)
    save(tmp_path / "b.png", "RGB", colour=(1, 2, 3))
    save(tmp_path / "c.png", "RGBA", colour=(0, 0, 0, 51))
    save(tmp_path / "d.png", "1", colour=1)
    save(tmp_path / "e.tif", "CMYK", colour=(255, 0, 0, 0))
    save(tmp_path / "f.png", "I;16", colour=257 * 9)
    save(tmp_path / "g.png", "LA", colour=(0, 0))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    palette.save(tmp_path / "h.png")
    data = read(str(tmp_path))
    assert data.values[:, :, 0, 0].tolist() == [
        [7, 7, 7],
        [1, 2, 3],
        [204, 204, 204],
        [255, 255, 255],
        [0, 255, 255],
        [9, 9, 9],
        [255, 255, 255],
        [9, 8, 7],
    ]
    assert "7 of 8" in data.notes[0]


def test_grayscale_depths(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "a.png", "I;16", colour=65535)
    save(tmp_path / "a2.png", "I;16", colour=257 * 10 - 100)
    save(tmp_path / "b.png", "1", colour=0)
    save(tmp_path / "c.png", "LA", colour=(10, 255))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 8, 8, 8])
    palette.save(tmp_path / "d.png", transparency=0)
    data = read(str(tmp_path))
    assert data.values[:, 0, 0, 0].tolist() == [255, 10, 0, 10, 8]


def test_exif_orientation(tmp_path: pathlib.Path) -> None:
    pixels = np.zeros((4, 6), dtype=np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    values = read(str(tmp_path)).values
    assert values.shape == (1, 1, 6, 4)
    assert values[0, 0, 0, 3] == 255
    assert values.sum() == 255


def test_mixed_sizes_take_the_most_common_size(tmp_path: pathlib.Path) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.png", size=(8, 4))
    wide = np.zeros((4, 16), dtype=np.uint8)
    wide[:, 4:12] = 255  # the middle, which is kept
    Image.fromarray(wide).save(tmp_path / "wide.png")
    save(tmp_path / "z.png", size=(16, 8))
    data = read(str(tmp_path))
    assert data.modality == Images(4, 8, 1)
    assert (data.values[3] == 255).all()
    (note,) = data.notes
    assert all(size in note for size in ("2 of 5", "8x4", "16x4", "16x8"))


@pytest.mark.parametrize(("size", "to"), [(None, (64, 48)), (32, (32, 24)), (100, (100, 75)), (4, (4, 3))])
def test_large_images_keep_their_aspect_ratio(tmp_path: pathlib.Path, size: int | None, to: tuple[int, int]) -> None:
    save(tmp_path / "a.png", size=(80, 60))
    data = read(str(tmp_path), longest=size)
    assert data.modality == Images(to[1], to[0], 1)
    assert (data.values == 100).all()


def test_other_files_and_outside_links_are_skipped(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "in" / "x" / "a.png")
    save(tmp_path / "in" / "x" / "._a.png")
    save(tmp_path / "in" / "x" / "deep" / "a.png")
    (tmp_path / "in" / ".DS_Store").write_text("")
    (tmp_path / "in" / "read.me").write_text("")
    (tmp_path / "in" / "empty").mkdir()
    save(tmp_path / "secret.png")
    os.symlink(tmp_path / "secret.png", tmp_path / "in" / "x" / "b.png")
    os.symlink(tmp_path, tmp_path / "in" / "up")
    os.symlink(tmp_path / "in" / "x" / "a.png", tmp_path / "in" / "x" / "c.png")
    os.symlink(tmp_path / "in" / "x" / "loop.png", tmp_path / "in" / "x" / "loop.png")
    data = read(str(tmp_path / "in"))
    assert len(data) == 2
    assert data.modality.classes == ("x",)
    counts = [int(note.partition("(")[2].partition(")")[0]) for note in data.notes]
    assert sorted(counts) == [1, 1, 2, 2, 2]  # hidden, links, nested and others


def test_folders_without_images_and_images_beside_classes_are_refused(tmp_path: pathlib.Path) -> None:
    with refuses(InputError, file=str(tmp_path)):
        read(str(tmp_path))
    (tmp_path / "a.doc").write_text("")
    save(tmp_path / "x" / "y" / "a.png")
    with refuses(InputError, file=str(tmp_path)):
        read(str(tmp_path))
    save(tmp_path / "x" / "a.png")
    save(tmp_path / "b.png")
    with refuses(InputError, file=str(tmp_path)) as error:
        read(str(tmp_path))
    assert "b.png" in str(error.value)


def test_damaged_images_are_refused_and_ten_named(tmp_path: pathlib.Path) -> None:
    generator = np.random.default_rng(0)
    for i in range(14):
        Image.fromarray(generator.integers(0, 256, (9, 9), dtype=np.uint8)).save(tmp_path / f"{i:02}.png")
    whole = (tmp_path / "01.png").read_bytes()
    (tmp_path / "03.png").write_text("no picture")
    for damaged in (whole[: len(whole) // 2], b""):
        (tmp_path / "01.png").write_bytes(damaged)
        with refuses(InputError, file=str(tmp_path)) as error:
            read(str(tmp_path))
        assert [name in str(error.value) for name in ("01.png", "02.png", "03.png")] == [True, False, True]
    for i in range(2, 14):
        (tmp_path / f"{i:02}.png").write_text("no picture")
    with refuses(InputError, file=str(tmp_path)) as error:
        read(str(tmp_path))
    assert "13.png" not in str(error.value)


def test_floating_point_images_and_bombs_are_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "float" / "a.tif", "F", colour=0.5)
    save(tmp_path / "bomb" / "a.png", size=(40, 40))
    for folder, limit in (("float", 10**6), ("bomb", 1000), ("bomb", 100)):  # a warning of Pillow, then its error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with refuses(InputError, file=str(tmp_path / folder)):
            read(str(tmp_path / folder))


def test_animations_give_their_first_frame(tmp_path: pathlib.Path) -> None:
    frames = [Image.new("L", (4, 4), shade) for shade in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    data = read(str(tmp_path))
    assert (data.values == 10).all()
    assert len(data.notes) == 2


def test_class_names_that_are_not_utf8_are_refused(tmp_path: pathlib.Path) -> None:
    try:
        save(pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")) / "a.png")
    except OSError:
        pytest.skip("this disk refuses such names itself")
    with refuses(InputError, file=str(tmp_path)):
        read(str(tmp_path))


def test_files_are_opened_once_and_keep_their_order(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apart from the few files that determine the size."""
    for i in range(90):
        save(tmp_path / f"{i:02}.png", *(("RGB", (6, 4), (i, 0, i)) if i > 70 else ("L", (6, 4), i)))
    opened, own = [], Image.open
    monkeypatch.setattr(Image, "open", lambda source, **more: opened.append(source) or own(source, **more))
    values = read(str(tmp_path)).values
    assert values[:, 0, 0, 0].tolist() == values[:, 2, 3, 5].tolist() == [*range(90)]
    assert values[:, 1, 0, 0].tolist() == [i if i <= 70 else 0 for i in range(90)]
    files = [source for source in opened if isinstance(source, pathlib.Path)]
    assert len({*files}) == len(files)


def test_most_common_size_is_of_all_images(tmp_path: pathlib.Path) -> None:
    for i in range(80):
        size = (8, 4) if i < 36 else (5, 5)
        Image.fromarray(np.arange(size[0] * size[1], dtype=np.uint8).reshape(size[::-1])).save(tmp_path / f"{i:02}.png")
    data = read(str(tmp_path))
    assert data.modality == Images(5, 5, 1)
    assert (data.values[-1, 0].flatten() == torch.arange(25)).all()
    assert "36 of 80" in data.notes[0]


def test_coarse_jpeg_decoding_matches_full_decoding(tmp_path: pathlib.Path) -> None:
    """Levels of a JPEG reduced by 32 differ by at most two from those of a full decode."""
    smooth = 120 + 100 * np.sin(np.linspace(0, 9, 2048)[:, None] + np.linspace(0, 5, 2048))
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        truth = np.asarray(image.resize((64, 64), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(read(str(tmp_path)).values[0, 0].numpy().astype(int) - truth).max() <= 2


def idx(path: pathlib.Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4) for size in array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


PICTURES = np.arange(5 * 4 * 3).reshape(5, 4, 3) * 4


@pytest.mark.parametrize(("dot", "images_gz", "labels_gz"), [("-", "", ".gz"), (".", ".gz", "")])
def test_idx_labels_are_found(tmp_path: pathlib.Path, dot: str, images_gz: str, labels_gz: str) -> None:
    path = tmp_path / f"my-images{dot}idx3-ubyte{images_gz}"
    idx(path, PICTURES)
    idx(tmp_path / f"my-labels{dot}idx1-ubyte{labels_gz}", np.array([3, 10, 3, 7, 10]))
    for source in (path, tmp_path):
        data = read(str(source))
        assert data.modality == Images(4, 3, 1, 255, ("3", "7", "10"))
        assert data.given["label"].tolist() == [0, 2, 0, 1, 2]
        assert (data.values[:, 0].numpy() == PICTURES).all()
        assert data.notes == ()


def test_idx_training_file_is_chosen(tmp_path: pathlib.Path) -> None:
    idx(tmp_path / "train-images-idx3-ubyte", PICTURES)
    idx(tmp_path / "t10k-images-idx3-ubyte", PICTURES[:2])
    data = read(str(tmp_path))
    assert len(data) == 5
    assert all("train-images-idx3-ubyte" in note for note in data.notes)
    idx(tmp_path / "train2-images-idx3-ubyte", PICTURES)
    with refuses(InputError, file=str(tmp_path)):
        read(str(tmp_path))


def test_damaged_idx_files_are_refused(tmp_path: pathlib.Path) -> None:
    path, labels = tmp_path / "a-images-idx3-ubyte", tmp_path / "a-labels-idx1-ubyte"
    idx(path, PICTURES)
    idx(labels, np.zeros(4))
    with refuses(InputError, found="[4]"):
        read(str(path))
    labels.unlink()
    content = path.read_bytes()
    for damaged in (
        *(content[:-1], content + b"0", b"\0\0\x0d" + content[3:], content[:3]),
        gzip.compress(content)[:-9],
    ):
        path.write_bytes(damaged)
        with refuses(InputError, file=str(path)):
            read(str(path))
    idx(path, np.zeros((2, 0, 3)))
    with refuses(InputError, found="[2, 0, 3]"):
        read(str(path))


def test_idx_labels_alone_are_refused(tmp_path: pathlib.Path) -> None:
    idx(tmp_path / "a-labels-idx1-ubyte", np.zeros(4))
    with refuses(InputError, found="[4]"):
        read(str(tmp_path / "a-labels-idx1-ubyte"))

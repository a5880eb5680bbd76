"""Folders of pictures as people have them: mixed, turned, transparent, linked, damaged; and IDX files."""

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


def test_sub_folders_are_classes_in_order(tmp_path: pathlib.Path) -> None:
    for name, shade in (("dog", 30), ("cat", 20), ("ant", 10)):
        save(tmp_path / name / "1.png", colour=shade)
        save(tmp_path / name / "2.bmp", colour=shade)
    data = read(str(tmp_path))
    assert data.modality == Images(4, 4, 1, 255, ("ant", "cat", "dog"))
    assert data.given["label"].tolist() == [0, 0, 1, 1, 2, 2]
    assert data.values[:, 0, 0, 0].tolist() == [10, 10, 20, 20, 30, 30]
    assert data.notes == ()


@pytest.mark.parametrize("ending", ["png", "jpg", "jpeg", "bmp", "gif", "webp", "tif", "tiff", "PNG"])
def test_every_format(tmp_path: pathlib.Path, ending: str) -> None:
    save(tmp_path / f"a.{ending}", "RGB", colour=(200, 100, 50))
    pixel = read(str(tmp_path)).values[0, :, 0, 0].tolist()
    assert pixel == pytest.approx([200, 100, 50], abs=4)


def test_one_picture(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "a.png")
    data = read(str(tmp_path / "a.png"))
    assert len(data) == 1
    assert "single image" in data.notes[0]


def test_mixed_modes_become_one(tmp_path: pathlib.Path) -> None:
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
    assert "7 of 8 images were converted to RGB" in data.notes[0]
    assert "2 transparent ones composited on white" in data.notes[0]


def test_gray_of_any_depth_stays_gray(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "a.png", "I;16", colour=65535)
    save(tmp_path / "a2.png", "I;16", colour=257 * 10 - 100)
    save(tmp_path / "b.png", "1", colour=0)
    save(tmp_path / "c.png", "LA", colour=(10, 255))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 8, 8, 8])
    palette.save(tmp_path / "d.png", transparency=0)
    data = read(str(tmp_path))
    assert data.values[:, 0, 0, 0].tolist() == [255, 10, 0, 10, 8]


def test_orientation_is_honoured(tmp_path: pathlib.Path) -> None:
    pixels = np.zeros((4, 6), dtype=np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    values = read(str(tmp_path)).values
    assert values.shape == (1, 1, 6, 4)
    assert values[0, 0, 0, 3] == 255
    assert values.sum() == 255


def test_mixed_sizes_are_cropped_to_the_most_common(tmp_path: pathlib.Path) -> None:
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
    assert "2 of 5 images were resized to 8x4" in note
    assert "1 of 16x4" in note
    assert "1 of 16x8" in note
    assert "1 of them cropped" in note


@pytest.mark.parametrize(("size", "to"), [(None, (64, 48)), (32, (32, 24)), (100, (100, 75)), (4, (4, 3))])
def test_large_pictures_keep_their_aspect(tmp_path: pathlib.Path, size: int | None, to: tuple[int, int]) -> None:
    save(tmp_path / "a.png", size=(80, 60))
    data = read(str(tmp_path), longest=size)
    assert data.modality == Images(to[1], to[0], 1)
    assert data.notes == (f"1 of 1 images were resized to {to[0]}x{to[1]} (1 of 80x60)",)
    assert (data.values == 100).all()


def test_what_is_no_picture_is_skipped_and_counted(tmp_path: pathlib.Path) -> None:
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
    assert sorted(data.notes) == [
        "skipped files that are not images (2)",  # one of them a link to itself
        "skipped hidden files (2)",
        "skipped links that point outside the folder (2)",
        "skipped nested subfolders (1)",
        "skipped subfolders without images (1)",
    ]


def test_loose_pictures_beside_classes_are_refused(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "x" / "a.png")
    save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"1 images \(b.png, ...\) are outside the subfolders of the 1 classes"):
        read(str(tmp_path))


def test_nothing_to_read_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="the folder is empty"):
        read(str(tmp_path))
    (tmp_path / "a.doc").write_text("")
    save(tmp_path / "x" / "y" / "a.png")
    with pytest.raises(InputError, match=r"found none \(skipped files.* \(1\); skipped nested subfolders"):
        read(str(tmp_path))


def test_damaged_pictures_are_counted_and_ten_are_named(tmp_path: pathlib.Path) -> None:
    generator = np.random.default_rng(0)
    for name in "abcd":
        Image.fromarray(generator.integers(0, 256, (9, 9), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "d.png").write_text("no picture")
    with pytest.raises(InputError, match=r"2 of 4 images cannot be read: .*b\.png \(.*d\.png \(.*\)\. Replace"):
        read(str(tmp_path))
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"2 of 4 images cannot be read: .*b\.png \(.*d\.png \(.*\)\. Replace"):
        read(str(tmp_path))


def test_bombs_are_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.png", size=(40, 40))
    for limit in (1000, 100):  # a warning of Pillow, then its error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(InputError, match=r"1 of 1 images cannot be read.*bomb"):
            read(str(tmp_path))


def test_real_numbers_are_no_picture(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "a.tif", "F", colour=0.5)
    with pytest.raises(InputError, match="expected 8 or 16 bits per pixel"):
        read(str(tmp_path))


def test_moving_pictures_give_their_first_frame(tmp_path: pathlib.Path) -> None:
    frames = [Image.new("L", (4, 4), shade) for shade in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    data = read(str(tmp_path))
    assert (data.values == 10).all()
    assert data.notes[-1] == "only the first frame of 1 multi-frame images was used"


def test_names_that_are_no_text_are_refused(tmp_path: pathlib.Path) -> None:
    try:
        save(pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")) / "a.png")
    except OSError:
        pytest.skip("this disk refuses such names itself")
    with pytest.raises(InputError, match=r"not UTF-8\. Rename"):
        read(str(tmp_path))


def test_of_many_damaged_pictures_ten_are_named(tmp_path: pathlib.Path) -> None:
    for i in range(12):
        (tmp_path / f"{i:02}.png").write_text("no picture")
    with pytest.raises(InputError, match=r"12 of 12 images cannot be read: .*09\.png.*, \.\.\.\. Replace") as caught:
        read(str(tmp_path))
    assert "10.png" not in str(caught.value)


def test_each_file_is_opened_once_and_order_is_kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the few that tell the size, of which the file is held; gray and colour, many at a time."""
    for i in range(90):
        save(tmp_path / f"{i:02}.png", *(("RGB", (6, 4), (i, 0, i)) if i > 70 else ("L", (6, 4), i)))
    opened, own = [], Image.open
    monkeypatch.setattr(Image, "open", lambda source, **more: opened.append(source) or own(source, **more))
    values = read(str(tmp_path)).values
    assert values[:, 0, 0, 0].tolist() == values[:, 2, 3, 5].tolist() == [*range(90)]
    assert values[:, 1, 0, 0].tolist() == [i if i <= 70 else 0 for i in range(90)]
    files = [source for source in opened if isinstance(source, pathlib.Path)]
    assert len({*files}) == len(files)


def test_first_pictures_of_another_size_than_most_mislead_nobody(tmp_path: pathlib.Path) -> None:
    for i in range(80):
        size = (8, 4) if i < 36 else (5, 5)
        Image.fromarray(np.arange(size[0] * size[1], dtype=np.uint8).reshape(size[::-1])).save(tmp_path / f"{i:02}.png")
    data = read(str(tmp_path))
    assert data.modality == Images(5, 5, 1)
    assert (data.values[-1, 0].flatten() == torch.arange(25)).all()
    assert "36 of 80 images were resized to 5x5" in data.notes[0]


def test_large_photographs_are_decoded_coarsely_and_look_the_same(tmp_path: pathlib.Path) -> None:
    """A JPEG of 32 times the size that is wanted: levels differ by two at most from those of all its pixels."""
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


@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("images_gz", ["", ".gz"])
@pytest.mark.parametrize("labels_gz", ["", ".gz"])
def test_labels_are_found_beside(tmp_path: pathlib.Path, dot: str, images_gz: str, labels_gz: str) -> None:
    path = tmp_path / f"my-images{dot}idx3-ubyte{images_gz}"
    idx(path, PICTURES)
    idx(tmp_path / f"my-labels{dot}idx1-ubyte{labels_gz}", np.array([3, 10, 3, 7, 10]))
    for source in (path, tmp_path):
        data = read(str(source))
        assert data.modality == Images(4, 3, 1, 255, ("3", "7", "10"))
        assert data.given["label"].tolist() == [0, 2, 0, 1, 2]
        assert (data.values[:, 0].numpy() == PICTURES).all()
        assert data.notes == ()


def test_train_is_taken_and_told(tmp_path: pathlib.Path) -> None:
    idx(tmp_path / "train-images-idx3-ubyte", PICTURES)
    idx(tmp_path / "t10k-images-idx3-ubyte", PICTURES[:2])
    data = read(str(tmp_path))
    assert len(data) == 5
    assert data.notes[0].startswith("using train-images-idx3-ubyte, out of t10k-images-idx3-ubyte, train-")
    assert data.notes[1] == "no labels file found for train-images-idx3-ubyte"
    idx(tmp_path / "train2-images-idx3-ubyte", PICTURES)
    with pytest.raises(InputError, match="expected a single file of images"):
        read(str(tmp_path))


def test_damaged_files_are_refused(tmp_path: pathlib.Path) -> None:
    path, labels = tmp_path / "a-images-idx3-ubyte", tmp_path / "a-labels-idx1-ubyte"
    idx(path, PICTURES)
    idx(labels, np.zeros(4))
    with refuses(InputError, found="[4]"):
        read(str(path))
    labels.unlink()
    content = path.read_bytes()
    for damaged, said in (
        (content[:-1], r"59 .*\(5,4,3\)"),
        (content + b"0", r"61 .*\(5,4,3\)"),
        (b"\0\0\x0d" + content[3:], "IDX file of bytes"),
        (content[:3], "damaged or truncated"),
        (gzip.compress(content)[:-9], "damaged or truncated"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=said):
            read(str(path))
    idx(path, np.zeros((2, 0, 3)))
    with refuses(InputError, found="[2, 0, 3]"):
        read(str(path))


def test_a_file_of_labels_is_no_data(tmp_path: pathlib.Path) -> None:
    idx(tmp_path / "a-labels-idx1-ubyte", np.zeros(4))
    with pytest.raises(InputError, match="expected images"):
        read(str(tmp_path / "a-labels-idx1-ubyte"))

"""White level of private images, from the dtype and not from pixels."""

import numpy as np
import pytest
from PIL import Image

from feller.app.workflows.private.probe_rows import white_level, with_white_level
from feller.core.errors import InputError
from feller.data.images.image_resizing import resize_arrays
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from tests.errors import refuses


def written(path, values, **more):
    np.savez(path, samples=values, **more)  # pyrefly: ignore
    return str(path)


def levels(data):
    return with_white_level(read(data), data, None).modality.levels


@pytest.mark.parametrize(("kind", "white"), [("uint8", 255), ("bool", 1)])
def test_white_level_does_not_depend_on_a_pixel(tmp_path, kind, white):
    """Without privacy a largest value of 1 to 16 is taken for white."""
    dark = np.zeros((12, 4, 4), dtype=kind)
    dark[:, 0, 0] = 1
    bright = dark.copy()
    bright[3, 2, 2] = np.array(200).astype(kind)
    assert [levels(written(tmp_path / "a.npz", values)) for values in (dark, bright)] == [white, white]
    np.savez(tmp_path / "b.npz", labels=np.arange(12) % 2, mine=dark)
    assert levels(str(tmp_path / "b.npz")) == white


@pytest.mark.parametrize("kind", ["uint16", "int64", "float32"])
def test_dtypes_without_a_white_level(tmp_path, kind):
    values = np.ones((12, 4, 4), dtype=kind)
    with refuses(InputError, file=str(tmp_path / "a.npz")):
        white_level(written(tmp_path / "a.npz", values), None)
    assert levels(written(tmp_path / "b.npz", values, levels=np.array(100))) == 100


def test_white_level_of_the_start(tmp_path):
    data = written(tmp_path / "a.npz", np.ones((12, 4, 4), dtype=np.uint8))
    assert white_level(data, Images(4, 4, 1, 255)) == 255
    with refuses(InputError, file=data):
        white_level(data, Images(4, 4, 1, 16))


def test_other_data_have_no_white_level(tmp_path):
    assert white_level(written(tmp_path / "a.npz", np.ones((12, 4))), None) is None
    assert white_level("example:digits", None) is None


@pytest.mark.parametrize(("size", "mode"), [((5, 4), "L"), ((4, 4), "RGB")])
def test_folder_of_images_of_two_sizes_or_modes(tmp_path, size, mode):
    for number in range(12):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number}.png")
    assert levels(str(tmp_path)) == 255
    Image.new(mode, size, 7).save(tmp_path / "odd.png")
    with refuses(InputError):
        white_level(str(tmp_path), None)


def test_resizing_does_not_depend_on_other_images():
    dark = np.tile(np.array([[0, 9], [9, 0]], dtype=np.uint8), (2, 8, 8))[..., None]
    dark[0, :9] = 9
    bright = np.concatenate([dark, np.full((1, 16, 16, 1), 255, dtype=np.uint8)])
    assert (resize_arrays(bright, 5, None)[0][:2] == resize_arrays(dark, 5, None)[0]).all()
    assert resize_arrays(dark, 5, None)[0].max() <= 9

"""White of private pictures follows from types and words, and no pixel moves how others are read."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from feller.app.workflows.private.probe_rows import white_level, with_white_level
from feller.core.errors import InputError
from feller.data.images.image_resizing import resize_arrays
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read


def written(path: pathlib.Path, values: np.ndarray, **more: np.ndarray) -> str:
    np.savez(path, samples=values, **more)  # pyrefly: ignore
    return str(path)


def levels(data: str) -> int:
    found = with_white_level(read(data), data, None)
    assert isinstance(found.modality, Images)
    return found.modality.levels


@pytest.mark.parametrize(("kind", "white"), [("uint8", 255), ("bool", 1)])
def test_one_pixel_does_not_move_white(tmp_path: pathlib.Path, kind: str, white: int) -> None:
    """Without privacy a largest value of 1 to 16 is taken for white."""
    dark = np.zeros((12, 4, 4), dtype=kind)
    dark[:, 0, 0] = 1
    bright = dark.copy()
    bright[3, 2, 2] = np.array(200).astype(kind)
    assert [levels(written(tmp_path / "a.npz", values)) for values in (dark, bright)] == [white, white]
    np.savez(tmp_path / "b.npz", labels=np.arange(12) % 2, mine=dark)
    assert levels(str(tmp_path / "b.npz")) == white


@pytest.mark.parametrize("kind", ["uint16", "int64", "float32"])
def test_types_that_do_not_say_white_are_refused_unless_the_file_does(tmp_path: pathlib.Path, kind: str) -> None:
    values = np.ones((12, 4, 4), dtype=kind)
    with pytest.raises(InputError, match=f"{kind} does not define it"):
        white_level(written(tmp_path / "a.npz", values), None)
    assert levels(written(tmp_path / "b.npz", values, levels=np.array(100))) == 100


def test_pictures_of_an_older_model_have_its_white_or_are_refused(tmp_path: pathlib.Path) -> None:
    data = written(tmp_path / "a.npz", np.ones((12, 4, 4), dtype=np.uint8))
    assert white_level(data, Images(4, 4, 1, 255)) == 255
    with pytest.raises(InputError, match="must not infer"):
        white_level(data, Images(4, 4, 1, 16))


def test_what_is_no_picture_has_no_white(tmp_path: pathlib.Path) -> None:
    assert white_level(written(tmp_path / "a.npz", np.ones((12, 4))), None) is None
    assert white_level("example:digits", None) is None


@pytest.mark.parametrize(("size", "mode"), [((5, 4), "L"), ((4, 4), "RGB")])
def test_a_folder_in_which_one_picture_decides_for_others_is_refused(tmp_path, size, mode):
    for number in range(12):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number}.png")
    assert levels(str(tmp_path)) == 255
    Image.new(mode, size, 7).save(tmp_path / "odd.png")
    with pytest.raises(InputError, match="images of the same size and mode"):
        white_level(str(tmp_path), None)


def test_a_bright_picture_does_not_move_how_others_are_made_smaller() -> None:
    dark = np.tile(np.array([[0, 9], [9, 0]], dtype=np.uint8), (2, 8, 8))[..., None]
    dark[0, :9] = 9
    bright = np.concatenate([dark, np.full((1, 16, 16, 1), 255, dtype=np.uint8)])
    assert (resize_arrays(bright, 5, None)[0][:2] == resize_arrays(dark, 5, None)[0]).all()
    assert resize_arrays(dark, 5, None)[0].max() <= 9

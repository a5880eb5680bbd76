"""NumPy's files: which array is meant, and that no pickle is ever opened."""

import pathlib

import numpy as np
import pytest

from feller.core.errors import InputError
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.points.euclidean_points import Points


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_pickles_are_never_opened(tmp_path: pathlib.Path, ending: str) -> None:
    trace, path = tmp_path / "trace", tmp_path / f"bomb.{ending}"
    objects = np.array([[Bomb(trace)]], dtype=object)
    if ending == "npy":
        np.save(path, objects, allow_pickle=True)
    else:
        np.savez(path, samples=np.zeros((2, 2)), labels=objects)
    with pytest.raises(InputError, match="numeric arrays"):
        read(str(path))
    assert not trace.exists()
    np.load(path, allow_pickle=True)["labels" if ending == "npz" else ...]
    assert trace.exists()  # the bomb works


def test_bare_pickles_are_refused(tmp_path: pathlib.Path) -> None:
    import pickle

    trace, path = tmp_path / "trace", tmp_path / "bomb.npy"
    path.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(InputError, match="numeric arrays"):
        read(str(path))
    assert not trace.exists()


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_nobody_is_told_to_open_what_is_no_array(tmp_path: pathlib.Path, ending: str) -> None:
    path = tmp_path / f"notes.{ending}"
    path.write_text("no numbers")
    with pytest.raises(InputError, match=r"damaged, or contains Python objects\)") as refused:
        read(str(path))
    assert "pickle" not in str(refused.value)


@pytest.mark.parametrize("name", ["samples", "images", "x", "X", "anything"])
def test_points_by_name(tmp_path: pathlib.Path, name: str) -> None:
    np.savez(tmp_path / "a.npz", **{name: np.array([[1, 2], [3, 4]], dtype=">i4"), "y": np.array([7.0, 5.0])})
    data = read(str(tmp_path / "a.npz"))
    assert isinstance(data.modality, Points)
    assert data.modality.columns == ("x1", "x2")
    assert data.values.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert data.modality.classes == ("5", "7")
    assert data.given["label"].tolist() == [1, 0]


def test_labels_with_names(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "a.npz", samples=np.ones((3, 1)), labels=[2, 0, 2], classes=["b", "a", "c"])
    data = read(str(tmp_path / "a.npz"))
    assert data.modality.conditions == {"label": ("b", "a", "c")}
    assert data.given["label"].tolist() == [2, 0, 2]


@pytest.mark.parametrize(
    ("array", "channels", "levels"),
    [
        (np.full((2, 5, 4), 200, dtype=np.uint8), 1, 255),
        (np.full((2, 5, 4, 1), 17.0), 1, 255),
        (np.full((2, 5, 4, 3), 255, dtype=np.int64), 3, 255),
        (np.eye(4, dtype=bool)[None], 1, 1),
        (np.full((2, 5, 4), 16, dtype=np.float16), 1, 16),
    ],
)
def test_pictures_by_shape(tmp_path: pathlib.Path, array: np.ndarray, channels: int, levels: int) -> None:
    np.save(tmp_path / "a.npy", array)
    data = read(str(tmp_path / "a.npy"))
    assert data.modality == Images(array.shape[1], array.shape[2], channels, levels)
    assert (data.values.permute(0, 2, 3, 1).numpy().reshape(array.shape) == array).all()
    assert bool(data.notes) == (levels < 255)


def test_transparent_pictures_are_laid_on_white(tmp_path: pathlib.Path) -> None:
    array = np.zeros((1, 1, 3, 4), dtype=np.uint8)
    array[0, 0, :, 3] = 0, 51, 255
    np.save(tmp_path / "a.npy", array)
    data = read(str(tmp_path / "a.npy"))
    assert data.values[0, 0, 0].tolist() == [255, 204, 0]
    assert "white" in data.notes[0]


def test_large_pictures_are_resized_within_their_levels(tmp_path: pathlib.Path) -> None:
    board = np.kron(np.indices((10, 16)).sum(0) % 2, np.ones((10, 10)))
    np.savez(tmp_path / "a.npz", images=np.stack([board * 10] * 3), levels=10)
    data = read(str(tmp_path / "a.npz"))
    assert data.modality == Images(40, 64, 1, 10)
    assert data.values.max() == 10
    assert data.notes == ("3 of 3 images were resized to 64x40 (3 of 160x100)",)
    assert read(str(tmp_path / "a.npz"), longest=8).modality == Images(5, 8, 1, 10)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": np.ones((2, 2)), "b": np.ones((2, 2))}, "an array named samples; found a, b"),
        ({"labels": np.ones(2)}, "an array named samples; found labels"),
        ({"x": np.ones(5)}, r"points \[n, d\] or images"),
        ({"x": np.ones((0, 2))}, r"found \[0, 2\]"),
        ({"x": np.ones((2, 0))}, r"found \[2, 0\]"),
        ({"x": np.ones((2, 2), dtype=complex)}, "of complex128"),
        ({"x": np.array([["a", "b"]])}, "of <U1"),
        ({"x": np.array([[1.0, 2.0], [3.0, np.nan]])}, "row 2, column 2 is nan"),
        ({"x": np.ones((2, 2)), "y": np.ones(3)}, "expected 2 y, one per example"),
        ({"x": np.ones((2, 2)), "y": np.array([0.5, 1])}, "strings or integers"),
        ({"x": np.ones((2, 2)), "y": np.array([0, 2]), "classes": ["a", "b"]}, "from 0 to 1"),
        ({"x": np.ones((2, 2)), "y": np.array([0, 1]), "classes": ["a", "a"]}, "distinct strings in classes"),
        ({"x": np.ones((2, 2)), "columns": ["a"]}, "expected 2 column names"),
        ({"x": np.ones((2, 2)), "columns": ["label", "b"]}, "'label' is reserved"),
        ({"x": np.full((2, 4, 4), 0.5)}, "integers from 0 to 255"),
        ({"x": np.full((2, 4, 4), 256)}, "integers from 0 to 255"),
        ({"x": np.full((2, 4, 4), -1)}, "integers from 0 to 255"),
        ({"x": np.full((2, 4, 4), np.nan)}, "integers from 0 to 255"),
        ({"x": np.ones((2, 3, 8, 8))}, "Move the channels to the end"),
        ({"x": np.ones((32, 32, 3))}, "single colour image"),
        ({"x": np.full((1, 4, 4), 9), "levels": 8}, "levels with the value of white, one number from 9 to 255"),
    ],
)
def test_refused_in_one_line(tmp_path: pathlib.Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=said) as caught:
        read(str(tmp_path / "a.npz"))
    assert "\n" not in str(caught.value)
    assert "a.npz" in str(caught.value)

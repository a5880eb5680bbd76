"""NumPy files: arrays by name, and refusal of pickles."""

import pathlib

import numpy as np
import pytest

from feller.core.errors import InputError
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.points.euclidean_points import Points
from tests.errors import refuses


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_pickled_arrays_are_never_loaded(tmp_path: pathlib.Path, ending: str) -> None:
    marker, path = tmp_path / "marker", tmp_path / f"bomb.{ending}"
    objects = np.array([[Bomb(marker)]], dtype=object)
    if ending == "npy":
        np.save(path, objects, allow_pickle=True)
    else:
        np.savez(path, samples=np.zeros((2, 2)), labels=objects)
    with refuses(InputError, file=str(path)):
        read(str(path))
    assert not marker.exists()
    np.load(path, allow_pickle=True)["labels" if ending == "npz" else ...]
    assert marker.exists()  # the bomb works


def test_bare_pickles_are_refused(tmp_path: pathlib.Path) -> None:
    import pickle

    marker, path = tmp_path / "marker", tmp_path / "bomb.npy"
    path.write_bytes(pickle.dumps(Bomb(marker)))
    with refuses(InputError, file=str(path)):
        read(str(path))
    assert not marker.exists()


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_errors_do_not_suggest_pickle(tmp_path: pathlib.Path, ending: str) -> None:
    path = tmp_path / f"notes.{ending}"
    path.write_text("no numbers")
    with refuses(InputError, file=str(path)) as caught:
        read(str(path))
    assert "pickle" not in str(caught.value)


@pytest.mark.parametrize("name", ["samples", "images", "x", "X", "anything"])
def test_array_of_points(tmp_path: pathlib.Path, name: str) -> None:
    np.savez(tmp_path / "a.npz", **{name: np.array([[1, 2], [3, 4]], dtype=">i4"), "y": np.array([7.0, 5.0])})
    data = read(str(tmp_path / "a.npz"))
    assert isinstance(data.modality, Points)
    assert data.modality.columns == ("x1", "x2")
    assert data.values.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert data.modality.classes == ("5", "7")
    assert data.given["label"].tolist() == [1, 0]


def test_labels_and_classes(tmp_path: pathlib.Path) -> None:
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
def test_array_of_images(tmp_path: pathlib.Path, array: np.ndarray, channels: int, levels: int) -> None:
    np.save(tmp_path / "a.npy", array)
    data = read(str(tmp_path / "a.npy"))
    assert data.modality == Images(array.shape[1], array.shape[2], channels, levels)
    assert (data.values.permute(0, 2, 3, 1).numpy().reshape(array.shape) == array).all()
    assert bool(data.notes) == (levels < 255)


def test_transparency_becomes_white(tmp_path: pathlib.Path) -> None:
    array = np.zeros((1, 1, 3, 4), dtype=np.uint8)
    array[0, 0, :, 3] = 0, 51, 255
    np.save(tmp_path / "a.npy", array)
    data = read(str(tmp_path / "a.npy"))
    assert data.values[0, 0, 0].tolist() == [255, 204, 0]
    assert "white" in data.notes[0]


def test_large_images_are_resized_within_levels(tmp_path: pathlib.Path) -> None:
    board = np.kron(np.indices((10, 16)).sum(0) % 2, np.ones((10, 10)))
    np.savez(tmp_path / "a.npz", images=np.stack([board * 10] * 3), levels=10)
    data = read(str(tmp_path / "a.npz"))
    assert data.modality == Images(40, 64, 1, 10)
    assert data.values.max() == 10
    assert len(data.notes) == 1
    assert read(str(tmp_path / "a.npz"), longest=8).modality == Images(5, 8, 1, 10)


INVALID_ARRAYS: list[tuple[dict[str, object], str | None]] = [
    ({"a": np.ones((2, 2)), "b": np.ones((2, 2))}, "a, b"),
    ({"labels": np.ones(2)}, "labels"),
    ({"x": np.ones(5)}, "[5] of float64"),
    ({"x": np.ones((0, 2))}, "an empty array [0, 2]"),
    ({"x": np.ones((2, 0))}, "an empty array [2, 0]"),
    ({"x": np.ones((2, 2), dtype=complex)}, "[2, 2] of complex128"),
    ({"x": np.array([["a", "b"]])}, "[1, 2] of <U1"),
    ({"x": np.array([[1.0, 2.0], [3.0, np.nan]])}, None),
    ({"x": np.ones((2, 2)), "y": np.ones(3)}, "an array [3]"),
    ({"x": np.ones((2, 2)), "y": np.array([0.5, 1])}, "float64"),
    ({"x": np.ones((2, 2)), "y": np.array([0, 2]), "classes": ["a", "b"]}, "0 to 2"),
    ({"x": np.ones((2, 2)), "y": np.array([0, 1]), "classes": ["a", "a"]}, "a, a"),
    ({"x": np.ones((2, 2)), "columns": ["a"]}, "1"),
    ({"x": np.ones((2, 2)), "columns": ["label", "b"]}, None),
    ({"x": np.full((2, 4, 4), 0.5)}, "the constant 0.5"),
    ({"x": np.full((2, 4, 4), 256)}, "int64 from 256 to 256"),
    ({"x": np.full((2, 4, 4), -1)}, "int64 from -1 to -1"),
    ({"x": np.full((2, 4, 4), np.nan)}, "only missing entries"),
    ({"x": np.ones((2, 3, 8, 8))}, "[2, 3, 8, 8]"),
    ({"x": np.ones((32, 32, 3))}, None),
    ({"x": np.full((1, 4, 4), 9), "levels": 8}, None),
]


@pytest.mark.parametrize(("arrays", "found"), INVALID_ARRAYS, ids=range(len(INVALID_ARRAYS)))
def test_invalid_arrays_are_refused(tmp_path: pathlib.Path, arrays: dict[str, np.ndarray], found: str | None) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with refuses(InputError, file=str(tmp_path / "a.npz"), found=found):
        read(str(tmp_path / "a.npz"))

"""IDX files: pairs by name, packed or not."""

import gzip
import pathlib

import numpy as np
import pytest

from feller.core.errors import InputError
from feller.data.images.modality import Images
from feller.data.loading.read import read


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
    assert data.notes[0].startswith("train-images-idx3-ubyte was taken, of t10k-images-idx3-ubyte, train-")
    assert data.notes[1] == "no file of labels lies beside train-images-idx3-ubyte"
    idx(tmp_path / "train2-images-idx3-ubyte", PICTURES)
    with pytest.raises(InputError, match="expected one file of pictures or one called train"):
        read(str(tmp_path))


def test_damaged_files_are_refused(tmp_path: pathlib.Path) -> None:
    path, labels = tmp_path / "a-images-idx3-ubyte", tmp_path / "a-labels-idx1-ubyte"
    idx(path, PICTURES)
    idx(labels, np.zeros(4))
    with pytest.raises(InputError, match=r"expected 5 labels, one per picture, got \[4\]"):
        read(str(path))
    labels.unlink()
    content = path.read_bytes()
    for damaged, said in (
        (content[:-1], r"59 .*\(5,4,3\)"),
        (content + b"0", r"61 .*\(5,4,3\)"),
        (b"\0\0\x0d" + content[3:], "IDX file of bytes"),
        (content[:3], "damaged or cut off"),
        (gzip.compress(content)[:-9], "damaged or cut off"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=said):
            read(str(path))
    idx(path, np.zeros((2, 0, 3)))
    with pytest.raises(InputError, match=r"expected pictures .* got \[2, 0, 3\]"):
        read(str(path))


def test_a_file_of_labels_is_no_data(tmp_path: pathlib.Path) -> None:
    idx(tmp_path / "a-labels-idx1-ubyte", np.zeros(4))
    with pytest.raises(InputError, match="expected pictures"):
        read(str(tmp_path / "a-labels-idx1-ubyte"))

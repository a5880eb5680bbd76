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

from feller.data import Dataset, Images, read
from feller.data.read import EXAMPLE
from feller.draws import Draws
from feller.errors import InputError, UsageError


def test_missing_and_unknown(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match=r"expected a file or a folder at .*nowhere, found none"):
        read(str(tmp_path / "nowhere"))
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(InputError, match=r"cannot tell what it is by its ending; expected \.csv"):
        read(str(tmp_path / "a.docx"))
    (tmp_path / "a.npz").write_text("")
    with pytest.raises(InputError, match="the file is empty"):
        read(str(tmp_path / "a.npz"))


def test_examples_are_named() -> None:
    with pytest.raises(UsageError, match="no example 'digit': did you mean 'digits'"):
        read(f"{EXAMPLE}digit")
    with pytest.raises(UsageError, match="no part 'tset': did you mean 'test'"):
        read(f"{EXAMPLE}digits/tset")
    assert len(read(f"{EXAMPLE}digits/train")) == len(read(f"{EXAMPLE}digits"))


def test_size_applies_to_pictures_only() -> None:
    assert read(f"{EXAMPLE}digits/test", size=4).modality == Images(4, 4, 1, 16, tuple("0123456789"))
    with pytest.raises(UsageError, match="holds points, which have no size"):
        read(f"{EXAMPLE}moons", size=4)
    with pytest.raises(UsageError, match="at least 1, got 0"):
        read(f"{EXAMPLE}digits", size=0)


def test_an_example_like_a_model_is_itself() -> None:
    for name in ("digits", "moons"):
        own = read(f"{EXAMPLE}{name}/test")
        like = read(f"{EXAMPLE}{name}/test", like=own.modality)
        assert torch.equal(own.values, like.values)
        assert like.modality is own.modality
        assert all(torch.equal(own.given[key], like.given[key]) for key in own.given)


def test_subset_keeps_conditions_beside_values() -> None:
    data = read(f"{EXAMPLE}digits/test")
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
    reference = data.modality.space().reference(len(data), Draws(0).at("x"))
    assert state.shape == reference.shape
    assert torch.isfinite(state).all()
    for key, classes in data.modality.conditions.items():
        assert data.given[key].shape == (len(data),)
        assert 0 <= data.given[key].min() <= data.given[key].max() < len(classes)

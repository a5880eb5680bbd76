"""Conditions of images: captions in a table, in text files and in file names, and folders of other images."""

import dataclasses
import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from feller.core.errors import InputError, UsageError
from feller.data.conditions.categories import CategoryCondition
from feller.data.conditions.image_condition import ImageCondition
from feller.data.conditions.numbers import NumberCondition
from feller.data.conditions.texts import TextCondition
from feller.data.loading.condition_sources import MAX_NOISE
from feller.data.loading.dataset_reader import read
from feller.data.loading.sample_reader import read_samples
from tests.errors import refuses

NAMES = ("red_car-1", "red-car-02", "blue bike")


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> pathlib.Path:
    """Three images, with a table of their captions, prices and colours."""
    folder = tmp_path / "photos"
    for name, side in (("photos", 4), ("small", 2)):
        (tmp_path / name).mkdir()
        for i, stem in enumerate(NAMES):
            suffix = "png" if name == "photos" else "bmp"
            Image.fromarray(np.full((side, side), 60 * i, dtype=np.uint8)).save(tmp_path / name / f"{stem}.{suffix}")
    rows = ["blue bike.png,blue bike,7,blue", "red-car-02.png,a red car,,red", "red_car-1.png,car,9.5,red", "x.png,,,"]
    (folder / "captions.csv").write_text("\n".join(["file,caption,price,colour", *rows]) + "\n")
    return folder


def test_columns_of_captions_are_conditions(photos: pathlib.Path) -> None:
    data = read(photos, condition=("caption", "price", "colour"))
    kinds = data.modality.selected_conditions
    assert [type(kind) for kind in kinds.values()] == [TextCondition, NumberCondition, CategoryCondition]
    assert kinds["caption"].decode(data.given["caption"]).tolist() == ["blue bike", "a red car", "car"]
    assert data.given["price"].nan_to_num(-1).tolist() == [7, -1, 9.5]


def test_captions_in_file_names_and_text_files(photos: pathlib.Path) -> None:
    (photos / "captions.csv").unlink()
    data = read(photos, condition=("caption",))
    decode = data.modality.selected_conditions["caption"].decode
    assert decode(data.given["caption"]).tolist() == ["blue bike", "red car", "red car"]
    (photos / "blue bike.txt").write_text("a bike\nthat is blue\n")
    data = read(photos, condition=("caption",))
    assert data.modality.selected_conditions["caption"].decode(data.given["caption"])[0] == "a bike that is blue"


def test_images_of_a_second_folder(photos: pathlib.Path) -> None:
    data = read(photos, condition=("small",))
    assert data.modality.selected_conditions == {"small": ImageCondition(1, 2, 2)}
    pixels = data.modality.selected_conditions["small"].decode(data.given["small"])
    assert pixels[:, 0, 0, 0].tolist() == [120, 60, 0]
    (photos.parent / "small" / "blue bike.bmp").unlink()
    with refuses(InputError, file=str(photos.parent / "small")):
        read(photos, condition=("small",))


def test_shrunk_images_are_those_of_a_smaller_read(photos: pathlib.Path) -> None:
    data = read(photos, condition=("tiny=2",))
    kind = data.modality.selected_conditions["tiny"]
    assert kind == ImageCondition(1, 2, 2, noise=MAX_NOISE)
    assert (kind.decode(data.given["tiny"]) == read(photos, longest=2).numpy()[..., None]).all()
    again = read(photos, like=data.modality)
    assert torch.equal(again.given["tiny"], data.given["tiny"])
    for wrong in ("tiny=4", "tiny=0"):
        with refuses(UsageError, argument="tiny"):
            read(photos, condition=(wrong,))


def test_rows_of_an_array_file(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    vectors = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / "v.npy", vectors)
    data = read(photos, condition=(f"meaning={tmp_path / 'v.npy'}",))
    assert data.given["meaning"].tolist() == vectors.tolist()
    np.save(tmp_path / "v.npy", vectors[:2])
    with refuses(InputError, argument="meaning", file=str(tmp_path / "v.npy")):
        read(photos, condition=(f"meaning={tmp_path / 'v.npy'}",))
    with refuses(UsageError, argument="condition"):
        read(photos, condition=("caption=missing",))


def test_wrong_names_and_missing_rows_are_refused(photos: pathlib.Path) -> None:
    with refuses(UsageError, argument="condition") as caught:
        read(photos, condition=("prise",))
    assert "price" in str(caught.value)
    with refuses(UsageError, argument="condition"):
        read(photos, condition=("../photos",))
    (photos / "captions.csv").write_text("file,caption\nblue bike.png,a\n")
    with refuses(InputError, file=str(photos / "captions.csv")):
        read(photos, condition=("caption",))
    (photos / "captions.csv").write_text("name,caption\nblue bike.png,a\n")
    with refuses(InputError, file=str(photos / "captions.csv")):
        read(photos, condition=("caption",))


@pytest.mark.parametrize("out", ["a.npz", "folder"])
def test_samples_keep_their_conditions(photos: pathlib.Path, tmp_path: pathlib.Path, out: str) -> None:
    data = read(photos, condition=("caption", "price", "colour"))
    data.modality.write(data.values, data.given, tmp_path / out)
    data.modality.write(data.values, data.given, tmp_path / out)  # the same folder again
    values, given = read_samples(tmp_path / out, data.modality)
    assert torch.equal(values, data.values)
    for name, value in data.given.items():
        torch.testing.assert_close(given[name], value, rtol=0, atol=0, equal_nan=True)
    null = {name: kind.null_values(3) for name, kind in data.modality.selected_conditions.items()}
    data.modality.write(data.values, null, tmp_path / out)
    assert read_samples(tmp_path / out, data.modality)[1] == {}


def test_image_conditions_in_arrays(tmp_path: pathlib.Path) -> None:
    small = np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3)
    images = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
    np.savez(tmp_path / "a.npz", samples=images, small=small)
    data = read(tmp_path / "a.npz", condition=("small",))
    data.modality.write(data.values, data.given, tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as arrays:
        assert (arrays["small"] == small).all()
    assert dataclasses.replace(data.modality, selected_conditions={}).shape == (1, 4, 4)

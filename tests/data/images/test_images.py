"""Images, and images with labels as one state."""

import pathlib
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.files.sample_folder import LETTER, ROOM
from feller.data.images.labelled_images import LabelledImages
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.loading.sample_reader import condition_leaf, read_samples
from feller.data.modality import Dataset, Modality
from tests.errors import refuses

FAST = settings(deadline=None, max_examples=12, derandomize=True)
NAME = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",), exclude_characters="\0"), max_size=9)
NASTY = ("..", ".", "", "a/b", "../../up", "%2E", "%", "grid.png", "samples.csv", ".hid", "__MACOSX", "C:\\x")


SHAPES = st.tuples(st.integers(1, 70), st.integers(1, 9), st.sampled_from((1, 3)))
LEVELS = st.sampled_from((1, 2, 16, 100, 254, 255))
CLASSES = st.lists(NAME | st.sampled_from(NASTY), max_size=3, unique_by=str.casefold)


def pictures(shape: tuple[int, int, int], levels: int, classes: list[str], seed: int) -> Dataset:
    modality = Images(*shape, levels=levels, classes=tuple(classes))
    numbers = np.random.default_rng(seed)
    n = numbers.integers(1, 7)
    values = numbers.integers(0, levels + 1, (n, modality.channels, modality.height, modality.width), dtype=np.uint8)
    labels = {"label": torch.from_numpy(numbers.integers(0, len(classes), n))} if classes else {}
    return Dataset(torch.from_numpy(values), labels, modality)


@FAST
@given(SHAPES, LEVELS, CLASSES, st.integers(0, 99))
@example((9, 3, 1), 1, [], 0)  # as narrow as a picture has colours
def test_written_images_round_trip(shape: tuple[int, int, int], levels: int, classes: list[str], seed: int) -> None:
    data = pictures(shape, levels, classes, seed)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.npz", "a.npy", "folder"):
            out = pathlib.Path(folder) / "in" / name
            data.modality.write(data.values, data.given, out)
            values, labels = read_samples(out, data.modality)
            assert torch.equal(values, data.values), name
            if name != "a.npy":
                assert labels.keys() == data.given.keys(), name
                assert all(torch.equal(labels[key], data.given[key]) for key in labels), name
        assert [path.name for path in pathlib.Path(folder).iterdir()] == ["in"]  # no class led elsewhere


@FAST
@given(SHAPES, LEVELS, CLASSES, st.integers(0, 99))
def test_encoding_round_trip(shape: tuple[int, int, int], levels: int, classes: list[str], seed: int) -> None:
    data = pictures(shape, levels, classes, seed)
    state = data.modality.encode(data.values)
    assert state.dtype == torch.float32
    assert state.shape[1:] == data.modality.space().shape
    assert state[data.values == 0].eq(-1).all()
    assert state[data.values == data.modality.levels].eq(1).all()
    assert torch.equal(data.modality.decode(state), data.values)
    noise = 0.9 / data.modality.levels * (2 * torch.rand(state.shape, generator=torch.Generator().manual_seed(0)) - 1)
    assert torch.equal(data.modality.decode(state + noise), data.values)  # less than half a level


def test_decode_clips_and_refuses_nonfinite() -> None:
    modality = Images(1, 3, 1)
    assert modality.decode(torch.tensor([[[[-7.0, 0.0, 3.0]]]])).tolist() == [[[[0, 128, 255]]]]
    with refuses(InputError):
        modality.decode(torch.tensor([[[[0.0, 0.0, 0.0]]], [[[0.0, torch.nan, 0.0]]]]))


def test_array_layout() -> None:
    values = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5)
    arrays = Images(4, 5, 3).arrays(values, {})
    assert arrays.keys() == {"samples"}
    assert arrays["samples"].shape == (2, 4, 5, 3)
    assert arrays["samples"][1, 2, 3, 1] == values[1, 1, 2, 3]
    gray = Images(4, 5, 1, 16, ("a", "b")).arrays(values[:, :1] % 17, {"label": torch.tensor([1, 0])})
    assert gray["samples"].shape == (2, 4, 5)
    assert gray["samples"].dtype == np.uint8
    assert gray["levels"] == 16
    assert gray["labels"].tolist() == [1, 0]
    assert gray["classes"].tolist() == ["a", "b"]


def test_record_round_trip() -> None:
    modality = Images(3, 4, 1, 16, ("a", "b"))
    assert from_dict(Modality, to_dict(modality)) == modality
    with refuses(InputError, found="3 x 4 x 2 with 255"):
        Images(3, 4, 2)


def test_sample_folder_layout(tmp_path: pathlib.Path) -> None:
    modality = Images(2, 3, 1, 16, ("cat", "dog"))
    values = torch.full((3, 1, 2, 3), 16, dtype=torch.uint8)
    modality.write(values, {"label": torch.tensor([1, 0, 1])}, tmp_path / "out")
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert files == ["cat/00001.png", "dog/00000.png", "dog/00002.png", "grid.png"]
    assert np.array(Image.open(tmp_path / "out/cat/00001.png")).tolist() == [[255] * 3] * 2
    data = read(str(tmp_path / "out"))
    assert data.modality == Images(2, 3, 1, 255, ("cat", "dog"))
    assert data.given["label"].tolist() == [1, 0, 1]


def test_rewriting_replaces_only_own_samples(tmp_path: pathlib.Path) -> None:
    modality, out = Images(2, 2, 1, classes=("a", "b")), tmp_path / "out"
    values = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    modality.write(values, {"label": torch.tensor([0, 1, 1, 1])}, out)
    (out / "a" / "mine.txt").write_text("keep")
    modality.write(values[:1], {"label": torch.tensor([1])}, out)
    assert sorted(path.name for path in out.rglob("*")) == ["00000.png", "a", "b", "grid.png", "mine.txt"]
    other = tmp_path / "photos"
    other.mkdir()
    Image.new("L", (2, 2)).save(other / "00000.png")
    Image.new("L", (2, 2)).save(other / "grid.png")
    with refuses(InputError):
        modality.write(values, {}, other)
    assert len(list(other.iterdir())) == 2
    assert len(read(str(other))) == 2  # a picture that happens to be called grid is a picture


def test_output_suffixes(tmp_path: pathlib.Path) -> None:
    modality, values = Images(2, 2, 1), torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    for suffix in ("csv", "png", "pt"):
        with refuses(UsageError):
            modality.write(values, {}, tmp_path / f"a.{suffix}")
    modality.write(values, {}, tmp_path / "run-0.5")
    assert (tmp_path / "run-0.5" / "00000.png").is_file()
    (tmp_path / "file").write_text("")
    with refuses(InputError):
        modality.write(values, {}, tmp_path / "file" / "a.npz")


def test_overview_magnification() -> None:
    modality = Images(8, 8, 3, 1)
    values = (torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1)) > 0.5).to(torch.uint8)
    shown = np.array(modality.show(values, {}, columns=3))
    assert shown.shape == (2 * 50 + 2, 3 * 50 + 2, 3)
    for i in range(5):
        top, left = 2 + 50 * (i // 3), 2 + 50 * (i % 3)
        cell = shown[top : top + 48, left : left + 48].reshape(8, 6, 8, 6, 3)
        assert (cell == 255 * values[i].permute(1, 2, 0).numpy()[:, None, :, None, :]).all()
    assert modality.show(values[:0], {}).size[0] > 0
    assert Images(100, 50, 1).show(torch.zeros(1, 1, 100, 50, dtype=torch.uint8), {}).size == (54, 104)


def test_samples_of_other_shapes_are_refused(tmp_path: pathlib.Path) -> None:
    modality = Images(4, 4, 1)
    np.save(tmp_path / "a.npy", np.zeros((2, 5, 4), dtype=np.uint8))
    with refuses(InputError, file=str(tmp_path / "a.npy")):
        read_samples(tmp_path / "a.npy", modality)
    np.save(tmp_path / "b.npy", np.zeros((2, 5)))
    with refuses(InputError, file=str(tmp_path / "b.npy")):
        read_samples(tmp_path / "b.npy", modality)


def test_like_sets_size_channels_and_levels(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "a.npy", np.full((2, 8, 8), 255, dtype=np.uint8))
    data = read(str(tmp_path / "a.npy"), like=Images(4, 4, 3, 16, ("a", "b")))
    assert data.values.shape == (2, 3, 4, 4)
    assert (data.values == 16).all()
    assert data.given == {}
    assert data.notes


DIGITS = read("example:digits")
MODALITY = LabelledImages(DIGITS.modality)
DATA = DIGITS.subset(torch.arange(30)).with_modality(MODALITY)


def test_labels_as_data_and_as_condition() -> None:
    assert torch.equal(DATA.values["image"], DIGITS.values[:30])
    assert torch.equal(DATA.values["label"], DIGITS.given["label"][:30])
    assert DATA.given == {}
    assert DATA.with_modality(MODALITY).values is DATA.values
    back = DATA.modality.for_metrics(DATA)
    assert torch.equal(back.values, DIGITS.values[:30])
    assert torch.equal(back.given["label"], DIGITS.given["label"][:30])
    assert back.modality == DIGITS.modality
    assert back.modality.for_metrics(back) is back


def test_state_of_image_and_label() -> None:
    state = MODALITY.encode(DATA.values)
    reference = MODALITY.space().sample_base(30, Rng(0).stream("x"))
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in reference.items()}
    assert (reference["label"] == 10).all()  # the mask
    back = MODALITY.decode(state)
    assert all(torch.equal(back[name], DATA.values[name]) for name in back)


@pytest.mark.parametrize("out", ["x.npz", "folder"])
def test_written_labelled_images_round_trip(tmp_path: pathlib.Path, out: str) -> None:
    MODALITY.write(DATA.values, {}, tmp_path / out)
    values, given = read_samples(tmp_path / out, MODALITY)
    assert given == {}
    order = [
        torch.argsort(v["image"].flatten(1).double() @ torch.arange(1.0, 65, dtype=torch.float64))
        for v in (values, DATA.values)
    ]
    for name in values:
        assert torch.equal(values[name][order[0]], DATA.values[name][order[1]])


def test_image_or_label_as_condition(tmp_path: pathlib.Path) -> None:
    assert MODALITY.conditionable_leaves == ("image", "label")
    value, follows = MODALITY.parse_condition("label", "7")
    assert value.tolist() == [7]
    assert follows == {}
    np.savez(tmp_path / "one.npz", samples=DIGITS.values[0, 0].numpy()[None], levels=16)
    value, _ = condition_leaf(MODALITY, "image", str(tmp_path / "one.npz"))
    assert torch.equal(value, DIGITS.modality.encode(DIGITS.values[:1]))


def test_labels_are_below_their_images() -> None:
    """Overviews of other labels differ only in the bands below the images."""
    ones, other = torch.zeros(6, dtype=torch.long), torch.tensor([0, 0, 0, 0, 7, 0])
    pictures = [
        np.array(MODALITY.show({"image": DATA.values["image"][:6], "label": label}, {})) for label in (ones, other)
    ]
    plain_height = DIGITS.modality.show(DATA.values["image"][:6], {}).height
    assert pictures[0].shape[0] == plain_height + 2 * ROOM
    rows, columns = np.nonzero(pictures[0] != pictures[1])
    assert rows.min() >= pictures[0].shape[0] - ROOM
    assert np.ptp(columns) < LETTER
    assert columns.mean() == pytest.approx(pictures[0].shape[1] / 2, abs=3)


def test_invalid_conditions_are_refused(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "two.npz", samples=DIGITS.values[:2, 0].numpy(), levels=16)
    for leaf, text, found in (("label", "x", "'x'"), ("image", "nowhere.png", "none"), ("colour", "red", "colour=red")):
        with refuses(UsageError, found=found):
            condition_leaf(MODALITY, leaf, text)
    with refuses(InputError, found="2 images"):
        condition_leaf(MODALITY, "image", str(tmp_path / "two.npz"))


@pytest.mark.parametrize("given", [{}, {"label": torch.tensor([0, 10, 2])}], ids=["none", "unknown"])
def test_images_without_label_are_refused(given: dict[str, torch.Tensor]) -> None:
    with refuses(InputError):
        Dataset(DIGITS.values[:3], given, DIGITS.modality).with_modality(MODALITY)

"""Pictures and labels as one state: there and back, by class or by file, and as plain pictures for measures."""

import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from feller.core.errors import InputError, UsageError
from feller.core.rng import Draws
from feller.data.files.sample_folder import LETTER, ROOM, captioned
from feller.data.images.labelled import Labelled
from feller.data.loading.read import read
from feller.data.loading.read_samples import give, read_back
from feller.data.modality import Dataset

DIGITS = read("example:digits")
MODALITY = Labelled(DIGITS.modality)
DATA = DIGITS.subset(torch.arange(30)).seen_as(MODALITY)


def test_labels_become_part_of_the_data_and_a_condition_again() -> None:
    assert torch.equal(DATA.values["image"], DIGITS.values[:30])
    assert torch.equal(DATA.values["label"], DIGITS.given["label"][:30])
    assert DATA.given == {}
    assert DATA.seen_as(MODALITY).values is DATA.values
    back = DATA.modality.for_measures(DATA)
    assert torch.equal(back.values, DIGITS.values[:30])
    assert torch.equal(back.given["label"], DIGITS.given["label"][:30])
    assert back.modality == DIGITS.modality
    assert back.modality.for_measures(back) is back


def test_states_hold_both() -> None:
    state = MODALITY.encode(DATA.values)
    reference = MODALITY.space().reference(30, Draws(0).at("x"))
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in reference.items()}
    assert (reference["label"] == 10).all()  # the mask
    back = MODALITY.decode(state)
    assert all(torch.equal(back[name], DATA.values[name]) for name in back)


@pytest.mark.parametrize("out", ["x.npz", "folder"])
def test_written_files_are_read_back(tmp_path: pathlib.Path, out: str) -> None:
    MODALITY.write(DATA.values, {}, tmp_path / out)
    values, given = read_back(tmp_path / out, MODALITY)
    assert given == {}
    order = [
        torch.argsort(v["image"].flatten(1).double() @ torch.arange(1.0, 65, dtype=torch.float64))
        for v in (values, DATA.values)
    ]
    for name in values:
        assert torch.equal(values[name][order[0]], DATA.values[name][order[1]])


def test_either_can_be_given(tmp_path: pathlib.Path) -> None:
    assert MODALITY.leaves == ("image", "label")
    value, follows = MODALITY.give("label", "7")
    assert value.tolist() == [7]
    assert follows == {}
    np.savez(tmp_path / "one.npz", samples=DIGITS.values[0, 0].numpy()[None], levels=16)
    value, _ = give(MODALITY, "image", str(tmp_path / "one.npz"))
    assert torch.equal(value, DIGITS.modality.encode(DIGITS.values[:1]))


def test_labels_stand_below_their_pictures() -> None:
    """In bands of their own, which differ where labels do and nowhere else."""
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


def test_long_names_are_cut() -> None:
    whole = captioned(Image.new("RGB", (52, 52)), ["a" * 200])
    assert whole.size == (52, 52 + ROOM)
    assert (np.array(whole)[:52] == 0).all()


def test_what_cannot_be_given_is_told(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "two.npz", samples=DIGITS.values[:2, 0].numpy(), levels=16)
    for leaf, text, told in (
        ("label", "x", "label cannot be 'x'"),
        ("image", "nowhere.png", "there is none at nowhere.png"),
        ("colour", "red", "no part"),
    ):
        with pytest.raises(UsageError, match=told):
            give(MODALITY, leaf, text)
    with pytest.raises(InputError, match=r"two\.npz: image names a file with one picture, got one with 2"):
        give(MODALITY, "image", str(tmp_path / "two.npz"))


def test_every_picture_needs_its_label() -> None:
    bare = Dataset(DIGITS.values[:3], {}, DIGITS.modality)
    with pytest.raises(InputError, match="a label of each picture"):
        bare.seen_as(MODALITY)
    missing = Dataset(DIGITS.values[:3], {"label": torch.tensor([0, 10, 2])}, DIGITS.modality)
    with pytest.raises(InputError, match="a label of each picture"):
        missing.seen_as(MODALITY)

"""The molecules inside the package."""

import torch

from feller.core.pytree import leaves
from feller.data.loading.read import read
from feller.data.molecules.modality import Molecules


def test_example_has_two_parts_of_one_kind() -> None:
    train, test = read("example:molecules"), read("example:molecules/test")
    assert (len(train), len(test)) == (600, 150)
    assert isinstance(train.modality, Molecules)
    assert train.modality == test.modality
    assert train.modality.elements == ("H", "C", "N", "O", "F")
    assert train.modality.longest <= 29
    heavy = (train.values["element"] > 0).sum(1)
    assert heavy.max() == 9
    states = train.modality.encode(train.values)["place"][train.given["valid"]["place"]]
    assert abs(states.square().mean().item() - 1) < 0.02  # the scale is that of both parts


def test_no_molecule_is_in_both_parts() -> None:
    train, test = read("example:molecules"), read("example:molecules/test")
    shapes = [{tuple(place.flatten().tolist()) for place in part.values["place"]} for part in (train, test)]
    assert not shapes[0] & shapes[1]


def test_example_is_the_same_on_every_way() -> None:
    """With a limit or a model's kind it is read as if from a file."""
    train, test = read("example:molecules"), read("example:molecules/test")
    again = read("example:molecules/test", like=train.modality)
    for own, other in zip(leaves(test.values), leaves(again.values), strict=True):
        torch.testing.assert_close(own, other, atol=1e-12, rtol=0)
    few = read("example:molecules", longest=12)
    sizes = train.given["valid"]["place"].sum(1)
    assert len(few) == (sizes <= 12).sum() > 0
    assert few.notes[0].startswith(f"molecules left out for over 12 atoms: {(sizes > 12).sum()}")

"""Protein backbone modality: states, conditions and file formats."""

import pathlib

import numpy as np
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.serialization import from_dict, to_dict
from feller.data.loading.raw import RawChains, RawPoints
from feller.data.modality import Dataset, Modality
from feller.data.proteins.backbones import Backbones, backbone_dataset
from feller.data.proteins.chains import backbones_from_arrays, load_backbones
from feller.data.proteins.frames import NUM_COORDINATES
from tests.data.proteins.test_frames import chain, torsions
from tests.errors import refuses


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Five chains of 12, 15, 15, 20 and 31 residues with perturbed bonds."""
    lengths = np.array([12, 15, 15, 20, 31])
    values = np.zeros((5, 31, 4, 3))
    for i, length in enumerate(lengths.tolist()):
        values[i, :length] = chain(torsions(length, i), torsions(length, 10 + i))[0].numpy()
        values[i, :length] += 0.02 * np.random.default_rng(i).standard_normal((length, 4, 3))
    return backbone_dataset(RawChains(values, lengths=lengths))


def distances(atoms: torch.Tensor) -> torch.Tensor:
    flat = atoms.flatten(-3, -2)
    return (flat[..., :, None, :] - flat[..., None, :, :]).norm(dim=-1)


def test_states_are_standardised(data: Dataset) -> None:
    state, valid = data.modality.encode(data.values), data.given["valid"]
    space = data.modality.space()
    assert {k: v.shape[1:] for k, v in state.items()} == {
        k: part.shape + ((3, 3) if k == "rotation" else ()) for k, part in space.leaf_spaces.items()
    }
    assert all(leaf.dtype == torch.float32 for leaf in state.values())
    assert space.constraint_error(state).max() < 1e-4
    torch.testing.assert_close(state["rotation"][~valid], torch.eye(3).expand(int((~valid).sum()), 3, 3))
    assert state["position"][~valid].abs().max() == 0
    has_next = valid & torch.cat([valid[:, 1:], torch.zeros(5, 1, dtype=torch.bool)], 1)
    for columns, mask in ((slice(0, 3), valid), (slice(3, 9), has_next)):
        coordinates = state["position"][:, :, columns][mask].double()
        torch.testing.assert_close(coordinates.mean(0), torch.zeros(coordinates.shape[1]).double(), atol=1e-6, rtol=0)
        torch.testing.assert_close(
            coordinates.std(0, correction=0), torch.ones(coordinates.shape[1]).double(), atol=1e-6, rtol=0
        )


def test_encode_decode_round_trip(data: Dataset) -> None:
    """Distances from the first N may differ more, since its bond is set to the mean."""
    decoded = data.modality.decode(data.modality.encode(data.values))
    assert decoded.dtype == torch.float64
    for expected, actual, valid in zip(data.values, decoded, data.given["valid"], strict=True):
        torch.testing.assert_close(
            distances(actual[valid])[1:, 1:], distances(expected[valid])[1:, 1:], atol=1e-4, rtol=0
        )
        assert (distances(actual[valid])[0] - distances(expected[valid])[0]).abs().max() < 0.1


def test_non_finite_states_are_refused(data: Dataset) -> None:
    state = data.modality.encode(data.values)
    state["position"][2, 0, 0] = torch.nan
    with refuses(InputError):
        data.modality.decode(state)


def test_length_condition_sets_valid_mask(data: Dataset) -> None:
    modality = data.modality
    assert modality.conditions == {"length": ("12", "15", "20", "31")}
    assert data.given["length"].tolist() == [0, 1, 1, 2, 3]
    assert data.given["valid"].sum(1).tolist() == [12, 15, 15, 20, 31]
    given = {"length": torch.tensor([modality.class_index("length", "20"), 4])}
    assert modality.add_derived_conditions(given)["valid"].sum(1).tolist() == [20, 31]  # not given: as long as can be
    with refuses(UsageError, argument="length", found="'21'"):
        modality.class_index("length", "21")


def test_other_chains_are_padded_and_checked(data: Dataset) -> None:
    other = RawChains(np.ones((2, 14, 4, 3)), lengths=np.array([14, 12]))
    values, given = data.modality.values_from_raw(other)
    assert values.shape == (2, 31, 4, 3)
    assert given["length"].tolist() == [4, 0]
    assert given["valid"].sum(1).tolist() == [14, 12]
    with refuses(InputError, found="40"):
        data.modality.values_from_raw(RawChains(np.ones((1, 40, 4, 3)), lengths=np.array([40])))
    with refuses(InputError, expected="protein backbones"):
        data.modality.values_from_raw(RawPoints(np.ones((2, 3))))


@pytest.mark.parametrize("name", ["a.npz", "a.jsonl", "a.pdb", "folder"])
def test_file_round_trip(data: Dataset, tmp_path: pathlib.Path, name: str) -> None:
    data.modality.write(data.values, data.given, tmp_path / name)
    if name == "a.npz":
        with np.load(tmp_path / name) as file:
            assert file["samples"].shape == (5, 31, 4, 3)
            raw = backbones_from_arrays(dict(file), name)
    else:
        raw = load_backbones(tmp_path / name)
    values, given = data.modality.values_from_raw(raw)
    assert all(torch.equal(given[key], data.given[key]) for key in data.given)
    for expected, actual, valid in zip(data.values, values, given["valid"], strict=True):
        torch.testing.assert_close(distances(actual[valid]), distances(expected[valid]), atol=3e-3, rtol=0)
        assert actual[valid][:, 1].mean(0).norm() < 1e-3
        assert (actual[~valid] == 0).all()


def test_arrays_of_samples_with_length_only(data: Dataset) -> None:
    samples = torch.randn(1, 31, 4, 3, generator=torch.Generator().manual_seed(0))
    arrays = data.modality.arrays(samples, {"length": torch.tensor([0])})
    assert arrays["valid"].sum() == 12
    assert (arrays["samples"][0, 12:] == 0).all()
    np.testing.assert_allclose(arrays["samples"][0, :12, 1].mean(0), 0, atol=1e-12)


def test_invalid_records_are_refused(data: Dataset) -> None:
    assert from_dict(Modality, to_dict(data.modality)) == data.modality
    usual = (0.0,) * NUM_COORDINATES, (1.0,) * NUM_COORDINATES
    zero_scale = usual[0], usual[0]
    for lengths, moments in (((), usual), (("21",), usual), (("5",), ((0.0,), (1.0,))), (("5",), zero_scale)):
        with refuses(InputError):
            Backbones(20, lengths, *moments)
    with refuses(InputError, found="single residues"):
        backbone_dataset(RawChains(np.ones((1, 1, 4, 3)), lengths=np.array([1])))

"""Protein modality: states, unknown residues, conditions, file formats and figures."""

import json
import pathlib

import numpy as np
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.batches import batch_loader, split
from feller.data.files.numpy_files import write_arrays
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawChains, RawPoints
from feller.data.loading.sample_reader import condition_leaf, read_samples
from feller.data.modality import Dataset, Modality
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.figure import _turned, traces
from feller.data.proteins.files import json_lines, pdb_text
from feller.data.proteins.modality import Proteins, protein_dataset
from feller.data.proteins.residues import LETTERS, MODIFIED, NAMES, NUMBERS, fasta, letters_of, name_of, numbers_of
from tests.data.proteins.test_backbones import distances
from tests.errors import refuses

BACKBONES = read("example:backbones")
PROTEINS = read("example:proteins")


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Six chains: the second has no sequence; the third lacks its first and fifth residue."""
    backbones = BACKBONES.subset(torch.arange(6))
    valid = backbones.given["valid"].numpy()
    residues = np.where(valid, PROTEINS.values["residue"][:6].numpy(), -1)
    residues[1], residues[2, [0, 4]] = -1, -1
    return protein_dataset(RawChains(backbones.values.numpy(), lengths=valid.sum(1), residues=residues))


def test_proteins_example() -> None:
    assert isinstance(PROTEINS.modality, Proteins)
    assert torch.equal(PROTEINS.values["atoms"], BACKBONES.values)
    chains, sequences = PROTEINS.modality.chains(PROTEINS.values, PROTEINS.given)
    assert all(len(atoms) == len(letters) for atoms, letters in zip(chains, sequences, strict=True))
    assert len(set(sequences)) == 40
    assert "X" not in "".join(sequences)
    test = read("example:proteins/test", like=PROTEINS.modality)
    assert len(test) == 10
    assert test.modality == PROTEINS.modality
    assert 0.05 < "".join(sequences).count("G") / sum(map(len, sequences)) < 0.12


def test_states_extend_backbone_states(data: Dataset) -> None:
    state = data.modality.encode(data.values)
    base = data.modality.space().sample_base(6, Rng(0).stream("x"))
    assert {name: leaf.shape for name, leaf in state.items()} == {name: leaf.shape for name, leaf in base.items()}
    assert (base["residue"] == len(LETTERS)).all()  # the mask
    backbone = data.modality.structure.encode(data.values["atoms"])
    assert all(torch.equal(state[name], backbone[name]) for name in backbone)
    decoded = data.modality.decode(state)
    assert torch.equal(decoded["residue"], data.values["residue"])
    assert torch.equal(decoded["atoms"], data.modality.structure.decode(backbone))


def test_unknown_residues_have_a_valid_position(data: Dataset) -> None:
    valid = data.given["valid"]
    assert valid.keys() == {"rotation", "position", "residue"}
    assert torch.equal(valid["rotation"], valid["position"])
    missing = valid["position"] & ~valid["residue"]
    assert missing.sum(1).tolist() == [0, int(valid["position"][1].sum()), 2, 0, 0, 0]
    assert missing[2].nonzero()[:, 0].tolist() == [0, 4]
    assert data.values["residue"].min() >= 0
    assert (data.values["residue"][~valid["residue"]] == 0).all()


def test_valid_masks_follow_splits_and_batches(data: Dataset) -> None:
    train, held_out = split(data.subset(torch.arange(12) % 6), 0.3)
    assert len(train) + len(held_out) == 12
    batch = batch_loader(train, 4, Rng(0))(0, slice(0, 4))
    for length, masks in zip(batch["given"]["length"], batch["given"]["valid"]["position"], strict=True):
        assert int(data.modality.conditions["length"][length]) == masks.sum()


def test_length_condition_includes_unseen_lengths(data: Dataset) -> None:
    lengths = [int(name) for name in data.modality.conditions["length"]]
    real = data.given["valid"]["position"].sum(1)
    assert lengths == list(range(int(real.min()), int(real.max()) + 1))
    assert [lengths[i] for i in data.given["length"].tolist()] == real.tolist()
    number = data.modality.class_index("length", str(lengths[3]))
    masks = data.modality.add_derived_conditions({"length": torch.tensor([number])})["valid"]
    assert {int(mask.sum()) for mask in masks.values()} == {lengths[3]}


@pytest.mark.parametrize("name", ["a.npz", "a.jsonl", "a.pdb", "folder"])
def test_file_round_trip(data: Dataset, tmp_path: pathlib.Path, name: str) -> None:
    data.modality.write(data.values, data.given, tmp_path / name)
    values, given = read_samples(tmp_path / name, data.modality)
    assert torch.equal(values["residue"], data.values["residue"])
    for leaf in ("rotation", "position", "residue"):
        assert torch.equal(given["valid"][leaf], data.given["valid"][leaf])
    for expected, actual, valid in zip(data.values["atoms"], values["atoms"], given["valid"]["position"], strict=True):
        torch.testing.assert_close(distances(actual[valid]), distances(expected[valid]), atol=3e-3, rtol=0)
    assert isinstance(read(str(tmp_path / name)).modality, Proteins)


def test_files_contain_the_sequence(data: Dataset, tmp_path: pathlib.Path) -> None:
    sequences = data.modality.chains(data.values, data.given)[1]
    assert sequences[1] == "X" * len(sequences[1])
    data.modality.write(data.values, data.given, tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == sequences
    data.modality.write(data.values, data.given, tmp_path / "out")
    records = (tmp_path / "out" / "sequences.fasta").read_text().split(">")[1:]
    assert ["".join(record.split("\n")[1:]) for record in records] == sequences
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"0000{i}.pdb" for i in range(6)),
        "grid.png",
        "sequences.fasta",
    }
    data.modality.write(data.values, data.given, tmp_path / "out")  # over its own files


def test_masked_residues_are_refused_outside_padding(data: Dataset, tmp_path: pathlib.Path) -> None:
    values = {"atoms": data.values["atoms"][:1], "residue": data.values["residue"][:1].clone()}
    given = {"length": data.given["length"][:1]}
    size = int(data.given["valid"]["position"][0].sum())
    values["residue"][0, size:] = 20
    assert (data.modality.arrays(values, given)["residue"][0, size:] == -1).all()
    data.modality.show(values, given)
    values["residue"][0, 3] = 20
    with refuses(InputError):
        data.modality.write(values, given, tmp_path / "a.pdb")


def test_files_without_sequences_are_backbones(tmp_path: pathlib.Path) -> None:
    BACKBONES.modality.write(BACKBONES.values, BACKBONES.given, tmp_path / "a.pdb")
    BACKBONES.modality.write(BACKBONES.values, BACKBONES.given, tmp_path / "a.jsonl")
    BACKBONES.modality.write(BACKBONES.values, BACKBONES.given, tmp_path / "a.npz")
    for name in ("a.pdb", "a.jsonl", "a.npz"):
        assert isinstance(read(str(tmp_path / name)).modality, Backbones)
    _, given = read_samples(tmp_path / "a.jsonl", PROTEINS.modality)
    assert not given["valid"]["residue"].any()
    assert given["valid"]["position"].any()
    with refuses(InputError, found="structures alone"):
        protein_dataset(RawChains(BACKBONES.values.numpy(), lengths=BACKBONES.given["valid"].sum(1).numpy()))


def test_conversion_to_backbones(data: Dataset) -> None:
    plain = data.with_modality(data.modality.structure)
    assert isinstance(plain.modality, Backbones)
    assert torch.equal(plain.values, data.values["atoms"])
    assert torch.equal(plain.given["valid"], data.given["valid"]["position"])
    assert plain.with_modality(plain.modality).values is plain.values
    with refuses(InputError, found="structures alone"):
        plain.with_modality(data.modality)
    assert data.with_modality(data.modality).values is data.values


def test_residue_condition(data: Dataset) -> None:
    assert data.modality.conditionable_leaves == ("residue", "structure")
    letters = ("ACDEFGHIKLMNPQRSTVWY" * 3)[:40]
    value, implied = data.modality.parse_condition("residue", letters[:20].lower() + " " + letters[20:])
    assert value.shape == (1, data.modality.structure.longest)
    assert value[0, :40].tolist() == numbers_of(letters).tolist()
    assert data.modality.conditions["length"][implied["length"]] == "40"
    for text, found in (("ACDX" * 10, "X"), ("", "none"), ("ACD", "'3'")):
        with refuses(UsageError, found=found):
            data.modality.parse_condition("residue", text)


def test_structure_condition(data: Dataset, tmp_path: pathlib.Path) -> None:
    valid = data.given["valid"]["position"][3]
    atoms = data.values["atoms"][3][valid].numpy()
    (tmp_path / "one.pdb").write_text(pdb_text([atoms]))
    state, implied = condition_leaf(data.modality, "structure", str(tmp_path / "one.pdb"))
    expected = data.modality.encode(data.values)
    assert state.keys() == {"rotation", "position"}
    for name, leaf in state.items():  # PDB files have three decimals
        torch.testing.assert_close(leaf[0], expected[name][3], atol=0.1, rtol=0)
    assert data.modality.conditions["length"][implied["length"]] == str(len(atoms))


def test_invalid_conditions_are_refused(data: Dataset, tmp_path: pathlib.Path) -> None:
    gap = PROTEINS.values["atoms"][0][PROTEINS.given["valid"]["position"][0]].numpy()[:30].copy()
    gap[15:] += 10
    (tmp_path / "gap.pdb").write_text(pdb_text([gap]))
    end = gap[:15].copy()
    end[-1, 2] += 5
    (tmp_path / "end.pdb").write_text(pdb_text([end]))
    (tmp_path / "two.pdb").write_text(pdb_text([gap[:15]] * 2))
    (tmp_path / "cut.pdb").write_text(pdb_text([gap, gap[:15]]))
    (tmp_path / "two.jsonl").write_text(json_lines([gap[:15]] * 2))
    (tmp_path / "a.xyz").write_text("2\n\nC 0 0 0\nO 0 0 1\n")
    long = np.concatenate([gap[:15] + 3.8 * 15 * i for i in range(6)])
    write_arrays({"samples": long[None], "valid": np.ones((1, len(long)), dtype=bool)}, tmp_path / "long.npz")
    for name, found in (
        ("gap.pdb", "2 chains"),
        ("end.pdb", "a segment"),
        ("two.pdb", "2 chains"),
        ("cut.pdb", "3 chains"),
        ("two.jsonl", "2 chains"),
        ("a.xyz", "molecules"),
        ("long.npz", "90"),
    ):
        with refuses(InputError, file=str(tmp_path / name)) as caught:
            condition_leaf(PROTEINS.modality, "structure", str(tmp_path / name))
        assert str(caught.value.found).startswith(found)
    for leaf, text in (("structure", str(tmp_path / "none.pdb")), ("rotation", "1")):
        with refuses(UsageError):
            condition_leaf(PROTEINS.modality, leaf, text)


def test_record_round_trip(data: Dataset) -> None:
    assert from_dict(Modality, to_dict(data.modality)) == data.modality
    with refuses(InputError, expected="protein backbones"):
        data.modality.values_from_raw(RawPoints(np.ones((2, 3))))


def test_residue_letters_and_names() -> None:
    names = "ALA CYS ASP GLU PHE GLY HIS ILE LYS LEU MET ASN PRO GLN ARG SER THR VAL TRP TYR"
    assert dict(zip(LETTERS, NAMES, strict=True)) == dict(zip("ACDEFGHIKLMNPQRSTVWY", names.split(), strict=True))
    assert all(name_of(letter) == name for letter, name in zip(LETTERS, NAMES, strict=True))
    assert name_of("X") == name_of("B") == "UNK"
    modified = [name for others in MODIFIED.values() for name in others]
    assert len({*modified} - {*NAMES}) == len(modified)
    parents = [LETTERS[NUMBERS[name]] for name in ("MSE", "FME", "SEP", "TPO", "PTR", "HYP", "CSO", "PCA")]
    assert "".join(parents) == "MMSTYPCQ"
    assert numbers_of("acYX-B").tolist() == [0, 1, 19, -1, -1, -1]
    assert letters_of(np.array([0, 1, 19, -1])) == "ACYX"
    assert fasta(["a", "b"], ["A" * 61, "C"]) == ">a\n" + "A" * 60 + "\nA\n>b\nC\n"


def helix(length: int, handedness: int = 1) -> np.ndarray:
    turn = np.arange(length) * np.radians(100)
    return np.stack([2.3 * np.cos(turn), handedness * 2.3 * np.sin(turn), 1.5 * np.arange(length)], 1)


def test_drawn_chain_is_a_rotation_to_principal_axes() -> None:
    for handedness in (1, -1):
        chain = helix(30, handedness) @ np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0] + 7
        rotated = _turned(chain)
        spread = rotated.std(0)
        assert spread[0] >= spread[1] >= spread[2]
        np.testing.assert_allclose(rotated.mean(0), 0, atol=1e-12)
        volumes = [np.linalg.det(points[1:4] - points[0]) for points in (chain, rotated)]
        assert np.isclose(*volumes)
        assert rotated[0, 0] < rotated[-1, 0]


@pytest.mark.parametrize("lengths", [(40,), (1, 2, 3)])
def test_figure_has_a_panel_per_chain(lengths: tuple[int, ...]) -> None:
    picture = np.array(traces([helix(length) for length in lengths]))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert (picture < 200).any()
    assert (picture[:2] == 255).all()


def test_figures_share_a_scale() -> None:
    """A helix is drawn smaller beside one of four times its length."""
    short, long = helix(12), helix(48)
    alone, beside, other = (
        np.array(traces([chain], same_scale_as=[more]))
        for chain, more in ((short, short), (short, long), (long, short))
    )
    assert beside.shape == other.shape
    width = [np.ptp(np.flatnonzero((np.ptp(picture, axis=2) > 60).any(0))) for picture in (alone, beside, other)]
    assert 2 * width[1] < width[0]
    assert width[1] < width[2] / 2

"""Proteins as data: states and back, residues that are not known, every form, what can be given, pictures."""

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
from feller.data.proteins.figure import FINE, _course, _turned, traces
from feller.data.proteins.files import json_lines, pdb_text
from feller.data.proteins.modality import Proteins, protein_dataset
from feller.data.proteins.residues import LETTERS, MODIFIED, NAMES, NUMBERS, fasta, letters_of, name_of, numbers_of

PLAIN = read("example:backbones")
WHOLE = read("example:proteins")


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Six chains, of which the second has no sequence, and the third lacks its first and fifth residue."""
    some = PLAIN.subset(torch.arange(6))
    lengths = some.given["valid"].sum(1).numpy()
    residues = WHOLE.values["residue"][:6].numpy().copy()
    residues[~some.given["valid"].numpy()] = -1
    residues[1], residues[2, [0, 4]] = -1, -1
    return protein_dataset(RawChains(some.values.numpy(), lengths=lengths, residues=residues))


def distances(atoms: torch.Tensor) -> torch.Tensor:
    flat = atoms.flatten(-3, -2)
    return (flat[..., :, None, :] - flat[..., None, :, :]).norm(dim=-1)


def test_example_has_the_structures_of_the_other_and_real_sequences() -> None:
    assert isinstance(WHOLE.modality, Proteins)
    assert torch.equal(WHOLE.values["atoms"], PLAIN.values)
    chains, sequences = WHOLE.modality.chains(WHOLE.values, WHOLE.given)
    assert all(len(atoms) == len(letters) for atoms, letters in zip(chains, sequences, strict=True))
    assert len(set(sequences)) == 40
    assert "X" not in "".join(sequences)
    test = read("example:proteins/test", like=WHOLE.modality)
    assert len(test) == 10
    assert test.modality == WHOLE.modality
    assert 0.05 < "".join(sequences).count("G") / sum(map(len, sequences)) < 0.12


def test_states_are_those_of_backbones_and_the_residues(data: Dataset) -> None:
    state, space = data.modality.encode(data.values), data.modality.space()
    reference = space.sample_base(6, Rng(0).stream("x"))
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in reference.items()}
    assert (reference["residue"] == len(LETTERS)).all()  # the mask
    own = data.modality.structure.encode(data.values["atoms"])
    assert all(torch.equal(state[name], own[name]) for name in own)
    back = data.modality.decode(state)
    assert torch.equal(back["residue"], data.values["residue"])
    for mine, again, valid in zip(data.values["atoms"], back["atoms"], data.given["valid"]["position"], strict=True):
        torch.testing.assert_close(distances(again[valid])[1:, 1:], distances(mine[valid])[1:, 1:], atol=1e-3, rtol=0)


def test_residue_that_is_not_known_is_not_valid_and_its_place_is(data: Dataset) -> None:
    valid = data.given["valid"]
    assert valid.keys() == {"rotation", "position", "residue"}
    assert torch.equal(valid["rotation"], valid["position"])
    missing = valid["position"] & ~valid["residue"]
    assert missing.sum(1).tolist() == [0, int(valid["position"][1].sum()), 2, 0, 0, 0]
    assert missing[2].nonzero()[:, 0].tolist() == [0, 4]
    assert data.values["residue"].min() >= 0
    assert (data.values["residue"][~valid["residue"]] == 0).all()


def test_marks_go_with_their_examples_through_splits_and_batches(data: Dataset) -> None:
    train, aside = split(data.subset(torch.arange(12) % 6), 0.3)
    assert len(train) + len(aside) == 12
    batch = batch_loader(train, 4, Rng(0))(0, slice(0, 4))
    for length, marks in zip(batch["given"]["length"], batch["given"]["valid"]["position"], strict=True):
        assert int(data.modality.conditions["length"][length]) == marks.sum()


def test_every_length_in_between_can_be_asked_for(data: Dataset) -> None:
    lengths = [int(name) for name in data.modality.conditions["length"]]
    real = data.given["valid"]["position"].sum(1)
    assert lengths == list(range(int(real.min()), int(real.max()) + 1))
    assert [lengths[i] for i in data.given["length"].tolist()] == real.tolist()
    number = data.modality.class_index("length", str(lengths[3]))
    marks = data.modality.add_derived_conditions({"length": torch.tensor([number])})["valid"]
    assert {int(mark.sum()) for mark in marks.values()} == {lengths[3]}


@pytest.mark.parametrize("name", ["a.npz", "a.jsonl", "a.pdb", "folder"])
def test_every_form_gives_the_same_back(data: Dataset, tmp_path: pathlib.Path, name: str) -> None:
    data.modality.write(data.values, data.given, tmp_path / name)
    values, given = read_samples(tmp_path / name, data.modality)
    assert torch.equal(values["residue"], data.values["residue"])
    for leaf in ("rotation", "position", "residue"):
        assert torch.equal(given["valid"][leaf], data.given["valid"][leaf])
    for own, back, valid in zip(data.values["atoms"], values["atoms"], given["valid"]["position"], strict=True):
        torch.testing.assert_close(distances(back[valid]), distances(own[valid]), atol=3e-3, rtol=0)
    assert isinstance(read(str(tmp_path / name)).modality, Proteins)


def test_files_hold_the_sequence(data: Dataset, tmp_path: pathlib.Path) -> None:
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
    data.modality.write(data.values, data.given, tmp_path / "out")  # over what we wrote ourselves


def test_samples_need_only_a_length_and_no_mask(data: Dataset, tmp_path: pathlib.Path) -> None:
    """Behind the end of a chain masks may remain; within it they may not."""
    values = {"atoms": data.values["atoms"][:1], "residue": data.values["residue"][:1].clone()}
    given = {"length": data.given["length"][:1]}
    size = int(data.given["valid"]["position"][0].sum())
    values["residue"][0, size:] = 20
    assert (data.modality.arrays(values, given)["residue"][0, size:] == -1).all()
    data.modality.show(values, given)
    values["residue"][0, 3] = 20
    with pytest.raises(InputError, match="still masked"):
        data.modality.write(values, given, tmp_path / "a.pdb")


def test_files_without_a_sequence_stay_backbones(tmp_path: pathlib.Path) -> None:
    PLAIN.modality.write(PLAIN.values, PLAIN.given, tmp_path / "a.pdb")
    PLAIN.modality.write(PLAIN.values, PLAIN.given, tmp_path / "a.jsonl")
    PLAIN.modality.write(PLAIN.values, PLAIN.given, tmp_path / "a.npz")
    for name in ("a.pdb", "a.jsonl", "a.npz"):
        assert isinstance(read(str(tmp_path / name)).modality, Backbones)
    _, given = read_samples(tmp_path / "a.jsonl", WHOLE.modality)  # structures alone can be looked at
    assert not given["valid"]["residue"].any()
    assert given["valid"]["position"].any()
    with pytest.raises(InputError, match="structures alone"):
        protein_dataset(RawChains(PLAIN.values.numpy(), lengths=PLAIN.given["valid"].sum(1).numpy()))


def test_sequences_can_be_left_aside(data: Dataset) -> None:
    plain = data.with_modality(data.modality.structure)
    assert isinstance(plain.modality, Backbones)
    assert torch.equal(plain.values, data.values["atoms"])
    assert torch.equal(plain.given["valid"], data.given["valid"]["position"])
    assert plain.with_modality(plain.modality).values is plain.values
    with pytest.raises(InputError, match="structures alone"):
        plain.with_modality(data.modality)
    assert data.with_modality(data.modality).values is data.values


def test_a_sequence_can_be_given(data: Dataset) -> None:
    assert data.modality.conditionable_leaves == ("residue", "structure")
    letters = ("ACDEFGHIKLMNPQRSTVWY" * 3)[:40]
    value, follows = data.modality.parse_condition("residue", letters[:20].lower() + " " + letters[20:])
    assert value.shape == (1, data.modality.structure.longest)
    assert value[0, :40].tolist() == numbers_of(letters).tolist()
    assert data.modality.conditions["length"][follows["length"]] == "40"
    for text, told in (("ACDX" * 10, "found X"), ("", "found none"), ("ACD", "length: expected")):
        with pytest.raises(UsageError, match=told):
            data.modality.parse_condition("residue", text)


def test_a_structure_can_be_given(data: Dataset, tmp_path: pathlib.Path) -> None:
    valid = data.given["valid"]["position"][3]
    atoms = data.values["atoms"][3][valid].numpy()
    (tmp_path / "one.pdb").write_text(pdb_text([atoms]))
    state, follows = condition_leaf(data.modality, "structure", str(tmp_path / "one.pdb"))
    own = data.modality.encode(data.values)
    assert state.keys() == {"rotation", "position"}
    for name, leaf in state.items():  # PDB files have three decimals
        torch.testing.assert_close(leaf[0], own[name][3], atol=0.1, rtol=0)
    assert data.modality.conditions["length"][follows["length"]] == str(len(atoms))


def test_what_cannot_be_given_is_told(data: Dataset, tmp_path: pathlib.Path) -> None:
    gap = WHOLE.values["atoms"][0][WHOLE.given["valid"]["position"][0]].numpy()[:30].copy()
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
    for leaf, text, error, told in (
        ("structure", str(tmp_path / "none.pdb"), UsageError, "structure: expected"),
        ("structure", str(tmp_path / "gap.pdb"), InputError, r"gap.pdb: .*; found 2 chains .*chains split"),
        ("structure", str(tmp_path / "end.pdb"), InputError, r"end.pdb: .* found a segment of a chain .chains split"),
        (
            "structure",
            str(tmp_path / "two.pdb"),
            InputError,
            r"two.pdb: .* found 2 chains or segments.*Write the chain",
        ),
        ("structure", str(tmp_path / "cut.pdb"), InputError, r"cut.pdb: .* found 3 chains .*chains split"),
        ("structure", str(tmp_path / "two.jsonl"), InputError, r"two.jsonl: .* found 2 chains .*Write"),
        ("structure", str(tmp_path / "a.xyz"), InputError, "expected protein backbones; found molecules"),
        ("structure", str(tmp_path / "long.npz"), InputError, "row 1: expected up to 64 residues; found 90"),
        ("rotation", "1", UsageError, "cannot be conditioned"),
    ):
        with pytest.raises(error, match=told):
            condition_leaf(WHOLE.modality, leaf, text)


def test_record_keeps_the_modality(data: Dataset) -> None:
    assert from_dict(Modality, to_dict(data.modality)) == data.modality
    with pytest.raises(InputError, match="found points with 3 columns"):
        data.modality.values_from_raw(RawPoints(np.ones((2, 3))))


USUAL = {
    **{"A": "ALA", "R": "ARG", "N": "ASN", "D": "ASP", "C": "CYS", "Q": "GLN", "E": "GLU", "G": "GLY", "H": "HIS"},
    **{"I": "ILE", "L": "LEU", "K": "LYS", "M": "MET", "F": "PHE", "P": "PRO", "S": "SER", "T": "THR", "W": "TRP"},
    **{"Y": "TYR", "V": "VAL"},
}


def test_letters_and_names_go_together() -> None:
    assert dict(zip(LETTERS, NAMES, strict=True)) == USUAL
    assert all(name_of(letter) == name for letter, name in USUAL.items())
    assert all(LETTERS[NUMBERS[name]] == letter for letter, name in USUAL.items())
    assert name_of("X") == name_of("B") == "UNK"


def test_modified_residues_have_one_parent_and_hide_none_of_the_20() -> None:
    names = [name for others in MODIFIED.values() for name in others]
    assert len(set(names)) == len(names)
    assert not set(names) & set(NAMES)
    assert {LETTERS[NUMBERS[name]] for name in ("MSE", "FME")} == {"M"}
    assert [LETTERS[NUMBERS[name]] for name in ("SEP", "TPO", "PTR", "HYP", "CSO", "PCA")] == list("STYPCQ")


def test_numbers_and_back() -> None:
    assert numbers_of("acYX-B").tolist() == [0, 1, 19, -1, -1, -1]
    assert letters_of(np.array([0, 1, 19, -1])) == "ACYX"


def test_fasta_has_short_lines() -> None:
    assert fasta(["a", "b"], ["A" * 61, "C"]) == ">a\n" + "A" * 60 + "\nA\n>b\nC\n"


def helix(length: int, hand: int = 1) -> np.ndarray:
    turn = np.arange(length) * np.radians(100)
    return np.stack([2.3 * np.cos(turn), hand * 2.3 * np.sin(turn), 1.5 * np.arange(length)], 1)


def test_chain_is_widest_from_left_to_right_and_keeps_its_hand() -> None:
    for hand in (1, -1):
        chain = helix(30, hand) @ np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0] + 7
        turned = _turned(chain)
        spread = turned.std(0)
        assert spread[0] >= spread[1] >= spread[2]
        np.testing.assert_allclose(turned.mean(0), 0, atol=1e-12)
        volumes = [np.linalg.det(points[1:4] - points[0]) for points in (chain, turned)]
        assert np.isclose(*volumes)
        assert turned[0, 0] < turned[-1, 0]


def test_course_goes_through_the_atoms() -> None:
    chain = helix(12)
    np.testing.assert_allclose(_course(chain)[::FINE], chain, atol=1e-9)


@pytest.mark.parametrize("lengths", [(40,), (1, 2, 3), (5,) * 30])
def test_picture_has_a_panel_for_each_chain(lengths: tuple[int, ...]) -> None:
    picture = np.array(traces([helix(length) for length in lengths]))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert (picture < 200).any()
    assert (picture[:2] == 255).all()


def test_pictures_beside_each_other_have_one_scale() -> None:
    """What is drawn of a helix is smaller beside one of four times its length."""
    short, long = helix(12), helix(48)
    alone, beside, other = (
        np.array(traces([chain], same_scale_as=[more]))
        for chain, more in ((short, short), (short, long), (long, short))
    )
    assert beside.shape == other.shape
    width = [np.ptp(np.flatnonzero((np.ptp(picture, axis=2) > 60).any(0))) for picture in (alone, beside, other)]
    assert 2 * width[1] < width[0]
    assert width[1] < width[2] / 2


def test_first_residue_is_blue_and_the_last_is_red() -> None:
    picture = np.array(traces([helix(60)])).astype(int)
    colour = np.ptp(picture, axis=2) > 60
    columns = np.flatnonzero(colour.any(0))
    left, right = (picture[:, c][colour[:, c]].mean(0) for c in (columns[3], columns[-4]))
    assert left[2] > left[0] + 30
    assert right[0] > right[2] + 30

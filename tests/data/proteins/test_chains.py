"""Protein chains from files: cuts, filters, sequences and damage."""

import gzip
import json
import pathlib

import numpy as np
import pytest

from feller.core.errors import InputError
from feller.data.proteins.chains import backbones_from_arrays, load_backbones
from feller.data.proteins.files import ATOMS, pdb_text
from feller.data.proteins.residues import letters_of, numbers_of
from tests.data.proteins.test_frames import chain, torsions
from tests.errors import refuses


def atoms(length: int, seed: int = 0) -> np.ndarray:
    return chain(torsions(length, seed), torsions(length, seed + 1))[0].numpy()


def line(chain: np.ndarray, name: str = "x", **more: object) -> str:
    coords = {key: [None if np.isnan(p).any() else p.tolist() for p in chain[:, i]] for i, key in enumerate(ATOMS)}
    return json.dumps({"name": name, "coords": coords, **more}) + "\n"


def test_json_lines(tmp_path: pathlib.Path) -> None:
    first, second = atoms(12), atoms(20, 5)
    (tmp_path / "a.jsonl").write_text(line(first) + "\n" + line(second))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((line(first) + line(second)).encode()))
    for name in ("a.jsonl", "a.jsonl.gz"):
        found = load_backbones(tmp_path / name)
        assert found.lengths.tolist() == [12, 20]
        assert found.notes == ()
        np.testing.assert_array_equal(found.values[0, :12], first)
        np.testing.assert_array_equal(found.values[1], second)
        assert (found.values[0, 12:] == 0).all()


def test_chains_are_cut_at_missing_residues_and_gaps(tmp_path: pathlib.Path) -> None:
    holed, split = atoms(30), atoms(40, 3)
    holed[12, 2] = np.nan
    split[25:] += 3
    (tmp_path / "a.jsonl").write_text(line(holed, "holed") + line(split, "split"))
    found = load_backbones(tmp_path / "a.jsonl")
    assert found.lengths.tolist() == [12, 17, 25, 15]
    np.testing.assert_array_equal(found.values[1, :17], holed[13:])
    np.testing.assert_array_equal(found.values[3, :15], split[25:])
    assert len(found.notes) == 1
    assert "holed" in found.notes[0]


def test_long_and_short_chains_are_left_out(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.jsonl").write_text(line(atoms(30), "long") + line(atoms(5), "short") + line(atoms(11), "right"))
    found = load_backbones(tmp_path / "a.jsonl", longest=20)
    assert found.lengths.tolist() == [11]
    assert [note.rpartition(" ")[2] for note in found.notes] == ["long", "short"]
    assert load_backbones(tmp_path / "a.jsonl", longest=None).lengths.tolist() == [30, 11]
    with refuses(InputError, file=str(tmp_path / "a.jsonl")):
        load_backbones(tmp_path / "a.jsonl", longest=10)


@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")
def test_impossible_bonds_cut_the_chain(tmp_path: pathlib.Path) -> None:
    """The square of a large coordinate overflows without a warning."""
    for coordinate in (1e300, None):
        damaged = atoms(31)
        damaged[15, 1] = coordinate or damaged[15, 1] + 2
        (tmp_path / "a.jsonl").write_text(line(damaged))
        assert load_backbones(tmp_path / "a.jsonl").lengths.tolist() == [15, 15]


def test_folder_order(tmp_path: pathlib.Path) -> None:
    for name, length in (("b.pdb", 12), ("a.ent", 14), ("c.pdb", 11)):
        (tmp_path / name).write_text(pdb_text([atoms(length)]))
    (tmp_path / "grid.png").write_text("no chain")
    assert load_backbones(tmp_path).lengths.tolist() == [14, 12, 11]


def same_coords(points: list) -> str:
    """Return a line with the same coordinates for each of the four atoms."""
    return json.dumps({"coords": dict.fromkeys(ATOMS, points)})


UNEVEN = json.dumps({"coords": {"N": [[0, 0, 0]] * 2, "CA": [[0, 0, 0]], "C": [[0, 0, 0]], "O": [[0, 0, 0]]}})
DAMAGED = ["[1]", "{}", "{", '{"coords": 3}', '{"coords": {"N": []}}', '{"coords": {"N": 1, "CA": 1, "C": 1, "O": 1}}']
DAMAGED += [UNEVEN, *map(same_coords, ([[0, 0, "x"]], [[0]], [[[0], [0], [0]]], [[0, 0, 10**400]]))]
DAMAGED += [10_000 * "[" + '"coords"']
WRONG_SEQUENCES = ["ACDEFGHIKLM", ["A"] * 12, "ACDEFGHIKLMß", "ACDEFGHIKL12", 12]
DAMAGED += [line(atoms(12), seq=seq) for seq in WRONG_SEQUENCES]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_lines_are_refused(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(line(atoms(12)) + text + "\n")
    with refuses(InputError) as caught:
        load_backbones(tmp_path / "a.jsonl")
    assert "a.jsonl" in str(caught.value.place)
    assert "line 2" in str(caught.value.place)


def test_dropped_residues_are_noted(tmp_path: pathlib.Path) -> None:
    holed, single = atoms(30), atoms(1)
    holed[12, 2] = single[0, 1] = np.nan
    for chains in ([holed], [atoms(12), atoms(5)], [atoms(12), single]):
        (tmp_path / "a.jsonl").write_text("".join(map(line, chains)))
        assert load_backbones(tmp_path / "a.jsonl").dropped
    (tmp_path / "a.jsonl").write_text(line(atoms(12), seq="X" + 11 * "A"))
    found = load_backbones(tmp_path / "a.jsonl")
    assert found.notes
    assert not found.dropped


@pytest.mark.parametrize("text", ["\n", same_coords([]) + "\n"])
def test_empty_chains_and_files_are_refused(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with refuses(InputError, file=str(tmp_path / "a.jsonl")):
        load_backbones(tmp_path / "a.jsonl")


def test_arrays_are_read_and_checked() -> None:
    samples, valid = np.stack([atoms(12), atoms(12, 4)]), np.arange(12) < np.array([[12], [10]])
    found = backbones_from_arrays({"samples": samples, "valid": valid}, "a.npz")
    assert found.lengths.tolist() == [12, 10]
    assert (found.values[1, 10:] == 0).all()
    assert backbones_from_arrays({"samples": samples}, "a.npz").lengths.tolist() == [12, 12]
    for arrays, row in (
        ({"valid": valid[:, ::-1]}, 2),
        ({"valid": valid[:1]}, None),
        ({"samples": samples[:, :, :3]}, None),
        ({"samples": samples.astype(str)}, None),
        ({"valid": valid * 1.0}, None),
        ({"samples": samples * np.nan}, 1),
        ({"samples": samples * [[[[1]]], [[[np.nan]]]]}, 2),
    ):
        with refuses(InputError, row=row):
            backbones_from_arrays({"samples": samples, "valid": valid, **arrays}, "a.npz")


def test_sequences_are_cut_with_chains(tmp_path: pathlib.Path) -> None:
    holed = atoms(30)
    holed[12, 2] = np.nan
    seq = "ACDEFGHIKLMN" + "W" + "ACDEFGHIKLMNPQRST"
    (tmp_path / "a.jsonl").write_text(line(holed, seq=seq.lower()))
    found = load_backbones(tmp_path / "a.jsonl")
    assert found.residues.shape == (2, 17)
    assert [letters_of(row) for row in found.residues] == [seq[:12] + 5 * "X", seq[13:]]


def test_files_without_sequences(tmp_path: pathlib.Path) -> None:
    for name, text in (("a.jsonl", line(atoms(12)) + line(atoms(12), seq="X" * 12)), ("a.pdb", pdb_text([atoms(12)]))):
        (tmp_path / name).write_text(text)
        found = load_backbones(tmp_path / name)
        assert found.residues is None
        assert found.notes == ()


def test_unknown_residues_are_noted(tmp_path: pathlib.Path) -> None:
    text = (
        line(atoms(12), "whole", seq="ACDEFGHIKLMN") + line(atoms(11), "none") + line(atoms(10), "b", seq="ACDEF-HIBX")
    )
    (tmp_path / "a.jsonl").write_text(text)
    found = load_backbones(tmp_path / "a.jsonl")
    assert [letters_of(row) for row in found.residues] == ["ACDEFGHIKLMN", 12 * "X", "ACDEFXHIXXXX"]
    assert len(found.notes) == 1
    assert "14 of 33" in found.notes[0]


def test_sequences_of_arrays_are_read_and_checked() -> None:
    samples, valid = np.stack([atoms(12), atoms(12, 4)]), np.arange(12) < np.array([[12], [10]])
    residue = np.stack([numbers_of("ACDEFGHIKLMN"), numbers_of("ACXEFGHIKLMN")])
    found = backbones_from_arrays({"samples": samples, "valid": valid, "residue": residue}, "a.npz")
    assert [letters_of(row) for row in found.residues] == ["ACDEFGHIKLMN", "ACXEFGHIKLXX"]
    unknown = {"samples": samples, "valid": valid, "residue": np.full((2, 12), -1)}
    assert backbones_from_arrays(unknown, "a.npz").residues is None
    for wrong, found in (
        (residue[:, :11], "[2, 11]"),
        (residue * 1.0, "[2, 12]"),
        (residue + 9, "-1 to 20"),
        (residue - 1, "-2 to 10"),
    ):
        with refuses(InputError, found=found):
            backbones_from_arrays({"samples": samples, "valid": valid, "residue": wrong}, "a.npz")

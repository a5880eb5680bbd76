"""Chains from files: cut at gaps, limits, JSON lines with holes, damage."""

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


def atoms(length: int, seed: int = 0) -> np.ndarray:
    return chain(torsions(length, seed), torsions(length, seed + 1))[0].numpy()


def line(chain: np.ndarray, name: str = "x", **more: object) -> str:
    coords = {key: [None if np.isnan(p).any() else p.tolist() for p in chain[:, i]] for i, key in enumerate(ATOMS)}
    return json.dumps({"name": name, "coords": coords, **more}) + "\n"


def test_json_lines_are_read(tmp_path: pathlib.Path) -> None:
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


def test_chain_is_cut_at_a_missing_residue_and_at_a_gap(tmp_path: pathlib.Path) -> None:
    holed, split = atoms(30), atoms(40, 3)
    holed[12, 2] = np.nan
    split[25:] += 3
    (tmp_path / "a.jsonl").write_text(line(holed, "holed") + line(split, "split"))
    found = load_backbones(tmp_path / "a.jsonl")
    assert found.lengths.tolist() == [12, 17, 25, 15]
    np.testing.assert_array_equal(found.values[1, :17], holed[13:])
    np.testing.assert_array_equal(found.values[3, :15], split[25:])
    assert found.notes == ("chains split at missing or damaged residues: 2, the first is holed",)


def test_long_and_short_chains_are_left_out_and_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.jsonl").write_text(line(atoms(30), "long") + line(atoms(5), "short") + line(atoms(11), "right"))
    found = load_backbones(tmp_path / "a.jsonl", longest=20)
    assert found.lengths.tolist() == [11]
    assert found.notes == (
        "chains with over 20 residues left out: 1, the first is long",
        "chains with segments under 10 residues, left out: 1, the first is short",
    )
    assert load_backbones(tmp_path / "a.jsonl", longest=None).lengths.tolist() == [30, 11]
    with pytest.raises(InputError, match="no chain of 10 to 10 residues is left"):
        load_backbones(tmp_path / "a.jsonl", longest=10)


def test_residue_with_impossible_bonds_counts_as_missing(tmp_path: pathlib.Path) -> None:
    damaged = atoms(31)
    damaged[15, 1] += 2
    (tmp_path / "a.pdb").write_text(pdb_text([damaged]))
    assert load_backbones(tmp_path / "a.pdb").lengths.tolist() == [15, 15]


def test_folder_of_files_is_read_in_order(tmp_path: pathlib.Path) -> None:
    for name, length in (("b.pdb", 12), ("a.ent", 14), ("c.pdb", 11)):
        (tmp_path / name).write_text(pdb_text([atoms(length)]))
    (tmp_path / "grid.png").write_text("no chain")
    assert load_backbones(tmp_path).lengths.tolist() == [14, 12, 11]


def coords(places: list) -> str:
    """Return a line that has the same places for each atom."""
    return json.dumps({"coords": dict.fromkeys(ATOMS, places)})


UNEVEN = json.dumps({"coords": {"N": [[0, 0, 0]] * 2, "CA": [[0, 0, 0]], "C": [[0, 0, 0]], "O": [[0, 0, 0]]}})
DAMAGED = ["[1]", "{}", "{", '{"coords": 3}', '{"coords": {"N": []}}', '{"coords": {"N": 1, "CA": 1, "C": 1, "O": 1}}']


@pytest.mark.parametrize("text", [*DAMAGED, UNEVEN, coords([[0, 0, "x"]]), coords([[0]]), coords([[[0], [0], [0]]])])
def test_damaged_line_is_named(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(line(atoms(12)) + text + "\n")
    with pytest.raises(InputError, match=r"a\.jsonl[:,] line 2: expected an object with coords") as error:
        load_backbones(tmp_path / "a.jsonl")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [coords([[0, 0, 10**400]]), 10_000 * "[" + '"coords"'])
def test_damage_that_is_too_large_is_named(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(line(atoms(12)) + text + "\n")
    with pytest.raises(InputError, match=r"a\.jsonl[:,] line 2: expected an object with coords"):
        load_backbones(tmp_path / "a.jsonl")


def test_places_that_overflow_are_damage_without_a_warning(
    tmp_path: pathlib.Path, recwarn: pytest.WarningsRecorder
) -> None:
    far = atoms(31)
    far[15, 1] = 1e300
    (tmp_path / "a.jsonl").write_text(line(far))
    assert load_backbones(tmp_path / "a.jsonl").lengths.tolist() == [15, 15]
    assert not [one for one in recwarn.list if one.category is not ResourceWarning]  # others come of garbage


def test_what_is_lost_is_told_apart_from_what_is_not_known(tmp_path: pathlib.Path) -> None:
    holed, single = atoms(30), atoms(1)
    holed[12, 2] = single[0, 1] = np.nan
    for chains, said in (
        ([holed], "chains split"),
        ([atoms(12), atoms(5)], "segments under 10"),
        ([atoms(12), single], "segments under 10"),
    ):
        (tmp_path / "a.jsonl").write_text("".join(map(line, chains)))
        assert said in " ".join(load_backbones(tmp_path / "a.jsonl").dropped)
    (tmp_path / "a.jsonl").write_text(line(atoms(12), seq="X" + 11 * "A"))
    found = load_backbones(tmp_path / "a.jsonl")
    assert found.notes
    assert not found.dropped


def test_empty_chain_and_empty_file_are_refused(tmp_path: pathlib.Path) -> None:
    for text, match in (
        ("\n", "expected chains; found none"),
        (coords([]) + "\n", "no chain of 10 to 128 residues"),
    ):
        (tmp_path / "a.jsonl").write_text(text)
        with pytest.raises(InputError, match=match):
            load_backbones(tmp_path / "a.jsonl")


def test_arrays_are_read_and_checked() -> None:
    samples, valid = np.stack([atoms(12), atoms(12, 4)]), np.arange(12) < np.array([[12], [10]])
    found = backbones_from_arrays({"samples": samples, "valid": valid}, "a.npz")
    assert found.lengths.tolist() == [12, 10]
    assert (found.values[1, 10:] == 0).all()
    assert backbones_from_arrays({"samples": samples}, "a.npz").lengths.tolist() == [12, 12]
    for arrays, match in (
        ({"samples": samples, "valid": valid[:, ::-1]}, "row 2: expected"),
        ({"samples": samples, "valid": valid[:1]}, "expected numbers"),
        ({"samples": samples[:, :, :3], "valid": valid}, "expected numbers"),
        ({"samples": samples.astype(str), "valid": valid}, "expected numbers"),
        ({"samples": samples, "valid": valid * 1.0}, "booleans"),
        ({"samples": samples * np.nan, "valid": valid}, "row 1: expected finite coordinates"),
        ({"samples": samples * [[[[1]]], [[[np.nan]]]], "valid": valid}, "row 2: expected finite coordinates"),
    ):
        with pytest.raises(InputError, match=match):
            backbones_from_arrays(arrays, "a.npz")


def test_sequences_follow_their_residues_through_cuts(tmp_path: pathlib.Path) -> None:
    holed = atoms(30)
    holed[12, 2] = np.nan
    seq = "ACDEFGHIKLMN" + "W" + "ACDEFGHIKLMNPQRST"
    (tmp_path / "a.jsonl").write_text(line(holed, seq=seq.lower()))
    found = load_backbones(tmp_path / "a.jsonl")
    assert found.residues.shape == (2, 17)
    assert [letters_of(row) for row in found.residues] == [seq[:12] + 5 * "X", seq[13:]]


def test_file_without_any_sequence_has_none(tmp_path: pathlib.Path) -> None:
    for name, text in (("a.jsonl", line(atoms(12)) + line(atoms(12), seq="X" * 12)), ("a.pdb", pdb_text([atoms(12)]))):
        (tmp_path / name).write_text(text)
        found = load_backbones(tmp_path / name)
        assert found.residues is None
        assert found.notes == ()


def test_residues_that_are_not_known_are_told(tmp_path: pathlib.Path) -> None:
    """A chain may lack its sequence, and a residue may be none of the 20."""
    text = (
        line(atoms(12), "whole", seq="ACDEFGHIKLMN") + line(atoms(11), "none") + line(atoms(10), "b", seq="ACDEF-HIBX")
    )
    (tmp_path / "a.jsonl").write_text(text)
    found = load_backbones(tmp_path / "a.jsonl")
    assert [letters_of(row) for row in found.residues] == ["ACDEFGHIKLMN", 12 * "X", "ACDEFXHIXXXX"]
    assert found.notes == (
        "residues of unknown type: 14 of 33, in 2 chains, the first is none; only their positions are used",
    )


@pytest.mark.parametrize(
    ("seq", "told"),
    [
        ("ACDEFGHIKLM", "as many letters in seq as there are residues in coords; found 11 and 12"),
        (["A"] * 12, "expected one letter for each residue"),
        ("ACDEFGHIKLMß", "expected one letter for each residue"),
        ("ACDEFGHIKL12", "expected one letter for each residue"),
        (12, "expected one letter for each residue"),
    ],
)
def test_wrong_sequence_names_its_line(tmp_path: pathlib.Path, seq: object, told: str) -> None:
    (tmp_path / "a.jsonl").write_text(line(atoms(12)) + line(atoms(12), seq=seq))
    with pytest.raises(InputError, match=rf"a\.jsonl[:,] line 2.*{told}") as error:
        load_backbones(tmp_path / "a.jsonl")
    assert "\n" not in str(error.value)


def test_sequences_of_arrays_are_read_and_checked() -> None:
    samples, valid = np.stack([atoms(12), atoms(12, 4)]), np.arange(12) < np.array([[12], [10]])
    residue = np.stack([numbers_of("ACDEFGHIKLMN"), numbers_of("ACXEFGHIKLMN")])
    found = backbones_from_arrays({"samples": samples, "valid": valid, "residue": residue}, "a.npz")
    assert [letters_of(row) for row in found.residues] == ["ACDEFGHIKLMN", "ACXEFGHIKLXX"]
    unknown = {"samples": samples, "valid": valid, "residue": np.full((2, 12), -1)}
    assert backbones_from_arrays(unknown, "a.npz").residues is None
    for wrong, match in (
        (residue[:, :11], "an array residue"),
        (residue * 1.0, "an array residue"),
        (residue + 9, "indices into ACDEF"),
        (residue - 1, "indices into ACDEF"),
    ):
        with pytest.raises(InputError, match=match):
            backbones_from_arrays({"samples": samples, "valid": valid, "residue": wrong}, "a.npz")

"""Letters, names and numbers of amino acids."""

import numpy as np

from feller.data.proteins.residues import LETTERS, MODIFIED, NAMES, NUMBERS, fasta, letters_of, name_of, numbers_of

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

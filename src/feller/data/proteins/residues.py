"""The 20 amino acids: letters, names in files, and modified residues with their parents."""

import numpy as np
from jaxtyping import Int

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
"""One-letter codes of the amino acids; the index of a residue is its position in this string, and -1 means unknown."""
UNKNOWN = "X"
"""One-letter code of an unknown residue, which is UNK in PDB files."""
NAMES = (
    *("ALA", "CYS", "ASP", "GLU", "PHE", "GLY", "HIS", "ILE", "LYS", "LEU"),
    *("MET", "ASN", "PRO", "GLN", "ARG", "SER", "THR", "VAL", "TRP", "TYR"),
)
"""Three-letter names of the amino acids, in the order of `LETTERS`."""
MODIFIED = {
    "C": ("CAF", "CAS", "CME", "CSD", "CSO", "CSS", "CSX", "OCS", "SEC", "SMC", "YCM"),
    "E": ("CGU",),
    "H": ("HIC", "NEP"),
    "K": ("ALY", "KCX", "LLP", "M3L", "MLY", "MLZ", "PYL"),
    "M": ("FME", "MHO", "MSE"),
    "P": ("HYP",),
    "Q": ("PCA",),
    "R": ("CIR",),
    "S": ("SAC", "SEP"),
    "T": ("TPO",),
    "Y": ("PTR", "TYS"),
}
"""Three-letter names of modified residues, such as selenomethionine, by the one-letter code of their parent."""
OTHER_NAMES = {
    "C": ("CYM", "CYX"),
    "D": ("ASH",),
    "E": ("GLH",),
    "H": ("HID", "HIE", "HIP", "HSD", "HSE", "HSP"),
    "K": ("LYN",),
}
"""Names of protonation states in molecular dynamics packages, by one-letter code."""
PARENTS = {name: LETTERS.index(letter) for letter, names in MODIFIED.items() for name in names}
NUMBERS = {
    **{name: number for number, name in enumerate(NAMES)},
    **PARENTS,
    **{name: LETTERS.index(letter) for letter, names in OTHER_NAMES.items() for name in names},
}
"""Residue index of each three-letter name."""


def numbers_of(letters: str) -> Int[np.ndarray, " l"]:
    """Return the indices of one-letter codes, in upper or lower case; -1 for unknown letters."""
    return np.array([LETTERS.find(letter) for letter in letters.upper()], dtype=np.int64)


def letters_of(numbers: Int[np.ndarray, " l"]) -> str:
    """Return the one-letter codes of residue indices."""
    return "".join(LETTERS[index] if index >= 0 else UNKNOWN for index in numbers.tolist())


def name_of(letter: str) -> str:
    """Return the three-letter name of a one-letter code; UNK for an unknown residue."""
    return NAMES[LETTERS.index(letter)] if letter in LETTERS else "UNK"


def fasta(names: list[str], sequences: list[str]) -> str:
    """Return the text of a FASTA file, with 60 letters per line."""
    lines = []
    for name, sequence in zip(names, sequences, strict=True):
        lines += [f">{name}", *(sequence[i : i + 60] for i in range(0, len(sequence), 60))]
    return "\n".join([*lines, ""])

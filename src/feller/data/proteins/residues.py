"""The 20 amino acids: their letters, their names in files, and the modified ones that count as one of them."""

import numpy as np
from jaxtyping import Int

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
"""One letter each; a residue is numbered by its position here, and -1 is one that is not known."""
UNKNOWN = "X"
"""Letter of a residue that is not known; files of the Protein Data Bank call it UNK."""
NAMES = (
    *("ALA", "CYS", "ASP", "GLU", "PHE", "GLY", "HIS", "ILE", "LYS", "LEU"),
    *("MET", "ASN", "PRO", "GLN", "ARG", "SER", "THR", "VAL", "TRP", "TYR"),
)
"""Three letters each, in the order of `LETTERS`."""
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
"""Residues that a cell or a chemist made of another, such as selenomethionine, by the letter of that other."""
OTHER_NAMES = {
    "C": ("CYM", "CYX"),
    "D": ("ASH",),
    "E": ("GLH",),
    "H": ("HID", "HIE", "HIP", "HSD", "HSE", "HSP"),
    "K": ("LYN",),
}
"""What programs of molecular dynamics call residues by their protons."""
PARENTS = {name: LETTERS.index(letter) for letter, names in MODIFIED.items() for name in names}
NUMBERS = {
    **{name: number for number, name in enumerate(NAMES)},
    **PARENTS,
    **{name: LETTERS.index(letter) for letter, names in OTHER_NAMES.items() for name in names},
}
"""Number of each name of three letters."""


def numbers_of(letters: str) -> Int[np.ndarray, " l"]:
    """Return the numbers of letters, small or large; -1 for all that are none of the 20."""
    return np.array([LETTERS.find(letter) for letter in letters.upper()], dtype=np.int64)


def letters_of(numbers: Int[np.ndarray, " l"]) -> str:
    """Return the letters of numbers."""
    return "".join(LETTERS[number] if number >= 0 else UNKNOWN for number in numbers.tolist())


def name_of(letter: str) -> str:
    """Return the name of three letters; UNK for a residue that is not known."""
    return NAMES[LETTERS.index(letter)] if letter in LETTERS else "UNK"


def fasta(names: list[str], sequences: list[str]) -> str:
    """Return the text of a FASTA file, 60 letters a line."""
    lines = []
    for name, letters in zip(names, sequences, strict=True):
        lines += [f">{name}", *(letters[i : i + 60] for i in range(0, len(letters), 60))]
    return "\n".join([*lines, ""])

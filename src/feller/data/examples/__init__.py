"""Small sets of data that need no download; `NOTICE.md` beside this file has sources and licences."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from feller.data.examples.adult import adult, adult_cells
from feller.data.examples.backbones import protein_chains, protein_chains_with_sequences
from feller.data.examples.cells import HOURS, cells
from feller.data.examples.checkerboard import checkerboard, inside
from feller.data.examples.digits import digits
from feller.data.examples.jacksboro import jacksboro
from feller.data.examples.molecules import small_molecules
from feller.data.examples.moons import moons
from feller.data.examples.perovskites import perovskites
from feller.data.examples.shakespeare import shakespeare, shakespeare_text
from feller.data.examples.spoken_words import FOLDER, spoken_words, spoken_words_found
from feller.data.examples.torsions import torsion_angles
from feller.data.examples.volcano import volcano
from feller.data.found import Found
from feller.data.modality import Dataset

__all__ = ["EXAMPLES", "PARTS", "Example", "inside"]

PARTS = ("train", "test")
"""Parts that every example has."""


@dataclass(frozen=True)
class Example:
    """One set of data, with a part to train on and one to test on."""

    name: str
    summary: str
    source: str
    licence: str
    load: Callable[[str], Dataset]
    """Part -> its examples; the same on every call."""
    inside: Callable[[Float[Tensor, "n d"]], Bool[Tensor, " n"]] | None = None
    """Which points lie where the data can be; None where nobody can tell."""
    found: Callable[[str], Found] | None = None
    """Part -> what its file holds, for texts and tables, which can be read in many ways; else None."""
    parts: tuple[str, ...] = PARTS
    """Names of the parts that there are; the first is meant where none is named."""
    folder: pathlib.Path | None = None
    """Files that it is made of, as a user's own would be, where these are worth a look; else None."""


EXAMPLES = {
    example.name: example
    for example in (
        Example(
            "digits",
            "1,437 + 360 handwritten digits, 8 x 8 pixels of 17 grays, 10 classes",
            "scikit-learn's load_digits, from UCI Optical Recognition of Handwritten Digits (Alpaydin, Kaynak 1998)",
            "BSD-3-Clause (scikit-learn); the UCI set is CC BY 4.0",
            digits,
        ),
        Example(
            "adult",
            "32,561 + 16,281 people of the US census of 1994, 15 columns, income above or below 50,000 dollars",
            "UCI Adult (Becker, Kohavi 1996)",
            "CC BY 4.0",
            adult,
            found=adult_cells,
        ),
        Example(
            "moons",
            "20,000 + 5,000 points on two half circles that interlock, noise 0.05",
            "drawn by feller",
            "Apache-2.0",
            moons,
        ),
        Example(
            "backbones",
            "40 + 10 protein chains of 30 to 64 residues: atoms N, CA, C and O",
            "docking benchmark 5 (haddocking/BM5-clean), from the Protein Data Bank",
            "Apache-2.0 (compilation); CC0 (Protein Data Bank)",
            protein_chains,
        ),
        Example(
            "proteins",
            "the same 40 + 10 protein chains with their sequences",
            "docking benchmark 5 (haddocking/BM5-clean), from the Protein Data Bank",
            "Apache-2.0 (compilation); CC0 (Protein Data Bank)",
            protein_chains_with_sequences,
        ),
        Example(
            "molecules",
            "600 + 150 organic molecules of up to 9 heavy atoms and their hydrogens: elements and places",
            "QM9 (Ramakrishnan, Dral, Rupp, von Lilienfeld 2014), through qm9pack",
            "CC0 (QM9); MIT (qm9pack)",
            small_molecules,
        ),
        Example(
            "perovskites",
            "2,000 + 500 cubic cells of 5 atoms of 56 elements: perovskites, most of them made up",
            "Perov-5 of CDVAE (txie-93/cdvae), from the calculations of Castelli et al. 2012",
            "MIT (repository)",
            perovskites,
        ),
        Example(
            "cells",
            "217 + 54 muscle cells at 0, 24, 48 and 72 hours: the first 5 principal components of their genes",
            "HSMMSingleCell 1.26.0 (Bioconductor), from Trapnell et al. 2014",
            "Artistic-2.0",
            cells,
            parts=(*PARTS, *HOURS),
        ),
        Example(
            "jacksboro",
            "13,973 + 1,552 points on hills, x and y in [-5, 5], height z in [0, 2]",
            "sample data of matplotlib: heights around the Jacksboro fault, Tennessee",
            "as matplotlib (based on that of the PSF)",
            jacksboro,
        ),
        Example(
            "checkerboard",
            "20,000 + 5,000 points, uniform on 8 of the 16 unit squares of [-2, 2]^2",
            "drawn by feller",
            "Apache-2.0",
            checkerboard,
            inside,
        ),
        Example(
            "volcano",
            "744 + 83 volcanic eruptions by latitude and longitude",
            "NOAA Significant Volcanic Eruption Database, as the sets of Riemannian flow matching have it",
            "public domain (US government)",
            volcano,
        ),
        Example(
            "torsions",
            "7,003 + 997 tryptophan residues of proteins, 4 torsion angles each: phi, psi, chi1, chi2",
            "Top8000 filtered residues, Richardson laboratory, Duke University",
            "CC BY 4.0",
            torsion_angles,
        ),
        Example(
            "shakespeare",
            "1,003,854 + 111,540 characters of plays, 65 different, in windows of 128",
            "Tiny Shakespeare, from char-rnn (A. Karpathy)",
            "public domain (text); MIT (char-rnn)",
            shakespeare,
            found=shakespeare_text,
        ),
        Example(
            "spoken-words",
            "162 + 12 sentences read aloud by 79 speakers, 26.4 + 1.4 minutes, their phones; most texts by a machine",
            "LibriSpeech (Panayotov, Chen, Povey, Khudanpur 2015) through Resemblyzer; LJ Speech"
            " (Ito, Johnson 2017) through Coqui TTS",
            "CC BY 4.0 (LibriSpeech); public domain (LJ Speech)",
            spoken_words,
            found=spoken_words_found,
            folder=FOLDER,
        ),
    )
}

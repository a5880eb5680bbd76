"""Names, sources and licences of the examples in the package; loads no data."""

from dataclasses import dataclass

from feller.core.errors import UsageError

EXAMPLE_PREFIX = "example:"
PARTS = ("train", "test")
"""Parts of every example."""
HOURS = ("0", "24", "48", "72")
"""Measurement times of `cells`, in hours; each is a part, and a class label of `train` and `test`."""


@dataclass(frozen=True)
class ExampleInfo:
    """Description of an example data set."""

    name: str
    summary: str
    source: str
    licence: str
    parts: tuple[str, ...] = PARTS
    """Names of the parts; the first is the default."""


EXAMPLE_INFOS = {
    shipped.name: shipped
    for shipped in (
        ExampleInfo(
            "digits",
            "1,437 + 360 handwritten digits, 8 x 8 pixels of 17 grays, 10 classes",
            "scikit-learn's load_digits, from UCI Optical Recognition of Handwritten Digits (Alpaydin, Kaynak 1998)",
            "BSD-3-Clause (scikit-learn); the UCI set is CC BY 4.0",
        ),
        ExampleInfo(
            "adult",
            "32,561 + 16,281 rows of the US census of 1994, 15 columns, income above or below 50,000 dollars",
            "UCI Adult (Becker, Kohavi 1996)",
            "CC BY 4.0",
        ),
        ExampleInfo(
            "moons",
            "20,000 + 5,000 points on two half circles that interlock, noise 0.05",
            "drawn by feller",
            "Apache-2.0",
        ),
        ExampleInfo(
            "backbones",
            "40 + 10 protein chains of 30 to 64 residues: atoms N, CA, C and O",
            "docking benchmark 5 (haddocking/BM5-clean), from the Protein Data Bank",
            "Apache-2.0 (compilation); CC0 (Protein Data Bank)",
        ),
        ExampleInfo(
            "proteins",
            "the same 40 + 10 protein chains with their sequences",
            "docking benchmark 5 (haddocking/BM5-clean), from the Protein Data Bank",
            "Apache-2.0 (compilation); CC0 (Protein Data Bank)",
        ),
        ExampleInfo(
            "molecules",
            "600 + 150 organic molecules of up to 9 heavy atoms and their hydrogens: elements and positions",
            "QM9 (Ramakrishnan, Dral, Rupp, von Lilienfeld 2014), through qm9pack",
            "CC0 (QM9); MIT (qm9pack)",
        ),
        ExampleInfo(
            "perovskites",
            "2,000 + 500 cubic cells of 5 atoms of 56 elements: perovskites, most of them hypothetical",
            "Perov-5 of CDVAE (txie-93/cdvae), from the calculations of Castelli et al. 2012",
            "MIT (repository)",
        ),
        ExampleInfo(
            "cells",
            "217 + 54 muscle cells at 0, 24, 48 and 72 hours: the first 5 principal components of their genes",
            "HSMMSingleCell 1.26.0 (Bioconductor), from Trapnell et al. 2014",
            "Artistic-2.0",
            parts=(*PARTS, *HOURS),
        ),
        ExampleInfo(
            "jacksboro",
            "13,973 + 1,552 points on a landscape, x and y in [-5, 5], height z in [0, 2]",
            "sample data of matplotlib: heights around the Jacksboro fault, Tennessee",
            "as matplotlib (based on that of the PSF)",
        ),
        ExampleInfo(
            "checkerboard",
            "20,000 + 5,000 points, uniform on 8 of the 16 unit squares of [-2, 2]^2",
            "drawn by feller",
            "Apache-2.0",
        ),
        ExampleInfo(
            "volcano",
            "744 + 83 volcanic eruptions by latitude and longitude",
            "NOAA Significant Volcanic Eruption Database, as the sets of Riemannian flow matching have it",
            "public domain (US government)",
        ),
        ExampleInfo(
            "torsions",
            "7,003 + 997 tryptophan residues of proteins, 4 torsion angles each: phi, psi, chi1, chi2",
            "Top8000 filtered residues, Richardson laboratory, Duke University",
            "CC BY 4.0",
        ),
        ExampleInfo(
            "shakespeare",
            "1,003,854 + 111,540 characters of plays, vocabulary of 65, in windows of 128",
            "Tiny Shakespeare, from char-rnn (A. Karpathy)",
            "public domain (text); MIT (char-rnn)",
        ),
        ExampleInfo(
            "spoken-words",
            "162 + 12 sentences read aloud by 79 speakers, 26.4 + 1.4 minutes, phones; many texts by ASR",
            "LibriSpeech (Panayotov, Chen, Povey, Khudanpur 2015) through Resemblyzer; LJ Speech"
            " (Ito, Johnson 2017) through Coqui TTS",
            "CC BY 4.0 (LibriSpeech); public domain (LJ Speech)",
        ),
    )
}


def parse_example(source: str) -> tuple[ExampleInfo, str]:
    """Parse `example:NAME/PART` into the example and the part; UsageError if either is unknown."""
    name, _, part = source.removeprefix(EXAMPLE_PREFIX).partition("/")
    if name not in EXAMPLE_INFOS:
        raise UsageError.unknown_name("example", name, EXAMPLE_INFOS)
    parts = EXAMPLE_INFOS[name].parts
    if (part or parts[0]) not in parts:
        raise UsageError.unknown_name("part", part, parts, file=f"{EXAMPLE_PREFIX}{name}")
    return EXAMPLE_INFOS[name], part or parts[0]

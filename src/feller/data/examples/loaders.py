"""Small sets of data that need no download; `NOTICE.md` beside this file has sources and licences."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from feller.data.examples.adult import adult, adult_cells
from feller.data.examples.backbones import protein_chains, protein_chains_with_sequences
from feller.data.examples.cells import cells
from feller.data.examples.checkerboard import checkerboard, inside
from feller.data.examples.digits import digits
from feller.data.examples.jacksboro import jacksboro
from feller.data.examples.molecules import small_molecules
from feller.data.examples.moons import moons
from feller.data.examples.perovskites import perovskites
from feller.data.examples.registry import SHIPPED, Shipped
from feller.data.examples.shakespeare import shakespeare, shakespeare_text
from feller.data.examples.spoken_words import FOLDER, spoken_words, spoken_words_found
from feller.data.examples.torsions import torsion_angles
from feller.data.examples.volcano import volcano
from feller.data.loading.raw import Found
from feller.data.modality import Dataset

__all__ = ["EXAMPLES", "Example", "inside"]


@dataclass(frozen=True)
class Example:
    """One set of data, with a part to train on and one to test on."""

    about: Shipped
    load: Callable[[str], Dataset]
    """Part -> its examples; the same on every call."""
    inside: Callable[[Float[Tensor, "n d"]], Bool[Tensor, " n"]] | None = None
    """Which points lie where the data can be; None where nobody can tell."""
    found: Callable[[str], Found] | None = None
    """Part -> what its file holds, for texts and tables, which can be read in many ways; else None."""
    folder: pathlib.Path | None = None
    """Files that it is made of, as a user's own would be, where these are worth a look; else None."""
    by_name: bool = False
    """Whether older runs know it by its name alone: their fingerprints hold bits that depend on the processor."""


EXAMPLES = {
    example.about.name: example
    for example in (
        Example(SHIPPED["digits"], digits),
        Example(SHIPPED["adult"], adult, found=adult_cells),
        Example(SHIPPED["moons"], moons, by_name=True),
        Example(SHIPPED["backbones"], protein_chains),
        Example(SHIPPED["proteins"], protein_chains_with_sequences),
        Example(SHIPPED["molecules"], small_molecules),
        Example(SHIPPED["perovskites"], perovskites),
        Example(SHIPPED["cells"], cells),
        Example(SHIPPED["jacksboro"], jacksboro),
        Example(SHIPPED["checkerboard"], checkerboard, inside),
        Example(SHIPPED["volcano"], volcano),
        Example(SHIPPED["torsions"], torsion_angles),
        Example(SHIPPED["shakespeare"], shakespeare, found=shakespeare_text),
        Example(SHIPPED["spoken-words"], spoken_words, found=spoken_words_found, folder=FOLDER, by_name=True),
    )
}

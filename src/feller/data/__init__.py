"""Data: what files hold, what it means, and how it goes back into files."""

from feller.data.backbones import Backbones
from feller.data.batches import Batch, batches
from feller.data.crystals.modality import Crystals
from feller.data.earth import Earth
from feller.data.examples import EXAMPLES, Example
from feller.data.geometric import Geometric
from feller.data.images import Images
from feller.data.labelled import Labelled
from feller.data.modality import Dataset, Modality
from feller.data.molecules.modality import Molecules
from feller.data.points import Points
from feller.data.proteins import Proteins
from feller.data.read import read
from feller.data.rows import Rows
from feller.data.split import split
from feller.data.text.modality import Text
from feller.data.text.subwords import Subwords
from feller.data.text.vocabulary import Bytes, Characters, Vocabulary
from feller.data.torsions import Torsions
from feller.tree import Given

__all__ = [
    "EXAMPLES",
    "Backbones",
    "Batch",
    "Bytes",
    "Characters",
    "Crystals",
    "Dataset",
    "Earth",
    "Example",
    "Geometric",
    "Given",
    "Images",
    "Labelled",
    "Modality",
    "Molecules",
    "Points",
    "Proteins",
    "Rows",
    "Subwords",
    "Text",
    "Torsions",
    "Vocabulary",
    "batches",
    "read",
    "split",
]

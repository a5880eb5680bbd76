"""Data: what files hold, what it means, and how it goes back into files."""

from feller.data.batches import Batch, batches
from feller.data.crystals.modality import Crystals
from feller.data.documents.modality import Documents
from feller.data.documents.palette import Palette
from feller.data.documents.tiles import Tiles
from feller.data.examples import EXAMPLES, Example
from feller.data.images.labelled import Labelled
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Modality
from feller.data.molecules.modality import Molecules
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.modality import Proteins
from feller.data.read import read
from feller.data.rows.earth import Earth
from feller.data.rows.geometric import Geometric
from feller.data.rows.modality import Rows
from feller.data.rows.points import Points
from feller.data.rows.torsions import Torsions
from feller.data.speech.modality import Speech
from feller.data.speech.sounds import Sounds
from feller.data.split import split
from feller.data.table.mixed import Mixed
from feller.data.table.modality import Table
from feller.data.table.schema import Schema
from feller.data.text.modality import Text
from feller.data.text.subwords import Subwords
from feller.data.text.vocabulary import Bytes, Characters, Vocabulary
from feller.tree import Given

__all__ = [
    "EXAMPLES",
    "Backbones",
    "Batch",
    "Bytes",
    "Characters",
    "Crystals",
    "Dataset",
    "Documents",
    "Earth",
    "Example",
    "Geometric",
    "Given",
    "Images",
    "Labelled",
    "Mixed",
    "Modality",
    "Molecules",
    "Palette",
    "Points",
    "Proteins",
    "Rows",
    "Schema",
    "Sounds",
    "Speech",
    "Subwords",
    "Table",
    "Text",
    "Tiles",
    "Torsions",
    "Vocabulary",
    "batches",
    "read",
    "split",
]

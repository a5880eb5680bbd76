"""Data: what files hold, what it means, and how it goes back into files."""

from feller.data.batches import Batch, batches
from feller.data.examples import EXAMPLES, Example
from feller.data.found import Given
from feller.data.images import Images
from feller.data.modality import Dataset, Modality
from feller.data.points import Points
from feller.data.read import read
from feller.data.split import split

__all__ = [
    "EXAMPLES",
    "Batch",
    "Dataset",
    "Example",
    "Given",
    "Images",
    "Modality",
    "Points",
    "batches",
    "read",
    "split",
]

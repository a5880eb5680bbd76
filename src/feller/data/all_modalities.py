"""All modalities and image codecs, imported together so that a run record can name any of them."""

from feller.data.arrays.modality import Arrays
from feller.data.crystals.modality import Crystals
from feller.data.documents.modality import Documents
from feller.data.documents.tiles import Palette, Tiles
from feller.data.images.labelled_images import LabelledImages
from feller.data.images.modality import Images
from feller.data.molecules.modality import Molecules
from feller.data.points.earth import Earth
from feller.data.points.euclidean_points import Points
from feller.data.points.manifold_points import ManifoldPoints
from feller.data.points.torsions import Torsions
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.modality import Proteins
from feller.data.speech.modality import Speech
from feller.data.speech.sounds import Waveforms
from feller.data.tables.histories import Histories
from feller.data.tables.linked_tables import LinkedTables
from feller.data.tables.mixed_table import MixedTable
from feller.data.tables.modality import Table
from feller.data.text.modality import Text
from feller.data.text.subwords import Subwords

MODALITIES = (
    *(
        Arrays,
        Backbones,
        Crystals,
        Documents,
        Earth,
        Histories,
        LinkedTables,
        ManifoldPoints,
        Images,
        LabelledImages,
        MixedTable,
        Molecules,
        Points,
        Proteins,
        Waveforms,
    ),
    *(Speech, Table, Text, Torsions),
)
RECORDED = (Palette, Subwords, Tiles)
"""Classes that run records store as fields of modalities; imported here because no modality module imports them."""

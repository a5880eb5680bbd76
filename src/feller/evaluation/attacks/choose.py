"""Which distance suits which kind of data."""

from feller.data.crystals.modality import Crystals
from feller.data.images.modality import Images
from feller.data.modality import Modality
from feller.data.molecules.modality import Molecules
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.modality import Proteins
from feller.data.text.text_modality import Text
from feller.evaluation.attacks.clouds import Clouds
from feller.evaluation.attacks.distances import Coordinates, Curved, Symbols
from feller.evaluation.attacks.lattices import Lattices
from feller.evaluation.attacks.measure import Apart
from feller.evaluation.attacks.passages import Passages
from feller.evaluation.attacks.structure_distances import Chains
from feller.evaluation.periodic import has
from feller.spaces import Euclidean, Product, Space, Tokens
from feller.spaces.table_tokens import Rows

PICTURES = 0.1
"""Share of the usual distance below which a picture is a copy: with so many numbers, none is by chance."""
WHY_NOT = "copies are not looked for among crystals: pymatgen is not installed"


def apart_of(kind: Modality) -> Apart | None:
    """Return how far examples of a kind are apart; None where a package that is needed is not there."""
    match kind:
        case Molecules():
            return Clouds()
        case Crystals():
            return Lattices() if has("pymatgen") else None
        case Backbones() | Proteins():
            return Chains()
        case Text():
            return Passages()
        case Images():
            return Coordinates(PICTURES)
    space = kind.space()
    if _is_made_of(space, Tokens, Rows):
        return Symbols()
    return Coordinates() if _is_made_of(space, Euclidean, Tokens, Rows) else Curved()


def _is_made_of(space: Space, *kinds: type[Space]) -> bool:
    if isinstance(space, Product):
        return all(_is_made_of(part, *kinds) for part in space.parts.values())
    return isinstance(space, kinds)

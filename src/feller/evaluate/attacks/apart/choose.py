"""Which distance suits which kind of data."""

from feller.data import Backbones, Crystals, Images, Molecules, Proteins, Text
from feller.data.modality import Modality
from feller.evaluate.attacks.apart.chains import Chains
from feller.evaluate.attacks.apart.clouds import Clouds
from feller.evaluate.attacks.apart.coordinates import Coordinates, Curved, Symbols
from feller.evaluate.attacks.apart.lattices import Lattices
from feller.evaluate.attacks.apart.measure import Apart
from feller.evaluate.attacks.apart.passages import Passages
from feller.evaluate.periodic import has
from feller.spaces import Euclidean, Product, Space, Tokens
from feller.spaces.rows import Rows

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

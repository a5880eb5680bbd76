"""One molecule, and which of its atoms are neighbours."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from feller.data.atoms.elements import RADII

STRETCH = 1.3
"""Factor on the sum of two radii up to which atoms are bonded."""


@dataclass(frozen=True, eq=False)
class Molecule:
    """Atoms as a file has them."""

    name: str
    """Where it stands, for people."""
    atoms: Int[np.ndarray, " l"]
    """Atomic numbers."""
    places: Float[np.ndarray, "l 3"]
    """In Å."""
    charge: int = 0
    """In electron charges, where the file says it."""
    drawn: bool = False
    """It is a drawing in two dimensions."""
    told: dict[str, float] = field(default_factory=dict)
    """Numbers that the file tells of it."""
    aside: tuple[str, ...] = ()
    """Names of what else the file tells of it, which is not kept."""

    def distances(self) -> Float[np.ndarray, "l l"]:
        """Return how far each two atoms are apart, in Å."""
        return np.linalg.norm(self.places[:, None] - self.places, axis=2)

    def bonded(self) -> Bool[np.ndarray, "l l"]:
        """Tell which two atoms are near enough for a bond, whatever its order."""
        radii = RADII[self.atoms]
        near = self.distances() < STRETCH * (radii[:, None] + radii)
        return near & ~np.eye(len(near), dtype=bool)

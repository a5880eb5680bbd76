"""What a person asks of data while they are read."""

from dataclasses import dataclass

from feller.data.names import torsions_among
from feller.data.sizes import LONGEST
from feller.data.tables import Choose


@dataclass(frozen=True)
class Asked:
    """How large examples may be, and which columns count."""

    size: int | None = None
    """Longer side that pictures shall have, in pixels; None to keep it up to `limit`. Of chains, the most residues; of
    molecules and crystals, the most atoms."""
    limit: int | None = LONGEST
    """Longest side that is kept; None for no limit, also to chains, molecules and crystals."""
    choose: Choose = torsions_among
    """Which columns of a table are read, where cells are missing."""

    def most(self, usual: int) -> int | None:
        """Return the number of parts beyond which an example is left out, `usual` where none is asked for."""
        return self.size or (None if self.limit is None else usual)

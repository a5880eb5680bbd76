"""What a person asks of data while they are read."""

from dataclasses import dataclass

from feller.core.errors import InputError
from feller.data.images.resize import LONGEST
from feller.data.loading.raw import Found
from feller.data.points.columns import torsions_among
from feller.data.points.tables import Choose


@dataclass(frozen=True)
class Asked:
    """How large examples may be, and which columns count."""

    size: int | None = None
    """Longer side that pictures shall have, in pixels; None to keep it up to `limit`. Of chains, the most residues; of
    molecules and crystals, the most atoms; of speech, the most seconds."""
    limit: int | None = LONGEST
    """Longest side that is kept; None for no limit, also to chains, molecules, crystals and speech."""
    choose: Choose = torsions_among
    """Which columns of a table are read, where cells are missing."""
    kind: type[Found] = Found
    """What must be there: where it is something else, that is told before any example is left out."""

    def check(self, kind: type[Found]) -> None:
        """Refuse what is of another kind than what must be there; InputError if it is."""
        if not (issubclass(kind, self.kind) or issubclass(self.kind, kind)):
            raise InputError(self.kind.name, kind.name)

    @property
    def as_they_are(self) -> bool:
        """Whether all is taken as it is, as samples must be, without a limit or a look at what is damaged."""
        return self.size is None and self.limit is None

    def most(self, usual: int) -> int | None:
        """Return the number of parts beyond which an example is left out, `usual` where none is asked for."""
        return None if self.as_they_are else self.size or usual

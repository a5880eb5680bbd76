"""What a person asks of data while they are read."""

from dataclasses import dataclass

from feller.core.errors import InputError
from feller.data.images.image_resizing import MAX_SIDE
from feller.data.loading.raw import RawExamples
from feller.data.points.columns import torsions_among
from feller.data.points.number_tables import ColumnSelector


@dataclass(frozen=True)
class ReadOptions:
    """How large examples may be, and which columns count."""

    size: int | None = None
    """Longer side that pictures shall have, in pixels; None to keep it up to `limit`. Of chains, the most residues; of
    molecules and crystals, the most atoms; of speech, the most seconds."""
    limit: int | None = MAX_SIDE
    """Longest side that is kept; None for no limit, also to chains, molecules, crystals and speech."""
    select_columns: ColumnSelector = torsions_among
    """Which columns of a table are read, where cells are missing."""
    raw_type: type[RawExamples] = RawExamples
    """What must be there: where it is something else, that is told before any example is left out."""

    def check_type(self, kind: type[RawExamples]) -> None:
        """Refuse what is of another kind than what must be there; InputError if it is."""
        if not (issubclass(kind, self.raw_type) or issubclass(self.raw_type, kind)):
            raise InputError(self.raw_type.name, kind.name)

    @property
    def is_unlimited(self) -> bool:
        """Whether all is taken as it is, as samples must be, without a limit or a look at what is damaged."""
        return self.size is None and self.limit is None

    def max_parts(self, default: int) -> int | None:
        """Return the number of parts beyond which an example is left out, `default` where none is asked for."""
        return None if self.is_unlimited else self.size or default

"""Options of the file readers."""

from dataclasses import dataclass

from feller.core.errors import InputError
from feller.data.images.image_resizing import MAX_SIDE
from feller.data.loading.raw import RawExamples
from feller.data.points.columns import torsions_among
from feller.data.points.number_tables import ColumnSelector


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading files: size limits, selected columns and expected type of the examples."""

    size: int | None = None
    """For images, the target longer side in pixels; None leaves it unchanged up to `limit`. For other data, the maximum
    number of residues of chains, atoms of molecules and crystals, or seconds of speech."""
    limit: int | None = MAX_SIDE
    """Longer side above which images are downscaled; None for no size limit of any kind, as for generated samples."""
    select_columns: ColumnSelector = torsions_among
    """Selector of table columns that may have missing cells."""
    raw_type: type[RawExamples] = RawExamples
    """Required type; another type is an error before any example is dropped."""

    def check_type(self, kind: type[RawExamples]) -> None:
        """Raise InputError if a type is not compatible with the required type."""
        if not (issubclass(kind, self.raw_type) or issubclass(self.raw_type, kind)):
            raise InputError(self.raw_type.name, kind.name)

    @property
    def is_unlimited(self) -> bool:
        """True if examples are read unchanged and unchecked, as generated samples must be."""
        return self.size is None and self.limit is None

    def max_parts(self, default: int) -> int | None:
        """Return the maximum size of an example: `size` if set, else `default`; None if unlimited."""
        return None if self.is_unlimited else self.size or default

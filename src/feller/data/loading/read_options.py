"""Options of the file readers."""

from dataclasses import dataclass

from feller.core.errors import InputError
from feller.data.images.image_resizing import MAX_SIDE, Size
from feller.data.loading.class_folders import DEFAULT_FOLDERS, FolderOptions
from feller.data.loading.raw import RawExamples
from feller.data.points.columns import torsions_among
from feller.data.points.number_tables import ColumnSelector


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading files: size limits, selected columns and expected type of the examples."""

    size: int | None = None
    """For images, the longer side after resizing, in pixels; None keeps images unchanged up to `limit`. For other data,
    the maximum size of an example: residues of a chain, atoms of a molecule or crystal, or seconds of speech."""
    limit: int | None = MAX_SIDE
    """Longer side in pixels above which images are downscaled; None for no size limit on any type of data, as is needed
    for generated samples."""
    select_columns: ColumnSelector = torsions_among
    """Function that selects the columns of a table to read; the selected columns may have missing cells."""
    condition: tuple[str, ...] = ()
    """Names of the columns of a table, or arrays of a file, that are conditions and no part of the examples."""
    folders: FolderOptions = DEFAULT_FOLDERS
    """Folders and links that are followed in a folder of images or texts."""
    image_size: Size | None = None
    """Width and height of images, to which they are cropped and resized; None for the common size of the images."""
    raw_type: type[RawExamples] = RawExamples
    """Required type of raw examples; any other type raises an error before examples are dropped."""

    def check_type(self, kind: type[RawExamples]) -> None:
        """Raise an InputError if a type of raw examples is not compatible with the required type."""
        if not (issubclass(kind, self.raw_type) or issubclass(self.raw_type, kind)):
            raise InputError(self.raw_type.name, kind.name)

    @property
    def is_unlimited(self) -> bool:
        """True if examples are read without changes and checks, as is needed for generated samples."""
        return self.size is None and self.limit is None

    def max_parts(self, default: int) -> int | None:
        """Return the maximum size of an example: `size` if it is set, else `default`.

        None if the options disable all limits (`is_unlimited`), as for generated samples.
        """
        return None if self.is_unlimited else self.size or default

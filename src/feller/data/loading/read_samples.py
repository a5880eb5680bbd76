"""Files read by the modality of a model: its samples, and parts of a state that a person names a file for."""

import pathlib

from torch import Tensor

from feller.core.errors import UsageError
from feller.core.output_shards import MANIFEST, shards
from feller.core.pytree import Given, State, concatenate
from feller.data.loading.find import find, find_texts
from feller.data.loading.raw import FoundTexts, about
from feller.data.loading.read_options import Asked
from feller.data.modality import Modality


def read_back(path: pathlib.Path, modality: Modality) -> tuple[State, Given]:
    """Read values and conditions that a modality wrote, as they are: a file, a folder, or all shards of one.

    Raises:
        InputError: If they are damaged or of another kind.
    """
    if (path / MANIFEST).is_file():
        found = shards(path)
        found.check()
        values, given = zip(*(read_back(one, modality) for one in found), strict=True)
        return concatenate(*values), concatenate(*given)
    with about(path):
        if modality.holds is FoundTexts:
            return modality.accept(find_texts(path))
        return modality.accept(find(path, Asked(limit=None, choose=modality.choose, kind=modality.holds)))


def give(modality: Modality, leaf: str, text: str) -> tuple[Tensor | dict[str, Tensor], dict[str, int]]:
    """Return a leaf of a state, [1, ...], from what a person writes or from the file that they name.

    Returns:
        The leaf, or several by their names, and the conditions that follow from it.

    Raises:
        UsageError: If the text does not say it, or there is no such file.
        InputError: If the file is damaged or of another kind.
    """
    if leaf not in modality.filed:
        return modality.give(leaf, text)
    path = pathlib.Path(text)
    if not path.is_file():
        raise UsageError(f"{leaf} names a file with {modality.filed[leaf]}, and there is none at {text}")
    with about(path):
        return modality.take(leaf, find(path, Asked(limit=None, kind=modality.holds)))

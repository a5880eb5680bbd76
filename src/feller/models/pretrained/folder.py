"""Models in folders that `save_pretrained` wrote."""

import pathlib
from collections.abc import Sequence

from feller.core.errors import UsageError
from feller.core.pretrained_folder import CONFIG, INDEX, read_config
from feller.models.model import Model
from feller.models.pretrained.diffusers_folder import load_diffusers
from feller.models.pretrained.transformers_folder import load_language_model


def load_pretrained(folder: pathlib.Path, size: tuple[int, int] | None = None, classes: Sequence[str] = ()) -> Model:
    """Return the model in a folder that `save_pretrained` wrote, with its weights; nothing in it is executed.

    Args:
        folder: Folder of a pipeline of diffusers, of one of its networks with a scheduler_config.json, or of a language
            model of transformers.
        size: Height and width of images; by default those on which the network was trained.
        classes: Names of the classes; by default those of the folder, or numbers.

    Raises:
        InputError: If files are missing, damaged or pickled, or of unknown classes.
        UsageError: If a package is not installed, or an argument does not fit.
    """
    if not (folder / INDEX).is_file() and "_class_name" not in read_config(folder / CONFIG):
        if size is not None or classes:
            argument = "classes" if classes else "modality"
            raise UsageError("a folder of diffusers", f"{folder}, a language model", "Leave it out", argument=argument)
        return load_language_model(folder)
    return load_diffusers(folder, size, classes)

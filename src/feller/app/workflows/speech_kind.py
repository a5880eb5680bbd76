"""Models of speech, told from others."""

from feller.app.workflows.require_modality import kind_as
from feller.core.errors import UsageError
from feller.data.speech.speech_modality import Speech
from feller.models.model import Model
from feller.paths import Affine


def require_speech(model: Model) -> Speech:
    """Return the modality of a model of speech.

    Raises:
        UsageError: If it is of other data.
    """
    return kind_as(model, Speech, "texts and voices are of speech")


def path_of(model: Model) -> Affine:
    """Return the path of a model that draws frames.

    Raises:
        UsageError: If it has another.
    """
    path = model.description.path
    if isinstance(path, Affine):
        return path
    raise UsageError(
        f"expected a model that draws frames, got a path {type(path).__name__}; fit one with --recipe speech"
    )

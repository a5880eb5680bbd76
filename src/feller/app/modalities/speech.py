"""Speech, and sounds alone."""

from typing import cast

from feller.app.modalities.registration import Registration, lazy_function, require_modality
from feller.core.errors import UsageError
from feller.data.speech.modality import Speech
from feller.data.speech.sounds import Waveforms
from feller.models.model import Model
from feller.paths import Affine


def require_speech(model: Model) -> Speech:
    """Return the modality of a model of speech.

    Raises:
        UsageError: If it is of other data.
    """
    return require_modality(model, Speech, "texts and voices are of speech")


def require_affine_path(model: Model) -> Affine:
    """Return the path of a model that draws frames.

    Raises:
        UsageError: If it has another.
    """
    if model.family.is_process and model.spec.path.affine_schedule is not None:
        return cast(Affine, model.spec.path)
    raise UsageError("a model that draws frames", f"one that {model.family.describe()}", "Fit one with --recipe speech")


REGISTRATIONS = {
    Waveforms: Registration(),
    Speech: Registration(
        recipe="speech",
        evaluate=lazy_function("app.workflows.speech.evaluate_speech", "evaluate_speech"),
        output="speech",
    ),
}

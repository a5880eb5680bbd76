"""Registrations of the modalities for speech and for waveforms."""

from typing import cast

from feller.app.modalities.registration import Registration, lazy_function, require_modality
from feller.core.errors import UsageError
from feller.data.speech.modality import Speech
from feller.data.speech.sounds import Waveforms
from feller.models.model import Model
from feller.paths import Affine


def require_speech(model: Model) -> Speech:
    """Return the modality of a speech model; UsageError if the model has another modality."""
    return require_modality(model, Speech, "texts and voices require a model of speech")


def require_affine_path(model: Model) -> Affine:
    """Return the affine path of a model that generates mel frames; UsageError if the path is not affine."""
    if model.family.is_process and model.spec.path.affine_schedule is not None:
        return cast(Affine, model.spec.path)
    raise UsageError(
        "a flow model of mel frames", f"a model that {model.family.describe()}", "Fit a model with --recipe speech"
    )


REGISTRATIONS = {
    Waveforms: Registration(),
    Speech: Registration(
        recipe="speech",
        evaluate=lazy_function("app.workflows.speech.evaluate_speech", "evaluate_speech"),
        output="speech",
    ),
}

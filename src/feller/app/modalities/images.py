"""Pictures, and pictures with their labels."""

from collections.abc import Iterator

from torch import Tensor

from feller.app.modalities.registration import Display, Registration
from feller.data.images.labelled_images import LabelledImages
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.evaluation.attacks.example_distances import CoordinateDistance
from feller.models.spec import ModelSpec

COPIED = 0.1
"""Share of the usual distance below which a picture is a copy: with so many numbers, none is by chance."""
SHOWN = Display(n=64, watched=25)


def drawn_label(data: Dataset) -> Tensor:
    """Return the labels that are drawn with pictures."""
    return data.values["label"]


def labels_wanted(about: ModelSpec, first: Dataset) -> Iterator[tuple[str, str]]:
    """Yield the label that pictures may be asked for."""
    kind = about.modality
    if isinstance(kind, LabelledImages) and "label" in about.conditionable:
        yield f"label={kind.images.classes[0]}", "pictures of one class"


REGISTRATIONS = {
    Images: Registration(recipe="images", display=SHOWN, apart=lambda kind: CoordinateDistance(copy_fraction=COPIED)),
    LabelledImages: Registration(recipe="image-label", display=SHOWN, label=drawn_label, wishes=labels_wanted),
}

"""Registrations of the modalities for images, with and without labels."""

from collections.abc import Iterator

from torch import Tensor

from feller.app.modalities.registration import Display, Registration, lazy_function
from feller.data.images.labelled_images import LabelledImages
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.evaluation.attacks.example_distances import CoordinateDistance
from feller.models.spec import ModelSpec

COPY_DISTANCE_FRACTION = 0.1
"""Fraction of the typical distance between images below which a sample counts as a copy of a training image; in high
dimensions, samples do not come this close by chance."""
DISPLAY = Display(n=64, max_animated=25)


def generated_labels(data: Dataset) -> Tensor:
    """Return the class labels in `data`, which the model generated together with the images."""
    return data.values["label"]


def label_example(spec: ModelSpec, first: Dataset) -> Iterator[tuple[str, str]]:
    """Yield an example condition as (KEY=VALUE, description): the first class."""
    modality = spec.modality
    if isinstance(modality, LabelledImages) and "label" in spec.conditionable:
        yield f"label={modality.images.classes[0]}", "images of one class"


REGISTRATIONS = {
    Images: Registration(
        recipe="images",
        choose_recipe=lazy_function("models.recipes.photographs", "default_image_recipe"),
        display=DISPLAY,
        distance=lambda kind: CoordinateDistance(copy_fraction=COPY_DISTANCE_FRACTION),
    ),
    LabelledImages: Registration(
        recipe="image-label", display=DISPLAY, label=generated_labels, condition_examples=label_example
    ),
}

"""Registration of the modality of arrays with channels."""

from PIL import Image

from feller.app.modalities.registration import Display, ImagePair, Registration, lazy_function
from feller.data.arrays.modality import Arrays
from feller.data.modality import Dataset


def draw_array_pair(first: Dataset, second: Dataset, behind: Dataset | None = None) -> ImagePair:
    """Draw two sets of arrays with the same axes or grey levels, as one image each."""
    return _draw(first, second), _draw(second, first)


def _draw(data: Dataset, other: Dataset) -> Image.Image:
    modality, reference = data.modality, other.modality
    assert isinstance(modality, Arrays)
    assert isinstance(reference, Arrays)
    return modality.show_at_scale_of(data.values, data.given, reference.padded(other.values, other.given))


REGISTRATIONS = {
    Arrays: Registration(
        recipe="arrays",
        measure=lazy_function("evaluation.array_metrics", "arrays_quality"),
        display=Display(n=16),
        beside=draw_array_pair,
    )
}

"""Registrations of the modalities for Euclidean points and points on manifolds."""

from PIL import Image

from feller.app.modalities.registration import Display, ImagePair, Registration, lazy_function
from feller.data.modality import Dataset
from feller.data.points.earth import Earth
from feller.data.points.euclidean_points import Points
from feller.data.points.manifold_points import ManifoldPoints
from feller.data.points.torsions import Torsions

DISPLAY = Display(n=1000, max_n=5000, max_animated=500)


def draw_scatter_pair(first: Dataset, second: Dataset, behind: Dataset | None = None) -> ImagePair:
    """Draw scatter plots of two sets of points with the same axes.

    The points of `behind`, if given, are drawn in grey in the background.
    """
    return _scatter(first, second, behind), _scatter(second, first, behind)


def _scatter(data: Dataset, other: Dataset, background: Dataset | None) -> Image.Image:
    modality = data.modality
    assert isinstance(modality, Points)
    return modality.show_at_scale_of(data, other, background)


MEASURE = lazy_function("evaluation.point_metrics", "points_quality")
ON_MANIFOLDS = Registration(
    recipe="manifold", measure=lazy_function("evaluation.point_metrics", "geometric_quality"), display=DISPLAY
)
REGISTRATIONS = {
    Earth: ON_MANIFOLDS,
    ManifoldPoints: ON_MANIFOLDS,
    Points: Registration(recipe="points", measure=MEASURE, display=DISPLAY, beside=draw_scatter_pair),
    Torsions: ON_MANIFOLDS,
}

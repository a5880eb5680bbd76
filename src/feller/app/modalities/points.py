"""Rows of numbers, points of manifolds, and arrays."""

from PIL import Image

from feller.app.modalities.registration import Display, Pair, Registration, later
from feller.data.modality import Dataset
from feller.data.points.arrays import Arrays
from feller.data.points.earth import Earth
from feller.data.points.euclidean_points import Points
from feller.data.points.manifold_points import ManifoldPoints
from feller.data.points.torsions import Torsions

SHOWN = Display(n=1000, most=5000, watched=500)


def scattered(first: Dataset, second: Dataset, behind: Dataset | None = None) -> Pair:
    """Draw two sets of points on the same axes, with others in grey behind."""
    return _scatter(first, second, behind), _scatter(second, first, behind)


def _scatter(data: Dataset, other: Dataset, behind: Dataset | None) -> Image.Image:
    kind = data.modality
    assert isinstance(kind, Points)
    return kind.show_at_scale_of(data, other, behind)


MEASURE = later("evaluation.points", "points_quality")
ON_MANIFOLDS = Registration(recipe="manifold", measure=later("evaluation.points", "geometric_quality"), display=SHOWN)
REGISTRATIONS = {
    Arrays: Registration(measure=MEASURE),
    Earth: ON_MANIFOLDS,
    ManifoldPoints: ON_MANIFOLDS,
    Points: Registration(recipe="points", measure=MEASURE, display=SHOWN, beside=scattered),
    Torsions: ON_MANIFOLDS,
}

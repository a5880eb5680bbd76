"""Points of a curved space, in the coordinates around it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from PIL import Image
from torch import Tensor

from feller.core.pytree import Given
from feller.data.fingerprints import print_of
from feller.data.labels import relabel
from feller.data.loading.raw import Found, FoundRows
from feller.data.modality import Dataset, check_finite_state
from feller.data.points.belonging import belong
from feller.data.points.charts import Chart
from feller.data.points.columns import arrange, check_names
from feller.data.points.figure import scatter
from feller.data.points.globe import globe
from feller.data.points.modality import Rows
from feller.spaces import Manifold, Sphere

Place = tuple[Manifold, Chart, tuple[str, ...]]
"""A space, how rows stand for its points, and names for columns that have none."""


@dataclass(frozen=True)
class Geometric(Rows):
    """Rows that stand for points of a manifold; densities are those with respect to its volume."""

    called = "points of a space"
    computes = True

    columns: tuple[str, ...]  # pyrefly: ignore
    manifold: Manifold
    chart: Chart
    classes: tuple[str, ...] = ()  # pyrefly: ignore

    @property
    def log_scale(self) -> float:
        """That of the chart."""
        return self.chart.log_scale

    def space(self) -> Manifold:
        """Return the manifold."""
        return self.manifold

    def encode(self, values: Float[Tensor, "n d"]) -> Float32[Tensor, " n *point"]:
        """Read rows as points."""
        return self.chart.read(values.double()).float()

    def decode(self, state: Float[Tensor, " n *point"]) -> Float64[Tensor, "n d"]:
        """Write points as rows."""
        check_finite_state(state)
        return self.chart.write(self.manifold.project(state.double()))

    def accept(self, found: Found) -> tuple[Tensor, Given]:
        """Put columns into our order, by name if the file has names, and number labels by our classes."""
        values = torch.from_numpy(arrange(found, self.columns))
        return belong(found, values, self.chart, self.manifold, project=False)[0], relabel(found, self.classes)

    def draw(self, samples: np.ndarray, labels: np.ndarray | None, across: int | None) -> Image.Image:
        """Draw a globe, or one panel for each two neighbouring columns."""
        if self.manifold == Sphere(2):
            return globe(samples, labels, self.classes, across)
        return scatter(samples, self.columns, labels, self.classes, across)


def geometric(found: FoundRows, place: Place, *, project: bool) -> Dataset:
    """Make a data set of points of a space.

    Args:
        found: The file.
        place: The space.
        project: Move points that lie beside it to the nearest that do not.

    Raises:
        InputError: If points lie beside the space.
    """
    manifold, chart, names = place
    modality = Geometric(check_names(found.columns) or names, manifold, chart, found.classes)
    values = torch.from_numpy(arrange(found, modality.columns))
    exact, notes = belong(found, values, chart, manifold, project=project)
    taken = f"taken as points of {type(manifold).__name__}, {manifold.dimension} degrees of freedom each"
    notes = (*found.notes, taken, *notes)
    return Dataset(exact, relabel(found, modality.classes), modality, notes, print=print_of(found))

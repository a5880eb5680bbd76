"""Points of a manifold in ambient coordinates: charts for table rows, constraints and the modality."""

import abc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError
from feller.core.pytree import Cond
from feller.data.fingerprints import fingerprint_of
from feller.data.labels import relabel
from feller.data.loading.raw import RawExamples, RawPoints
from feller.data.modality import Dataset, check_finite_state
from feller.data.points.columns import check_names, columns_in_order
from feller.data.points.earth import globe
from feller.data.points.figure import scatter
from feller.data.points.modality import NumericRows
from feller.spaces import SO3, SPD, Manifold, Poincare, Simplex, Sphere
from feller.spaces.manifold import LARGEST_ERROR
from feller.spaces.rotations import from_quaternion, to_quaternion


class Chart(abc.ABC):
    """Map between table rows [n, d] and manifold points [n, ...], in float64."""

    @abc.abstractmethod
    def read(self, values: Float[Tensor, "n d"]) -> Float[Tensor, " n *point"]:
        """Convert table rows of coordinates to manifold points."""

    @abc.abstractmethod
    def write(self, points: Float[Tensor, " n *point"]) -> Float[Tensor, "n d"]:
        """Convert manifold points to table rows of their coordinates."""

    @property
    def log_scale(self) -> float:
        """Log of the volume of a region in the coordinates of table rows, divided by its volume as manifold points."""
        return 0.0


@dataclass(frozen=True)
class Entries(Chart):
    """Chart whose columns are the ambient coordinates of a point, flattened in row-major order."""

    shape: tuple[int, ...]

    def read(self, values: Float[Tensor, "n d"]) -> Float[Tensor, " n *point"]:
        return values.reshape(len(values), *self.shape)

    def write(self, points: Float[Tensor, " n *point"]) -> Float[Tensor, "n d"]:
        return points.flatten(1)


@dataclass(frozen=True)
class Quaternions(Chart):
    """Chart of rotations as unit quaternions. Both q and -q are read; the one with real part >= 0 is written."""

    places: tuple[int, int, int, int] = (0, 1, 2, 3)
    """Column indices of the quaternion components w, x, y and z."""

    def read(self, values: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3 3"]:
        values = values[:, list(self.places)]
        return from_quaternion(values / values.norm(dim=1, keepdim=True))

    def write(self, points: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 4"]:
        identity = torch.eye(3, dtype=points.dtype, device=points.device)
        values = torch.empty(len(points), 4, dtype=points.dtype, device=points.device)
        values[:, list(self.places)] = to_quaternion(points - identity)
        return values


@dataclass(frozen=True)
class Triangle(Chart):
    """Chart of symmetric matrices, given by their lower triangle in row-major order: 11, 21, 22, 31, ..."""

    n: int
    """Number of rows of the matrices."""

    def read(self, values: Float[Tensor, "n d"]) -> Float[Tensor, "n k k"]:
        row, column = torch.tril_indices(self.n, self.n)
        points = values.new_empty(len(values), self.n, self.n)
        points[:, row, column] = points[:, column, row] = values
        return points

    def write(self, points: Float[Tensor, "n k k"]) -> Float[Tensor, "n d"]:
        row, column = torch.tril_indices(self.n, self.n)
        return points[:, row, column]


@dataclass(frozen=True)
class ShiftedScaled(Chart):
    """Chart of points on a surface in 3D: (row - `centre`) / `scale`, so that the surface has a size of about 1."""

    centre: tuple[float, float, float]
    scale: float
    """Length in user coordinates of one unit in model coordinates."""

    def read(self, values: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        return (values - values.new_tensor(self.centre)) / self.scale

    def write(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        return points * self.scale + points.new_tensor(self.centre)

    @property
    def log_scale(self) -> float:
        return 2 * math.log(self.scale)


ALMOST_NOTHING = 1e-6
ROOM = 2e-5
"""Smallest distance from the boundary of the unit ball that float32 resolves."""


@dataclass(frozen=True)
class ManifoldConstraint:
    """Condition that points of a space must satisfy, and the error text for points that violate it."""

    measure: Callable[[Tensor], Tensor]
    """Function from points [n, ...] to the quantity that the error text states, [n]."""
    violated: Callable[[Tensor], Tensor]
    """Function from points [n, ...] to the mask of points that violate the constraint, [n]."""
    text: str
    """Error text, in which {} stands for the quantity."""
    can_project: bool = True
    """True if projection onto the space repairs violations."""
    hint: str = "correct or remove those rows"


def _norm(points: Float[Tensor, " n *d"]) -> Float[Tensor, " n"]:
    return points.flatten(1).norm(dim=1)


def _long(points: Float[Tensor, " n *d"]) -> Bool[Tensor, " n"]:
    return (_norm(points) - 1).abs() > LARGEST_ERROR


def _short(points: Float[Tensor, " n *d"]) -> Bool[Tensor, " n"]:
    return _norm(points) < ALMOST_NOTHING


def _turns_over(matrices: Float[Tensor, "n 3 3"]) -> Bool[Tensor, " n"]:
    """Return the mask of singular matrices and reflections, by sign(det) times the smallest singular value."""
    singular_values = torch.linalg.svdvals(matrices)
    return (matrices.det().sign() * singular_values[:, -1]) <= LARGEST_ERROR * singular_values[:, 0]


def _strain(matrices: Float[Tensor, "n 3 3"]) -> Float[Tensor, " n"]:
    return _norm(matrices.mT @ matrices - torch.eye(3, dtype=matrices.dtype))


def _asymmetry(matrices: Float[Tensor, "n k k"]) -> Float[Tensor, " n"]:
    """Return ||A - A^T|| / ||A||."""
    return _norm(matrices - matrices.mT) / _norm(matrices).clamp_min(torch.finfo(matrices.dtype).tiny)


def _least_eigenvalue(matrices: Float[Tensor, "n k k"]) -> Float[Tensor, " n"]:
    return torch.linalg.eigvalsh((matrices + matrices.mT) / 2)[:, 0]


def _not_positive(matrices: Float[Tensor, "n k k"]) -> Bool[Tensor, " n"]:
    eigenvalues = torch.linalg.eigvalsh((matrices + matrices.mT) / 2)
    return eigenvalues[:, 0] <= ALMOST_NOTHING * eigenvalues[:, -1].abs()


def _sum(proportions: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    return proportions.sum(1)


def _least(proportions: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    return proportions.amin(1)


UNIT = ManifoldConstraint(_norm, _long, "has the norm {:.6g}, expected 1")
ZERO_NORM = ManifoldConstraint(_norm, _short, "has the norm {:.2g} and no direction, expected 1", can_project=False)
CONSTRAINTS: dict[type, tuple[ManifoldConstraint, ...]] = {
    Quaternions: (ZERO_NORM, UNIT),
    Sphere: (ZERO_NORM, UNIT),
    SO3: (
        ManifoldConstraint(
            torch.linalg.det,
            _turns_over,
            "is not a rotation: the determinant is {:.3g}, expected 1 (it is singular or a reflection)",
            can_project=False,
        ),
        ManifoldConstraint(
            _strain, lambda m: _strain(m) > LARGEST_ERROR, "is not a rotation: R^T R is {:.3g} away from the identity"
        ),
    ),
    Simplex: (
        ManifoldConstraint(_sum, lambda p: _sum(p) <= 0, "sums to {:.6g}, expected 1", can_project=False),
        ManifoldConstraint(
            _sum,
            lambda p: (_sum(p) - 1).abs() > 0.5,
            "sums to {:.6g}, expected 1",
            can_project=False,
            hint="divide each row by its sum",
        ),
        ManifoldConstraint(_least, lambda p: _least(p) < -LARGEST_ERROR, "has the proportion {:.4g}, expected 0 to 1"),
        ManifoldConstraint(_sum, lambda p: (_sum(p) - 1).abs() > LARGEST_ERROR, "sums to {:.6g}, expected 1"),
    ),
    SPD: (
        ManifoldConstraint(
            _least_eigenvalue,
            _not_positive,
            "is not positive definite: its smallest eigenvalue is {:.3g}",
            can_project=False,
        ),
        ManifoldConstraint(
            _asymmetry,
            lambda m: _asymmetry(m) > LARGEST_ERROR,
            "is not symmetric: the relative difference from its transpose is {:.2g}",
        ),
    ),
    Poincare: (
        ManifoldConstraint(
            _norm,
            lambda x: _norm(x) > 1 - ROOM,
            f"has the norm {{:.6g}}, expected at most {1 - ROOM:g}, inside the unit ball",
            can_project=False,
            hint="remove those rows, or scale the data into the ball",
        ),
    ),
}
"""Constraints on rows by chart type, and on points by space type; constraints that projection cannot repair come
first."""


def _rules(space: Manifold) -> Sequence[ManifoldConstraint]:
    """Return the constraints on points of a space; by default, that they are close to the space."""
    if type(space) in CONSTRAINTS:
        return CONSTRAINTS[type(space)]
    on_space = ManifoldConstraint(
        space.constraint_error,
        lambda x: space.constraint_error(x) > LARGEST_ERROR,
        "is {:.3g} away from the space, in units of its size",
    )
    return (on_space,)


def project_to_space(
    raw: RawExamples, values: Float[Tensor, "n d"], chart: Chart, space: Manifold, *, project: bool
) -> tuple[Float[Tensor, "n d"], tuple[str, ...]]:
    """Project rows exactly onto a space; also return a note if a row moved by more than rounding.

    Args:
        raw: Raw examples, which give the row numbers for errors.
        values: Rows, [n, d].
        chart: Map from rows to points.
        space: Target space.
        project: Accept rows that are off the space, and move them to the nearest point; otherwise they raise an error.

    Raises:
        InputError: If a row is off the space by more than rounding, and `project` is False or projection cannot repair
            it.
    """
    moved = torch.zeros(len(values), dtype=torch.bool)
    moved |= _check(raw, values, CONSTRAINTS.get(type(chart), ()), project=project)
    points = chart.read(values)
    moved |= _check(raw, points, _rules(space), project=project)
    exact = chart.write(space.project(points))
    if not moved.any():
        return exact, ()
    count, most = int(moved.sum()), (exact - values)[moved].norm(dim=1).max()
    return exact, (f"moved {count:,} of {len(values):,} rows to the nearest point of the space, by {most:.3g} at most",)


def _check(
    raw: RawExamples, points: Tensor, constraints: Sequence[ManifoldConstraint], *, project: bool
) -> Bool[Tensor, " n"]:
    """Return the mask of points that violate a constraint and must be projected onto the space.

    InputError if a constraint is violated that projection cannot repair, or `project` is False.
    """
    moved = torch.zeros(len(points), dtype=torch.bool)
    for constraint in constraints:
        violated = constraint.violated(points)
        if violated.any() and not (project and constraint.can_project):
            row = int(violated.nonzero()[0])
            hint = f"{constraint.hint}, or move them to the nearest point with --project"
            if not constraint.can_project:
                hint = f"{constraint.hint}; --project cannot repair this" if project else constraint.hint
            message = constraint.text.format(constraint.measure(points[row : row + 1]).item())
            raise InputError(
                f"{message} ({int(violated.sum())} of {len(points)} rows); {hint}", row=raw.row_number(row)
            )
        moved |= violated
    return moved


SpaceChart = tuple[Manifold, Chart, tuple[str, ...]]
"""Named space: manifold, chart from table rows to points, and default column names."""


@dataclass(frozen=True)
class ManifoldPoints(NumericRows):
    """Modality of rows that represent points of a manifold; densities are with respect to its Riemannian volume."""

    is_manifold = True
    display_name = "points of a manifold"
    has_computed_values = True

    columns: tuple[str, ...]  # pyrefly: ignore
    manifold: Manifold
    chart: Chart
    classes: tuple[str, ...] = ()  # pyrefly: ignore

    @property
    def log_scale(self) -> float:
        return self.chart.log_scale

    def space(self) -> Manifold:
        return self.manifold

    def encode(self, values: Float[Tensor, "n d"]) -> Float32[Tensor, " n *point"]:
        return self.chart.read(values.double()).float()

    def decode(self, state: Float[Tensor, " n *point"]) -> Float64[Tensor, "n d"]:
        check_finite_state(state)
        return self.chart.write(self.manifold.project(state.double()))

    def values_from_raw(self, raw: RawExamples) -> tuple[Tensor, Cond]:
        """Return rows [n, d] with columns in the modality's order, and the conditions.

        The columns of the file are matched by name if it has column names. The conditions hold the class ids `label`,
        and are empty without labels.

        Raises:
            InputError: If a row is off the manifold.
        """
        values = torch.from_numpy(columns_in_order(raw, self.columns))
        return project_to_space(raw, values, self.chart, self.manifold, project=False)[0], relabel(raw, self.classes)

    def plot(self, samples: np.ndarray, labels: np.ndarray | None, across: int | None) -> Image.Image:
        if self.manifold == Sphere(2):
            return globe(samples, labels, self.classes, across)
        return scatter(samples, self.columns, labels, self.classes, across)


def manifold_dataset(raw: RawPoints, space_chart: SpaceChart, *, project: bool) -> Dataset:
    """Build a data set of points on a manifold from the rows of a file.

    Args:
        raw: Rows of a file.
        space_chart: Manifold, chart and default column names.
        project: Move rows that are off the manifold to the nearest point of the manifold.

    Raises:
        InputError: If a row is off the manifold and `project` is False.
    """
    manifold, chart, names = space_chart
    modality = ManifoldPoints(check_names(raw.columns) or names, manifold, chart, raw.classes)
    values = torch.from_numpy(columns_in_order(raw, modality.columns))
    projected, notes = project_to_space(raw, values, chart, manifold, project=project)
    note = f"read as points of {type(manifold).__name__}, dimension {manifold.dimension}"
    notes = (*raw.notes, note, *notes)
    return Dataset(projected, relabel(raw, modality.classes), modality, notes, fingerprint=fingerprint_of(raw))

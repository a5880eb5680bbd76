"""Modality of locations on the earth, given by latitude and longitude, and plots of globes."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError
from feller.core.pytree import Cond
from feller.data.figures import MAX_POINTS, class_masks, figure_to_image, marker_size, panels
from feller.data.labels import relabel
from feller.data.loading.raw import RawExamples, RawPoints
from feller.data.modality import Dataset, check_finite_state
from feller.data.points.columns import angle_unit, check_names, columns_in_order, coordinate_columns, latitude_among
from feller.data.points.modality import NumericRows
from feller.spaces import Sphere

VIEWS = ((0.0, "0°"), (90.0, "90° E"), (180.0, "180°"), (270.0, "90° W"))
"""Central longitude in degrees and title of each view of the globe."""
TILT = 20.0
"""Central latitude of all views of the globe, in degrees."""
EDGE, GRID, SEA = "#8a98a6", "#c9d3dc", "#f3f7fb"


def seen_from(longitude: float, vectors: np.ndarray) -> np.ndarray:
    """Rotate unit vectors [..., 3] into (depth, right, up) of the view centred at `longitude`, in degrees."""
    a, b = np.deg2rad(longitude), np.deg2rad(TILT)
    depth = np.array([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)])
    right = np.array([-np.sin(a), np.cos(a), 0])
    return vectors @ np.stack([depth, right, np.cross(depth, right)], 1)


def graticule() -> list[np.ndarray]:
    """Return meridians and parallels, 30 degrees apart, as curves of unit vectors [k, 3]."""
    circle = np.deg2rad(np.linspace(-180, 180, 241))
    meridians = [(circle[60:181], np.full(121, np.deg2rad(angle))) for angle in range(-180, 180, 30)]
    parallels = [(np.full(241, np.deg2rad(angle)), circle) for angle in range(-60, 90, 30)]
    return [
        np.stack([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], 1)
        for latitude, longitude in (*meridians, *parallels)
    ]


def globe(
    vectors: np.ndarray, labels: np.ndarray | None, classes: tuple[str, ...], across: int | None = None
) -> Image.Image:
    """Plot unit vectors [n, 3] on four orthographic globes, coloured by labels [n], `across` globes in a row."""
    from matplotlib.patches import Circle

    vectors = vectors[:MAX_POINTS]
    figure, all_axes = panels(len(VIEWS), across or 2, width=3.4, height=3.6)
    for axes, (longitude, title) in zip(all_axes, VIEWS, strict=True):
        axes.add_patch(Circle((0, 0), 1, facecolor=SEA, edgecolor=EDGE, linewidth=1, zorder=0))
        for curve in graticule():
            depth, right, up = seen_from(longitude, curve).T
            front = np.where(depth > 0, 1.0, np.nan)
            axes.plot(front * right, front * up, color=GRID, linewidth=0.7, zorder=1)
        depth, right, up = seen_from(longitude, vectors).T
        for colour, rows in class_masks(len(vectors), labels, classes):
            rows = rows & (depth > 0)
            size = 1.6 * marker_size(len(vectors))
            axes.scatter(right[rows], up[rows], s=size, color=colour, linewidths=0, alpha=0.7, zorder=2)
        axes.set(xlim=(-1.03, 1.03), ylim=(-1.03, 1.03), aspect="equal")
        axes.set_axis_off()
        axes.set_title(title, fontsize=10, color="#44505c")
    return figure_to_image(figure, labels, classes)


MIN_ROWS = 20
"""Minimum number of rows for which it is checked whether the values are in radians."""
SPREAD = 1.0
"""Range (maximum minus minimum) above which values count as radians: if both coordinates have a larger range, and all
values are within the limits of radians, an error is raised."""


@dataclass(frozen=True)
class Earth(NumericRows):
    """Modality of latitudes and longitudes in degrees; densities are per area of the unit sphere."""

    is_manifold = True
    display_name = "locations on the earth"

    columns: tuple[str, ...]  # pyrefly: ignore
    """Names of the latitude and longitude columns, in file order."""
    latitude: int = 0
    """Index in `columns` of the latitude column."""
    west: float = -180.0
    """Start in degrees of the range of longitudes, [west, west + 360)."""
    classes: tuple[str, ...] = ()  # pyrefly: ignore

    def __post_init__(self) -> None:
        if len(self.columns) != 2 or self.latitude not in (0, 1):
            raise InputError(
                "two columns, and 0 or 1 as the index of the latitude column",
                f"columns {self.columns} and index {self.latitude}",
            )

    def space(self) -> Sphere:
        return Sphere(2)

    def encode(self, values: Float[Tensor, "n 2"]) -> Float32[Tensor, "n 3"]:
        """Convert degrees to unit vectors; the x axis points to (0° N, 0° E), the z axis to the North Pole."""
        latitude, longitude = self._sorted(values.double().deg2rad()).unbind(1)
        radius = latitude.cos()
        return torch.stack([radius * longitude.cos(), radius * longitude.sin(), latitude.sin()], 1).float()

    def decode(self, state: Float[Tensor, "n 3"]) -> Float64[Tensor, "n 2"]:
        check_finite_state(state)
        x, y, z = state.double().unbind(1)
        latitude = torch.atan2(z, torch.hypot(x, y)).rad2deg()
        longitude = torch.atan2(y, x).rad2deg()
        return self._sorted(torch.stack([latitude, longitude + 360 * (longitude < self.west)], 1))

    def _sorted(self, values: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Convert coordinates between the order of the table's columns and (latitude, longitude).

        The same function converts both ways.
        """
        return values.flip(1) if self.latitude else values

    def values_from_raw(self, raw: RawExamples) -> tuple[Tensor, Cond]:
        """Return rows [n, 2] of latitude and longitude, in the modality's order, and the conditions.

        The columns of the file are matched by name or, if a name differs, by its meaning. The conditions hold the class
        ids `label`, and are empty without labels.
        """
        values = columns_in_order(self._called_ours(raw), self.columns)
        self._check_range(replace(raw, values=values))
        return torch.from_numpy(values), relabel(raw, self.classes)

    def _called_ours(self, raw: RawExamples) -> RawExamples:
        """Rename the latitude and the longitude column of a file to the column names of this modality."""
        if not isinstance(raw, RawPoints) or not len(coordinate_columns(raw.columns)) == len(raw.columns) == 2:
            return raw
        columns = self.columns if latitude_among(raw.columns) == self.latitude else self.columns[::-1]
        return raw if {*raw.columns} == {*self.columns} else replace(raw, columns=columns)

    def plot(self, samples: np.ndarray, labels: np.ndarray | None, across: int | None) -> Image.Image:
        vectors = self.encode(torch.from_numpy(samples)).numpy()
        return globe(vectors, labels, self.classes, across)

    def _check_range(self, raw: RawExamples) -> None:
        """Raise InputError if a latitude or longitude is out of range, or looks like radians."""
        latitude, longitude = raw.values[:, self.latitude], raw.values[:, 1 - self.latitude]
        for coordinate, column, low, high in (
            ("latitude", self.latitude, -90, 90),
            ("longitude", 1 - self.latitude, -180, 360),
        ):
            degrees = raw.values[:, column]
            outside = np.flatnonzero((degrees < low) | (degrees > high))
            if len(outside):
                i = int(outside[0])
                swapped = coordinate == "latitude" and (abs(longitude) <= 90).all()
                raise InputError(
                    f"a {coordinate} from {low} to {high}",
                    f"{degrees[i]:g} ({len(outside)} of {len(degrees)} values are out of range)",
                    "Check whether the two columns are swapped" if swapped else "Correct or remove those rows",
                    row=raw.row_number(i),
                    column=self.columns[column],
                )
        self._check_unit(latitude, longitude)

    def _check_unit(self, latitude: np.ndarray, longitude: np.ndarray) -> None:
        """Raise InputError if values look like radians: all within radian limits, but widely spread."""
        in_radian_limits = (abs(latitude) <= math.pi / 2).all() and (abs(longitude) <= math.pi).all()
        is_spread = len(latitude) >= MIN_ROWS and min(np.ptp(latitude), np.ptp(longitude)) > SPREAD
        if in_radian_limits and is_spread and angle_unit(self.columns[self.latitude]) != "deg":
            raise InputError(
                "latitude and longitude in degrees",
                f"{len(latitude)} rows with absolute values of at most {abs(latitude).max():.3g} and"
                f" {abs(longitude).max():.3g}, which look like radians",
                "Multiply the values by 180/pi; if they are degrees, name the columns latitude_deg and longitude_deg",
            )


def earth_dataset(raw: RawPoints) -> Dataset:
    """Return a data set of locations; the latitude column is recognised by name, or is the first if there are no names.

    Raises:
        InputError: If there are not exactly two columns, or values are not latitudes and longitudes in degrees.
    """
    if raw.values.shape[1] != 2:
        raise InputError("two columns, latitude and longitude", list(raw.values.shape))
    columns = check_names(raw.columns) or ("latitude", "longitude")
    latitude = latitude_among(columns)
    west = 0.0 if raw.values[:, 1 - latitude].max() > 180 else -180.0
    modality = Earth(columns, latitude, west, raw.classes)
    values, given = modality.values_from_raw(raw)
    note = f"read as locations on the earth: {columns[latitude]!r} as latitude, {columns[1 - latitude]!r} as longitude"
    return Dataset(values, given, modality, (*raw.notes, f"{note}, in degrees"))

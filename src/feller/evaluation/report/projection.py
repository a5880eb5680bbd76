"""Two-dimensional projections of bridge trajectories and populations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from feller.evaluation.number_format import capitalize_first

Field = Callable[[Float[np.ndarray, "k 2"]], Float[np.ndarray, " k"]]
"""Function from points of the plane to their state cost."""
Walls = Callable[[Float[np.ndarray, "k 2"]], Bool[np.ndarray, " k"]]
"""Function from points of the plane to True for those inside an obstacle."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BridgeScene:
    """Bridge trajectories between populations of points, with state cost and obstacles, in the units of the data."""

    times: Float[np.ndarray, " s"]
    """Increasing times of the path states, in the user's unit."""
    paths: Float[np.ndarray, "n s d"]
    populations: Sequence[Float[np.ndarray, "_ d"]]
    names: Sequence[str]
    columns: Sequence[str]
    population_times_given: Sequence[float] = ()
    """Time of each population; by default the times are equally spaced."""
    field: Field | None = None
    """State cost without obstacles; given for two-dimensional states only."""
    walls: Walls | None = None
    """Obstacles; given for two-dimensional states only."""
    frame: tuple[float, float, float, float] | None = None
    """Left, right, bottom and top of the obstacle image; all points outside the image count as obstacle."""
    surface: Float[np.ndarray, "m 3"] | None = None
    """Points (x, y, height) of a surface; given for three-dimensional states only."""

    @property
    def population_times(self) -> Float[np.ndarray, " populations"]:
        """Time of each population."""
        return np.asarray(
            self.population_times_given or np.linspace(self.times[0], self.times[-1], len(self.populations))
        )


@dataclass(frozen=True, eq=False)
class ProjectedScene:
    """Two-dimensional projection of a `BridgeScene`."""

    paths: Float[np.ndarray, "n s 2"]
    populations: tuple[Float[np.ndarray, "_ 2"], ...]
    labels: tuple[str, str]
    caption: str
    """Description of the projection and of the plot's background."""
    has_equal_units: bool
    """True if both axes have the same unit."""


def project_scene(scene: BridgeScene) -> ProjectedScene:
    """Project a bridge scene to two dimensions.

    One-dimensional states are plotted over time, and two-dimensional states as they are. Three-dimensional states are
    seen along the third axis, and others are projected to their first two principal components.
    """
    columns = tuple(scene.columns)
    d = scene.paths.shape[2]
    if d == 1:
        times = np.broadcast_to(scene.times[:, None], (*scene.paths.shape[:2], 1))
        constant_times = [
            np.full_like(members, time) for members, time in zip(scene.populations, scene.population_times, strict=True)
        ]
        populations = tuple(np.concatenate(pair, 1) for pair in zip(constant_times, scene.populations, strict=True))
        return ProjectedScene(np.concatenate([times, scene.paths], 2), populations, ("time", columns[0]), "", False)
    if d <= 3:
        projected = tuple(np.asarray(members)[:, :2] for members in scene.populations)
        caption = _space_caption(scene) if d == 3 else _plane_caption(scene)
        return ProjectedScene(scene.paths[..., :2], projected, (columns[0], columns[1]), caption, True)
    pooled = np.concatenate(scene.populations).astype(np.float64)
    mean, directions = pooled.mean(0), principal_directions(pooled)
    explained_variance = ((pooled - mean) @ directions).var(0).sum() / max(pooled.var(0).sum(), 1e-300)
    return ProjectedScene(
        (scene.paths - mean) @ directions,
        tuple((members - mean) @ directions for members in scene.populations),
        ("first principal component", "second principal component"),
        f"Projected on the first two principal components of all members, {explained_variance:.0%} of their variance.",
        True,
    )


def _plane_caption(scene: BridgeScene) -> str:
    notes = ["grey: state cost"] if scene.field is not None else []
    notes += ["dark: obstacles"] if scene.walls is not None else []
    notes += ["hatched: outside the obstacle image, blocked"] if scene.frame is not None else []
    return f"{capitalize_first('; '.join(notes))}." if notes else ""


def _space_caption(scene: BridgeScene) -> str:
    x, y, z = scene.columns
    if scene.surface is None:
        return f"Projected along {z} on {x} and {y}."
    return f"Seen from above: shading and contour lines show the height of the surface ({z}), darker is higher."


def principal_directions(values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d 2"]:
    """Return the first two principal directions of values, each with its largest entry positive."""
    _, _, vh = np.linalg.svd(values - values.mean(0), full_matrices=False)
    directions = vh[:2].T
    return directions * np.sign(directions[np.abs(directions).argmax(0), range(directions.shape[1])])

"""Trajectories and populations of any dimension, as they lie on a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from feller.evaluation.number_format import capitalize_first

Field = Callable[[Float[np.ndarray, "k 2"]], Float[np.ndarray, " k"]]
"""Places -> what being there costs."""
Walls = Callable[[Float[np.ndarray, "k 2"]], Bool[np.ndarray, " k"]]
"""Places -> whether there is an obstacle."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BridgeScene:
    """What happened between populations, in the units of the data."""

    times: Float[np.ndarray, " s"]
    """Of the states of each path, increasing, in the person's unit of time."""
    paths: Float[np.ndarray, "n s d"]
    populations: Sequence[Float[np.ndarray, "_ d"]]
    names: Sequence[str]
    """What the populations are called."""
    columns: Sequence[str]
    population_times_given: Sequence[float] = ()
    """When each population was; by default equally far apart."""
    field: Field | None = None
    """Cost in the plane, but for that of obstacles, for states of two numbers."""
    walls: Walls | None = None
    """Obstacles in the plane, for states of two numbers."""
    frame: tuple[float, float, float, float] | None = None
    """Left, right, bottom and top of a picture of walls, which is seen whole; beyond it there is wall."""
    surface: Float[np.ndarray, "m 3"] | None = None
    """Points x, y and height of a surface, for states of three numbers."""

    @property
    def population_times(self) -> Float[np.ndarray, " populations"]:
        """When each population was."""
        return np.asarray(
            self.population_times_given or np.linspace(self.times[0], self.times[-1], len(self.populations))
        )


@dataclass(frozen=True, eq=False)
class ProjectedScene:
    """The same, flat."""

    paths: Float[np.ndarray, "n s 2"]
    populations: tuple[Float[np.ndarray, "_ 2"], ...]
    labels: tuple[str, str]
    """Of the axes."""
    caption: str
    """Which directions are seen, and what lies behind the paths, for a caption."""
    has_equal_units: bool
    """Both axes have one unit."""


def project_scene(scene: BridgeScene) -> ProjectedScene:
    """Choose two directions: the plane as it is, a map of space from above, else the two of the largest spread.

    A line is drawn over time.
    """
    columns = tuple(scene.columns)
    d = scene.paths.shape[2]
    if d == 1:
        times = np.broadcast_to(scene.times[:, None], (*scene.paths.shape[:2], 1))
        still = [
            np.full_like(members, time) for members, time in zip(scene.populations, scene.population_times, strict=True)
        ]
        populations = tuple(np.concatenate(pair, 1) for pair in zip(still, scene.populations, strict=True))
        return ProjectedScene(np.concatenate([times, scene.paths], 2), populations, ("time", columns[0]), "", False)
    if d <= 3:
        flat = tuple(np.asarray(members)[:, :2] for members in scene.populations)
        caption = _space_caption(scene) if d == 3 else _plane_caption(scene)
        return ProjectedScene(scene.paths[..., :2], flat, (columns[0], columns[1]), caption, True)
    together = np.concatenate(scene.populations).astype(np.float64)
    middle, directions = together.mean(0), principal_directions(together)
    explained_variance = ((together - middle) @ directions).var(0).sum() / max(together.var(0).sum(), 1e-300)
    return ProjectedScene(
        (scene.paths - middle) @ directions,
        tuple((members - middle) @ directions for members in scene.populations),
        ("first principal component", "second principal component"),
        f"Seen along the first two principal components of all members, {explained_variance:.0%} of their variance.",
        True,
    )


def _plane_caption(scene: BridgeScene) -> str:
    """Say what the ground of a plane shows."""
    shown = ["grey is what being there costs"] if scene.field is not None else []
    shown += ["dark is wall"] if scene.walls is not None else []
    shown += ["hatched is outside of the picture, where all is wall"] if scene.frame is not None else []
    return f"{capitalize_first('; '.join(shown))}." if shown else ""


def _space_caption(scene: BridgeScene) -> str:
    """Say from where space is seen, and what its ground shows."""
    x, y, z = scene.columns
    if scene.surface is None:
        return f"Seen along {z}: {x} and {y} alone are shown."
    return f"Seen from above: the darker, the higher is the surface, and lines join what is at one height ({z})."


def principal_directions(values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d 2"]:
    """Return the two directions of largest variance, each with its largest entry positive."""
    _, _, rows = np.linalg.svd(values - values.mean(0), full_matrices=False)
    directions = rows[:2].T
    return directions * np.sign(directions[np.abs(directions).argmax(0), range(directions.shape[1])])

"""Tab: push data through a bridge, and see its trajectories."""

import contextlib
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from feller.app.reporter import Tell
from feller.app.webui.controls import Choice, Upload
from feller.app.webui.loaded_run import Opened
from feller.app.webui.sample_views import NAME
from feller.app.webui.tab import Ability, Answers, Kind, Outcome, Place, Shown, Tab
from feller.app.webui.tabs.sample import seeded
from feller.core.errors import InputError, UsageError
from feller.data.files.numpy_files import load
from feller.data.images.modality import Images
from feller.data.modality import Modality
from feller.models.spec import load_description


def ground_of(bridged: Any, d: int) -> dict[str, Any]:
    """Return the fields of a `Scene` that tell of the ground, for states of d numbers; none if a file is gone.

    Args:
        bridged: What was asked of the bridge.
        d: Two for a plane, where there may be walls; three for space, where there may be a surface.
    """
    from feller.app.workflows.bridges.cost_names import changed, frame_of, surface_of, walls_of  # takes long to load

    if d == 3:
        with contextlib.suppress(InputError):
            surface = surface_of(bridged.costs)
            return {} if surface is None else {"surface": surface.numpy()}
    if d != 2 or changed(bridged.costs, bridged.code):
        return {}
    pictures = walls_of(bridged.costs, bridged.frame)

    def walls(places: Float[np.ndarray, "k 2"]) -> Bool[np.ndarray, " k"]:
        x = torch.from_numpy(places)
        return torch.stack([picture.inside(x) for picture in pictures]).any(0).numpy()

    return {"walls": walls, "frame": frame_of(bridged.costs, bridged.frame)} if pictures else {}


AHEAD, BACK = "from the first population to the last", "back, from the last to the first"
ENDS = "where they end"
TABLES = (".csv", ".tsv", ".npz", ".npy", ".parquet")
"""Endings of what may be pushed."""


def _tab(one: Opened, place: Place) -> Tab:
    modality = load_description(one.run).modality

    def does(answers: Answers, tell: Tell) -> Outcome:
        from feller.app.workflows.apply_bridge import push
        from feller.app.workflows.bridges.bridge_run import bridged_of  # takes long to load

        room, bridged, back = place.scratch.room(), bridged_of(one.run), answers["way"] == BACK
        begin = _begin(answers["begin"], room)
        ends, file = push(one.run, begin, out=str(room / f"{NAME}.npz"), backward=back, seed=answers["seed"], tell=tell)
        found = load(file)
        names = _names(bridged, answers["begin"], back=back)
        tell.task("drawing the paths")
        film, ground = drawn_paths(modality, found, bridged, names, tell)
        path = room / f"paths{'.png' if isinstance(modality, Images) else '.webp'}"
        path.write_bytes(film)
        said = f"{len(ends):,} paths, each from where it begins to where the drift of the bridge takes it."
        said += f"\nWhat was pushed: {names[-1 if back else 0]}"
        if begin is None:
            said += f", the {'last' if back else 'first'} population, as no file was uploaded"
        said = "\n".join(filter(None, (f"{said}.", ground)))
        return Outcome(said=said, pictures=(Shown("Paths", path),), files=(path, file))

    return Tab(
        about="Take data along the bridge, and see where they go. Without a file, it is its own first population.",
        controls={
            "begin": Upload(
                label="What is pushed", hint="A file like those that were bridged.", endings=TABLES, flags=("--from",)
            ),
            "way": Choice(label="Way", options=(AHEAD, BACK), value=AHEAD, flags=("--backward",)),
            "seed": seeded(),
        },
        does=does,
        shows=(Kind.PICTURES, Kind.FILES),
        button="Push through",
    )


def _begin(sent: pathlib.Path | None, room: pathlib.Path) -> str | None:
    """Return a copy of the file that was uploaded, under its name; its ending says what it holds."""
    if sent is None:
        return None
    ending = sent.suffix.lower()
    if ending not in TABLES:
        raise UsageError(f"what is pushed ends in one of {', '.join(TABLES)}, got {ending[:10] or 'no ending'}")
    copy = room / "pushed" / f"{sent.stem}{ending}"
    copy.parent.mkdir()
    copy.write_bytes(sent.read_bytes())
    return str(copy)


def _names(bridged: Any, sent: pathlib.Path | None, *, back: bool) -> tuple[str, str]:
    """Return what both ends of the paths are called, in the order of time."""
    first, last = (pathlib.PurePath(bridged.populations[place]).name for place in (0, -1))
    if sent is None:
        return first, last
    return (ENDS, sent.name) if back else (sent.name, ENDS)


def drawn_paths(
    modality: Modality, found: Mapping[str, np.ndarray], bridged: Any, names: Sequence[str], tell: Tell
) -> tuple[bytes, str]:
    """Draw paths as they move, pictures on theirs as PNG, and say what they are drawn on."""
    from feller.evaluation.report.bridge_animation import (
        film,  # takes long to load
        motion,
    )
    from feller.evaluation.report.projection import Scene, look

    paths, times = found["paths"], found["times"]
    if isinstance(modality, Images):
        whole = paths if paths.ndim == 5 else paths[..., None]
        levels = torch.from_numpy(whole.astype(np.float64)).movedim(-1, -3)
        file = io.BytesIO()
        film(modality.as_bytes(levels), [f"{time:.3g}" for time in times]).save(file, "PNG")
        return file.getvalue(), ""
    scene = Scene(
        times=times,
        paths=paths,
        populations=[paths[:, 0], paths[:, -1]],
        names=names,
        columns=getattr(modality, "columns", ()),
        **ground_of(bridged, paths.shape[2]),
    )
    unseen = (
        "What code says that places cost is not drawn here." if any(".py:" in cost for cost in bridged.costs) else ""
    )
    return motion(scene, tell.progress).data, "\n".join(filter(None, (look(scene).said, unseen)))


PUSH = Ability(name="Push through", has=lambda one, place: one.is_bridge, tab=_tab)

"""Tab "Transport": transports data along a bridge and animates the trajectories."""

import contextlib
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.reporter import Reporter
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.sample_views import NAME
from feller.app.webui.tab import Answers, CaptionedImage, OutputKind, PageContext, Tab, TabResult
from feller.app.webui.widgets import choice, seed, upload
from feller.core.errors import InputError
from feller.core.user_code import is_code_reference
from feller.data.files.numpy_files import load_arrays
from feller.data.images.modality import Images
from feller.data.modality import Modality
from feller.models.spec import load_spec

AHEAD, BACK = "forward: first to last population", "backward: last to first population"
ENDS = "endpoints"
UPLOAD_SUFFIXES = (".csv", ".tsv", ".npz", ".npy", ".parquet")
"""Suffixes of the data files that can be uploaded."""


def transport_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that transports data along a bridge; None if the run is not a bridge."""
    if not run.is_bridge:
        return None
    modality = load_spec(run.run).modality

    def push_through(answers: Answers, reporter: Reporter) -> TabResult:
        from feller.app.workflows.apply_bridge import transport
        from feller.app.workflows.bridges.bridge_run import read_bridge_record  # takes long to load

        record: Any = read_bridge_record(run.run)
        room, back = page.new_result_folder(), answers["backward"] == BACK
        file, out = answers["from"], str(room / f"{NAME}.npz")
        config = config_of(SampleConfig, from_data=file, out=out, backward=back, seed=answers["seed"])
        ends, place = transport(run.run, config, reporter=reporter)
        arrays, names = load_arrays(place), [pathlib.PurePath(record.populations[i]).name for i in (0, -1)]
        pushed = names[-1 if back else 0] if file is None else pathlib.Path(file).name
        if file is not None:
            names = [ENDS, pushed] if back else [pushed, ENDS]
        reporter.start("rendering the paths")
        film, ground = draw_paths(modality, arrays, record, names, reporter)
        path = room / f"paths{'.png' if modality.view(Images) else '.webp'}"
        path.write_bytes(film)
        message = f"{len(ends):,} paths along the drift of the bridge."
        whole = f", the {'last' if back else 'first'} population, since no file was uploaded" if file is None else ""
        message = "\n".join(filter(None, (f"{message}\nInput: {pushed}{whole}.", ground)))
        return TabResult(message=message, pictures=(CaptionedImage("Paths", path),), files=(path, place))

    return Tab(
        name="Transport",
        description="Transport data along the bridge and animate their paths. Without a file, the input is the bridge's"
        " own population.",
        controls={
            "from": upload("Input file", UPLOAD_SUFFIXES),
            "backward": choice("Direction", (AHEAD, BACK)),
            "seed": seed(),
        },
        handler=push_through,
        outputs=(OutputKind.PICTURES, OutputKind.FILES),
        button="Transport",
    )


def scene_background(record: Any, d: int) -> dict[str, Any]:
    """Return the fields of `BridgeScene`, by name, that draw walls (if d = 2) or a surface (if d = 3).

    The result is empty if the bridge has neither, or if their file is missing or an image of walls has changed.
    """
    from feller.app.workflows.bridges.cost_specs import (  # takes long to load
        changed_pictures,
        common_frame,
        surface_of,
        walls_of,
    )

    if d == 3:
        with contextlib.suppress(InputError):
            surface = surface_of(record.costs)
            return {} if surface is None else {"surface": surface.numpy()}
    if d != 2 or changed_pictures(record.costs, record.code):
        return {}
    pictures = walls_of(record.costs, record.frame)

    def walls(places: Float[np.ndarray, "k 2"]) -> Bool[np.ndarray, " k"]:
        x = torch.from_numpy(places)
        return torch.stack([picture.contains(x) for picture in pictures]).any(0).numpy()

    return {"walls": walls, "frame": common_frame(record.costs, record.frame)} if pictures else {}


def draw_paths(
    modality: Modality, arrays: Mapping[str, np.ndarray], record: Any, names: Sequence[str], reporter: Reporter
) -> tuple[bytes, str]:
    """Return an animation of the trajectories (for images: a PNG filmstrip), and a description of the background."""
    from feller.app.workflows.bridges.cost_specs import names_of
    from feller.evaluation.report.bridge_animation import animate_paths, filmstrip  # takes long to load
    from feller.evaluation.report.projection import BridgeScene, project_scene

    paths, times = arrays["paths"], arrays["times"]
    if (kind := modality.view(Images)) is not None:
        whole = paths if paths.ndim == 5 else paths[..., None]
        levels = torch.from_numpy(whole.astype(np.float64)).movedim(-1, -3)
        file = io.BytesIO()
        filmstrip(kind.as_bytes(levels), [f"{time:.3g}" for time in times]).save(file, "PNG")
        return file.getvalue(), ""
    scene = BridgeScene(
        times=times,
        paths=paths,
        populations=[paths[:, 0], paths[:, -1]],
        names=names,
        columns=getattr(modality, "columns", ()),
        **scene_background(record, paths.shape[2]),
    )
    cost_note = (
        "State costs defined by code are not shown here." if any(map(is_code_reference, names_of(record.costs))) else ""
    )
    return animate_paths(scene, reporter.progress).data, "\n".join(
        filter(None, (project_scene(scene).caption, cost_note))
    )

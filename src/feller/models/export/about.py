"""What an exported network says of itself: its inputs and outputs, its units, and how to sample with it."""

from typing import Any

import torch
from torch import Tensor

from feller import __version__
from feller.core.serialization import to_data
from feller.data.images.modality import Images
from feller.data.images.pixel_codes import AsNumbers
from feller.data.modality import Modality
from feller.data.points.points import Points
from feller.models.export.exported_network import Answer
from feller.models.export.flows import is_flow
from feller.models.model import Model
from feller.paths import AnyOrder, Autoregressive, Estimates, Mixture, Path
from feller.paths.product import parts
from feller.spaces import Euclidean, Space

FORMAT = 1
"""Version of the form of this record."""


def about(model: Model, answer: Answer) -> dict[str, Any]:
    """Return a record that JSON can hold, for whoever has the exported file and not feller.

    Args:
        model: What was exported.
        answer: Its network as exported.
    """
    described = model.description
    with torch.no_grad():
        found = answer(*answer.inputs())
    return {
        "format": FORMAT,
        "version": __version__,
        "modality": to_data(described.modality),
        "space": to_data(described.space),
        "path": to_data(described.path),
        "inputs": [
            _tensor(name, tensor, _meaning(name, model))
            for name, tensor in zip(answer.names, answer.inputs(), strict=True)
        ],
        "outputs": [
            _tensor(
                name,
                tensor,
                {"what": kind, "units": "state per unit of time"} if kind == "velocity" else {"what": kind},
            )
            for (name, kind), tensor in zip(answer.outputs.items(), found, strict=True)
        ],
        "time": {"source": 0.0, "data": 1.0},
        "source": _source(described.space, described.path),
        "scaling": scaling(described.modality),
        "guidance": answer.guided.w if answer.guided.w is not None else "input; 1 is the plain conditional",
        "sample": sampling_words(described.path, described.space),
        "sampling": to_data(described.sampling),
    }


def _tensor(name: str, tensor: Tensor, more: dict[str, Any]) -> dict[str, Any]:
    kind = str(tensor.dtype).removeprefix("torch.")
    return {"name": name, "shape": ["batch", *tensor.shape[1:]], "dtype": kind, **more}


def _meaning(name: str, model: Model) -> dict[str, Any]:
    """Say what an input is."""
    described = model.description
    if name == "x" or name.startswith("x."):
        return {"what": "state"}
    if name == "t":
        return {"what": "time: 0 at the source, 1 at the data"}
    if name == "guidance":
        return {"what": "guidance: 1 is the plain conditional, 0 the unconditional, more sharpens"}
    if name not in described.frequencies:
        return {"what": "real entries of a state, the rest is padding" if name.startswith("valid") else "condition"}
    shares = described.frequencies[name]
    named = {"classes": [*described.modality.conditions[name]], "frequencies": [*shares]}
    return {
        "what": "condition, by the number of its class",
        **named,
        "not_given": len(shares) if described.drop else None,
    }


def _source(space: Space, path: Path) -> dict[str, Any]:
    """Say where a sample begins."""
    if isinstance(space, Euclidean):
        return {"law": "standard normal", "factor": float(path.start(torch.ones(1, *space.shape)).flatten()[0])}
    return {"law": "that of the space", "factor": 1.0}


def scaling(modality: Modality) -> dict[str, Any]:
    """Say how a state at t = 1 becomes a value in the units of the data."""
    if isinstance(modality, Points):
        return {
            "value": "x * scale + mean, a number for each column",
            "columns": [*modality.columns],
            "mean": [*modality.mean],
            "scale": [*modality.scale],
        }
    if isinstance(modality, Images) and isinstance(modality.code, AsNumbers):
        return {
            "value": "round((x + 1) / 2 * levels), at least 0 and at most levels; 0 is black, levels is white",
            "levels": modality.levels,
            "axes": "channel, row, column",
        }
    return {"value": f"see `modality`; feller.load_model(run).description.modality.decode does it ({modality.called})"}


def sampling_words(path: Path, space: Space) -> list[str]:
    """Say what to do with the exported network to draw a sample."""
    if isinstance(path, Estimates):
        return ["answer * path.about.scales + path.about.means, or logits of path.about.classes; x is the data's state"]
    if isinstance(path, AnyOrder | Autoregressive):
        return [
            "the answer at a place is logits of its symbol given those before it, whatever stands there and behind",
            "for each place from the first to the last: write there a draw from softmax(answer at that place)",
        ]
    flows, flat = [is_flow(part) for part in parts(path)], getattr(space, "flat", False)
    if all(flows) and flat:
        return [
            "x = factor * a draw of the source",
            "for i in 0 .. n - 1: x = x + answer(x, t = i / n, conditions) / n",
            "turn x into values as `scaling` says",
        ]
    if isinstance(path, Mixture):
        return [
            "x = a draw of the source",
            "from t to s: each symbol, with the chance 1 - sigma(s) / sigma(t) of the path's schedule, becomes a draw"
            " from softmax(answer(x, t, conditions))",
            "turn x into values as `scaling` says",
        ]
    moves = "leaves with a velocity v move by (s - t) v, along geodesics where their space is curved"
    return [
        "x = a draw of the source",
        f"from t to s: {moves}; others do what `path` says of their prediction",
        "turn x into values as `scaling` says",
    ]

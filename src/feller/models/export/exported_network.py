"""A model's network with its metadata, as exported files hold it: tensors in and out by position."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from feller import __version__
from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, broadcast_time, tree_map, tree_unflatten
from feller.core.rng import Rng
from feller.core.serialization import to_dict
from feller.data.images.modality import Images
from feller.data.images.pixel_codes import AsNumbers
from feller.data.modality import Modality
from feller.data.points.points import Points
from feller.models.model import Model
from feller.models.spec import Description
from feller.paths import Network
from feller.sampling.guidance import cfg
from feller.spaces import Euclidean

FEW = 2
"""Examples that a network is traced with."""


class Answer(nn.Module):
    """What a model's network answers, as sampling uses it: the velocity of each leaf that flows, else the prediction.

    Called with tensors in the order of `names`: leaves of the state, times, conditions and, where asked, guidance.
    """

    def __init__(self, model: Model, guidance: float | None = 1.0) -> None:
        """Take a model, and how much its conditions are followed: None for an input `guidance`, one per example."""
        super().__init__()
        _check(model)
        if guidance is None and not (model.absent() and model.description.cond_dropout):
            raise UsageError("guidance cannot be an input: this model has no conditions that it can do without")
        if guidance is not None:
            model.check_guidance(guidance)
        self.network, self.guidance, self.absent = model.network.eval(), guidance, model.absent()
        self.family = model.family
        self.state, self.given = _example(model)

    @property
    def names(self) -> list[str]:
        """Names of the inputs."""
        guidance = ["guidance"] if self.guidance is None else []
        state, given = ([name for name, _ in _walk(tree, "")] for tree in (self.state, self.given))
        return [*(_named("x", name) for name in state), "t", *given, *guidance]

    @property
    def outputs(self) -> dict[str, str]:
        """Name of each output, and what it is: `velocity`, `logits` of x_1, `estimates`, or `prediction`."""
        with torch.no_grad():
            found = self._answer(*self._taken(self.inputs()))
        return {_named("answer", name): self.family.answer_of(name) for name, _ in _walk(found, "")}

    def inputs(self) -> tuple[Tensor, ...]:
        """Return tensors to try it with, in the order of `names`."""
        guidance = [torch.linspace(1, 2, FEW)] if self.guidance is None else []
        parts = [leaf for _, leaf in _walk(self.state, "")], [leaf for _, leaf in _walk(self.given, "")]
        return *parts[0], torch.linspace(0.2, 0.7, FEW), *parts[1], *guidance

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Answer."""
        return tuple(leaf for _, leaf in _walk(self._answer(*self._taken(tensors)), ""))

    def _taken(self, tensors: tuple[Tensor, ...]) -> tuple[State, Tensor, Cond, Tensor | float]:
        """Put tensors where they belong."""
        rest = iter(tensors)
        state = tree_unflatten(self.state, rest)
        t = next(rest)
        given = tree_unflatten(self.given, rest)
        return state, t, given, next(rest) if self.guidance is None else self.guidance

    def _answer(self, x: State, t: Tensor, given: Cond, w: Tensor | float) -> State:
        network: Network = cfg(self.network, w, droppable=self.absent)
        times = broadcast_time(t, x)
        prediction = network(x, times, given)
        return self.family.exported(prediction, x, times)


def _walk(tree: State, name: str) -> Iterator[tuple[str, Any]]:
    """Yield leaves with their names, depth first."""
    if isinstance(tree, dict):
        for key, leaf in tree.items():
            yield from _walk(leaf, f"{name}.{key}" if name else key)
    else:
        yield name, tree


def _named(what: str, name: str) -> str:
    return f"{what}.{name}" if name else what


def _check(model: Model) -> None:
    """Refuse what is no network of a state, a time and conditions."""
    if model.family.why_no_export:
        raise UsageError(model.family.why_no_export)
    if model.description.modality.labels:
        raise UsageError(
            "this network reads a sound, its mask and its phones of any length", remedy="Draw with `feller sample`"
        )


def _example(model: Model) -> tuple[State, Cond]:
    """Return states and conditions that the network can be tried with."""
    about, draws = model.description, Rng(0).fold_in("export")
    state = about.space.sample_base(FEW, draws.stream("source"))
    state = about.path.initial_state(state) if about.family.in_time else state
    given = about.modality.complete(model.conditions(FEW, {}, draws))
    return tree_map(torch.Tensor.contiguous, state), tree_map(lambda leaf: leaf.contiguous().clone(), given)


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
        "modality": to_dict(described.modality),
        "space": to_dict(described.space),
        "family": described.family.name,
        **({"path": to_dict(described.path)} if described.family.in_time else {}),
        **({"target": to_dict(described.family.tells)} if described.family.tells else {}),
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
        "source": _source(described),
        "scaling": scaling(described.modality),
        "guidance": answer.guidance if answer.guidance is not None else "input; 1 is the plain conditional",
        "sample": described.family.sampling_steps(described.space),
        "sampling": to_dict(described.sampling),
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
        "not_given": len(shares) if described.cond_dropout else None,
    }


def _source(described: Description) -> dict[str, Any]:
    """Say where a sample begins."""
    space = described.space
    if isinstance(space, Euclidean):
        one = torch.ones(1, *space.shape)
        started = described.path.initial_state(one) if described.family.in_time else one
        return {"law": "standard normal", "factor": float(started.flatten()[0])}
    return {"law": "that of the space", "factor": 1.0}


def scaling(modality: Modality) -> dict[str, Any]:
    """Say how a state at t = 1 becomes a value in the units of the data."""
    if (points := modality.view(Points)) is not None:
        return {
            "value": "x * scale + mean, a number for each column",
            "columns": [*points.columns],
            "mean": [*points.mean],
            "scale": [*points.scale],
        }
    if (images := modality.view(Images)) is not None and isinstance(images.code, AsNumbers):
        return {
            "value": "round((x + 1) / 2 * levels), at least 0 and at most levels; 0 is black, levels is white",
            "levels": images.levels,
            "axes": "channel, row, column",
        }
    return {"value": f"see `modality`; feller.load_model(run).description.modality.decode does it ({modality.called})"}

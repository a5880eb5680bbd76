"""A model's network as exported files hold it: tensors in, by place, and tensors out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.pytree import Given, State, spread, tree_like, tree_map
from feller.core.rng import Draws
from feller.models.export.flows import is_flow
from feller.models.model import Model
from feller.paths import Autoregressive, Codes, Estimates, Interleaved, Network, Path, Product, Resynthesis, TokenPath
from feller.paths.brownian import Brownian
from feller.privacy.marginals.marginal_network import MarginalNetwork
from feller.sampling.guidance import cfg

FEW = 2
"""Examples that a network is traced with."""


@dataclass(frozen=True)
class Guided:
    """How much conditions are followed: one number, or an input of the exported network."""

    w: float | None = 1.0
    """1 is the plain conditional, 0 the unconditional; None for an input `guidance`, one number per example."""


class Answer(nn.Module):
    """What a model's network answers, as sampling uses it: the velocity of each leaf that flows, else the prediction.

    Called with tensors in the order of `names`: leaves of the state, times, conditions and, where asked, guidance.
    """

    def __init__(self, model: Model, guided: Guided) -> None:
        super().__init__()
        _check(model)
        if guided.w is None and not (model.absent() and model.description.drop):
            raise UsageError("guidance cannot be an input: this model has no conditions that it can do without")
        if guided.w is not None:
            model.check_guidance(guided.w)
        self.network, self.guided, self.absent = model.network.eval(), guided, model.absent()
        self.path: Path = model.description.path
        self.example = _example(model)
        self.state, self.given = self.example

    @property
    def names(self) -> list[str]:
        """Names of the inputs."""
        guidance = ["guidance"] if self.guided.w is None else []
        return [*named_leaves(self.state, "x"), "t", *(name for name, _ in _walk(self.given, "")), *guidance]

    @property
    def outputs(self) -> dict[str, str]:
        """Name of each output, and what it is: `velocity`, `logits` of x_1, `estimates`, or `prediction`."""
        with torch.no_grad():
            found = self._answer(*self._taken(self.inputs()))
        return {_named("answer", name): _kind(path) for name, path in _leaf_paths(self.path, found)}

    def inputs(self) -> tuple[Tensor, ...]:
        """Return tensors to try it with, in the order of `names`."""
        guidance = [torch.linspace(1, 2, FEW)] if self.guided.w is None else []
        parts = [leaf for _, leaf in _walk(self.state, "")], [leaf for _, leaf in _walk(self.given, "")]
        return *parts[0], torch.linspace(0.2, 0.7, FEW), *parts[1], *guidance

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Answer."""
        return tuple(leaf for _, leaf in _walk(self._answer(*self._taken(tensors)), ""))

    def _taken(self, tensors: tuple[Tensor, ...]) -> tuple[State, Tensor, Given, Tensor | float]:
        """Put tensors where they belong."""
        rest = iter(tensors)
        state = tree_like(self.state, rest)
        t = next(rest)
        given = tree_like(self.given, rest)
        return state, t, given, next(rest) if self.guided.w is None else self.guided.w

    def _answer(self, x: State, t: Tensor, given: Given, w: Tensor | float) -> State:
        network: Network = cfg(self.network, w, absent=self.absent)
        times = spread(t, x)
        prediction = network(x, times, given)
        return _moved(self.path, prediction, x, times)


def _moved(path: Path, prediction: State, x: State, t: State) -> State:
    """Turn predictions of flows into velocities; others stay as they are."""
    if isinstance(path, Product):
        return {name: _moved(part, prediction[name], x[name], t[name]) for name, part in path.parts.items()}
    return path.characteristics(prediction, x, t).velocity if is_flow(path) else prediction


def _leaf_paths(path: Path, found: State, name: str = "") -> Iterator[tuple[str, Path]]:
    """Yield the path of each leaf of an answer."""
    if isinstance(found, dict):
        for key, leaf in found.items():
            inner = path.parts[key] if isinstance(path, Product) else path
            yield from _leaf_paths(inner, leaf, f"{name}.{key}" if name else key)
    else:
        yield name, path


def _kind(path: Path) -> str:
    if is_flow(path):
        return "velocity"
    if isinstance(path, TokenPath | Autoregressive | Interleaved):
        return "logits"
    return "estimates" if isinstance(path, Estimates) else "prediction"


def _walk(tree: State, name: str) -> Iterator[tuple[str, Any]]:
    """Yield leaves with their names, depth first."""
    if isinstance(tree, dict):
        for key, leaf in tree.items():
            yield from _walk(leaf, f"{name}.{key}" if name else key)
    else:
        yield name, tree


def _named(what: str, name: str) -> str:
    return f"{what}.{name}" if name else what


def named_leaves(tree: State, what: str) -> list[str]:
    """Return the names of a tree's leaves, such as `x` or `x.lattice`."""
    return [_named(what, name) for name, _ in _walk(tree, "")]


def _check(model: Model) -> None:
    """Refuse what is no network of a state, a time and conditions.

    Raises:
        UsageError: Then; says why.
    """
    path = model.description.path
    if isinstance(model.network, MarginalNetwork):
        raise UsageError("this model is tables of counts and no network; draw from it with `feller sample`")
    if isinstance(path, Codes | Resynthesis):
        what = "codes of pictures" if isinstance(path, Codes) else "sounds of log mels"
        raise UsageError(f"this network makes {what} and is no function of state and time; load it with feller")
    if isinstance(path, Brownian):
        raise UsageError("this run is a bridge, whose networks belong to its rounds; push points through with `sample`")
    if isinstance(path, Interleaved):
        raise UsageError(
            "this network reads documents of any length through masks of its own; draw with `feller sample`"
        )
    if model.description.modality.labels:
        raise UsageError("this network reads a sound, its mask and its phones of any length; draw with `feller sample`")


def _example(model: Model) -> tuple[State, Given]:
    """Return states and conditions that the network can be tried with."""
    about, draws = model.description, Draws(0).named("export")
    state = about.path.start(about.space.reference(FEW, draws.at("source")))
    given = about.modality.complete(model.conditions(FEW, {}, draws))
    return tree_map(torch.Tensor.contiguous, state), tree_map(lambda leaf: leaf.contiguous().clone(), given)

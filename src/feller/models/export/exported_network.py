"""Exportable network of a model, with positional tensor inputs and outputs, and its metadata."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from feller import __version__
from feller.core.errors import UsageError
from feller.core.pytree import STEP_END, Cond, State, broadcast_time, tree_map, tree_unflatten
from feller.core.rng import Rng
from feller.core.serialization import to_dict
from feller.data.images.modality import Images
from feller.data.images.pixel_codes import AsNumbers
from feller.data.modality import Modality
from feller.data.points.euclidean_points import Points
from feller.models.model import Model
from feller.models.spec import ModelSpec
from feller.networks.unwrapping import takes_step_end
from feller.paths import Network
from feller.sampling.guidance import cfg
from feller.spaces import Euclidean

TRACE_BATCH_SIZE = 2
"""Batch size of the example inputs with which the network is traced."""
END = "end"
"""Name of the input for the end of a step, of flow maps."""


class ExportedNetwork(nn.Module):
    """Network of a model as used in sampling, with tensors as inputs and outputs.

    For each component (leaf) of the state, it outputs the velocity if the leaf follows a flow, else the prediction.
    Inputs are tensors in the order of `input_names`: leaves of the state, times, conditions and, optionally, guidance.
    """

    def __init__(self, model: Model, guidance: float | None = 1.0) -> None:
        """Wrap a model with a fixed guidance scale; with None, guidance is an input with one value per example."""
        super().__init__()
        _check(model)
        if guidance is None and not (model.droppable() and model.spec.cond_dropout):
            raise UsageError("guidance cannot be an input: this model was not trained with condition dropout")
        if guidance is not None:
            model.check_guidance(guidance)
        self.network, self.guidance, self.droppable = model.network.eval(), guidance, model.droppable()
        self.family = model.family
        self.state, self.cond = _example(model)

    @property
    def input_names(self) -> list[str]:
        guidance = ["guidance"] if self.guidance is None else []
        state_names, cond_names = ([name for name, _ in _walk(tree, "")] for tree in (self.state, self.cond))
        return [
            *(_named("x", name) for name in state_names),
            "t",
            *(END if name == STEP_END else name for name in cond_names),
            *guidance,
        ]

    @property
    def output_kinds(self) -> dict[str, str]:
        """Kind of each output, by name: `velocity`, `logits` of x_1, `estimates` of a regressor, or `prediction`."""
        with torch.no_grad():
            outputs = self._output(*self._unflatten(self.inputs()))
        return {_named("answer", name): self.family.output_kind_of(name) for name, _ in _walk(outputs, "")}

    def inputs(self) -> tuple[Tensor, ...]:
        """Return example inputs in the order of `input_names`."""
        guidance = [torch.linspace(1, 2, TRACE_BATCH_SIZE)] if self.guidance is None else []
        state_leaves, cond_leaves = ([leaf for _, leaf in _walk(tree, "")] for tree in (self.state, self.cond))
        return *state_leaves, torch.linspace(0.2, 0.7, TRACE_BATCH_SIZE), *cond_leaves, *guidance

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for a batch of inputs, which are in the order of `input_names`."""
        return tuple(leaf for _, leaf in _walk(self._output(*self._unflatten(tensors)), ""))

    def _unflatten(self, tensors: tuple[Tensor, ...]) -> tuple[State, Tensor, Cond, Tensor | float]:
        """Convert the positional tensors of an exported program to the arguments of the network.

        These are state, times, conditions and guidance scale.
        """
        iterator = iter(tensors)
        state = tree_unflatten(self.state, iterator)
        t = next(iterator)
        cond = tree_unflatten(self.cond, iterator)
        return state, t, cond, next(iterator) if self.guidance is None else self.guidance

    def _output(self, x: State, t: Tensor, cond: Cond, scale: Tensor | float) -> State:
        network: Network = cfg(self.network, scale, droppable=self.droppable)
        times = broadcast_time(t, x)
        prediction = network(x, times, cond)
        return self.family.export_output(prediction, x, times)


def _walk(tree: State, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a state as (name, leaf); the names of nested leaves are joined by dots."""
    if isinstance(tree, dict):
        for key, leaf in tree.items():
            yield from _walk(leaf, f"{name}.{key}" if name else key)
    else:
        yield name, tree


def _named(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if name else prefix


def _check(model: Model) -> None:
    """Raise a UsageError unless the network is a function of state, time and conditions."""
    if model.family.why_no_export:
        raise UsageError(model.family.why_no_export)
    if model.spec.modality.entry_label_counts:
        raise UsageError(
            "this network takes sounds, masks and phones of variable length", remedy="Sample with `feller sample`"
        )


def _example(model: Model) -> tuple[State, Cond]:
    spec, rng = model.spec, Rng(0).fold_in("export")
    state = spec.space.sample_base(TRACE_BATCH_SIZE, rng.stream("source"))
    state = spec.path.initial_state(state) if spec.family.is_process else state
    cond = spec.modality.add_derived_conditions(model.sample_conditions(TRACE_BATCH_SIZE, {}, rng))
    if takes_step_end(model.network):
        cond = {**cond, STEP_END: torch.linspace(0.6, 1.0, TRACE_BATCH_SIZE)}
    return tree_map(torch.Tensor.contiguous, state), tree_map(lambda leaf: leaf.contiguous().clone(), cond)


FORMAT = 1
"""Version of the metadata format."""


def export_metadata(model: Model, network: ExportedNetwork) -> dict[str, Any]:
    """Return JSON-compatible metadata that other programs need to use the exported file."""
    spec = model.spec
    with torch.no_grad():
        outputs = network(*network.inputs())
    return {
        "format": FORMAT,
        "version": __version__,
        "modality": to_dict(spec.modality),
        "space": to_dict(spec.space),
        "family": spec.family.name,
        **({"path": to_dict(spec.path)} if spec.family.is_process else {}),
        **({"target": to_dict(spec.family.prediction_target)} if spec.family.prediction_target else {}),
        "inputs": [
            _tensor(name, tensor, _meaning(name, model))
            for name, tensor in zip(network.input_names, network.inputs(), strict=True)
        ],
        "outputs": [
            _tensor(
                name,
                tensor,
                {"what": kind, "units": "state per unit of time"} if kind == "velocity" else {"what": kind},
            )
            for (name, kind), tensor in zip(network.output_kinds.items(), outputs, strict=True)
        ],
        "time": {"source": 0.0, "data": 1.0},
        "source": _source(spec),
        "scaling": scaling(spec.modality),
        "guidance": network.guidance if network.guidance is not None else "input; 1 is the plain conditional",
        "sample": [
            *([f"pass the end of each step as `{END}`: (i + 1) / n"] if takes_step_end(model.network) else []),
            *spec.family.sampling_steps(spec.space),
        ],
        "sampling": to_dict(spec.sampling),
    }


def _tensor(name: str, tensor: Tensor, fields: dict[str, Any]) -> dict[str, Any]:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return {"name": name, "shape": ["batch", *tensor.shape[1:]], "dtype": dtype, **fields}


def _meaning(name: str, model: Model) -> dict[str, Any]:
    spec = model.spec
    if name == "x" or name.startswith("x."):
        return {"what": "state"}
    if name == "t":
        return {"what": "time: 0 at the source, 1 at the data"}
    if name == END and takes_step_end(model.network):
        return {"what": "end s of the step: the velocity is its average from t to s; s = t gives the velocity at t"}
    if name == "guidance":
        return {"what": "guidance: 1 is the plain conditional, 0 the unconditional, more sharpens"}
    if name in spec.modality.selected_conditions:
        kind = spec.modality.selected_conditions[name]
        null = kind.null if spec.cond_dropout else None
        return {"what": f"condition: {type(kind).__name__}", "not_given": "NaN" if null != null else null}
    if name not in spec.frequencies:
        return {"what": "real entries of a state, the rest is padding" if name.startswith("valid") else "condition"}
    frequencies = spec.frequencies[name]
    classes = {"classes": [*spec.modality.conditions[name]], "frequencies": [*frequencies]}
    return {
        "what": "condition, by the number of its class",
        **classes,
        "not_given": len(frequencies) if spec.cond_dropout else None,
    }


def _source(spec: ModelSpec) -> dict[str, Any]:
    space = spec.space
    if isinstance(space, Euclidean):
        ones = torch.ones(1, *space.shape)
        initial = spec.path.initial_state(ones) if spec.family.is_process else ones
        return {"law": "standard normal", "factor": float(initial.flatten()[0])}
    return {"law": "that of the space", "factor": 1.0}


def scaling(modality: Modality) -> dict[str, Any]:
    """Return a description of how states at t = 1 are converted to data units."""
    if (points := modality.view(Points)) is not None:
        return {
            "value": "x * scale + mean, a number for each column",
            "columns": [*points.columns],
            "mean": [*points.mean],
            "scale": [*points.scale],
        }
    if (images := modality.view(Images)) is not None and images.code.module is not None:
        return {
            "value": "round the output of `decoder` for x, at least 0 and at most levels; 0 is black, levels is white",
            "levels": images.levels,
            "axes": "channel, row, column",
        }
    if images is not None and isinstance(images.code, AsNumbers):
        return {
            "value": "round((x + 1) / 2 * levels), at least 0 and at most levels; 0 is black, levels is white",
            "levels": images.levels,
            "axes": "channel, row, column",
        }
    return {"value": f"see `modality`; feller.load_model(run).spec.modality.decode does it ({modality.display_name})"}

"""Specification of a model (all except its weights): storage in run folders, and resolution of given conditions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

import feller.data.all_modalities
import feller.models.families.path_process
import feller.models.families.predictive_models
import feller.models.families.sequence_models
import feller.models.infilling  # noqa: F401 - records name classes of all of these
from feller.core.errors import InputError, UsageError, best_match, check_probabilities, found_instead, is_too_large
from feller.core.pytree import Cond, State, tree_map
from feller.core.rng import Rng, categorical
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors, load_weights
from feller.core.serialization import CHOSEN, from_dict, to_dict
from feller.core.user_code import choose_code, fingerprint
from feller.data.loading.raw import error_context
from feller.data.loading.sample_reader import condition_leaf
from feller.data.modality import Dataset, Modality
from feller.models.families.model_family import ModelFamily
from feller.networks.condition_dropout import check_cond_dropout
from feller.networks.network_config import DEFAULT_PARAMETER_BYTES, NetworkConfig, limit_parameter_bytes
from feller.paths import Path
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Space


@dataclass(frozen=True)
class ModelSpec:
    """Specification of a model, which contains everything except the weights.

    It holds the modality of the data, the state space, the model family, the network configuration and the sampler
    settings.
    """

    modality: Modality
    space: Space
    family: ModelFamily
    """Model family of the network."""
    architecture: NetworkConfig
    frequencies: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Frequency of each class of each condition in the training data."""
    sampling: SamplerConfig = field(default_factory=SamplerConfig)
    cond_dropout: float = 0.0
    """Probability with which training drops the conditions of an example; if it is 0, the network has no null
    values."""
    conditionable: tuple[str, ...] = ()
    """Names of the components (leaves) of the state that can be observed while the other leaves are sampled."""
    aux_hashes: dict[str, str] = field(default_factory=dict)
    """Hashes of the weights files of the auxiliary networks used in training."""

    def __post_init__(self) -> None:
        check_cond_dropout(self.cond_dropout)
        for name, frequencies in self.frequencies.items():
            check_probabilities(f"frequencies[{name}]", frequencies)
        for name, classes in self.modality.conditions.items():
            if len(set(classes)) < len(classes):
                raise InputError(f"distinct class names for {name}", "duplicates")

    @property
    def path(self) -> Path:
        """Path of the model's process."""
        return self.family.require_path()

    def build(self, rng: Rng) -> nn.Module:
        """Build the model's network with newly initialised weights."""
        shape = tree_map(lambda leaf: tuple(leaf.shape[1:]), self.space.sample_base(0, rng.stream("shape")))
        counts = {name: len(classes) for name, classes in self.frequencies.items()}
        return self.architecture.build(shape, {**counts, **self.modality.entry_label_counts}, rng.fold_in("network"))


def state_shapes(space: Space) -> str:
    """Return a text with the shapes of a space's states, such as `image [1, 8, 8] and label []`."""
    return _written(space.sample_base(0, Rng(0).stream("shape")))


def _written(state: State) -> str:
    if not isinstance(state, dict):
        return str([*state.shape[1:]])
    return " and ".join(f"{name} {_written(leaf)}" for name, leaf in sorted(state.items()))


def class_frequencies(data: Dataset) -> dict[str, tuple[float, ...]]:
    """Return the frequency of each class of each condition in a dataset.

    Raises:
        InputError: If the data lack a condition of their modality.
    """
    for name in data.modality.conditions:
        if name not in data.given:
            raise InputError(
                f"these data have no condition {name}, which the model needs", remedy="Add this condition to the data"
            )
    cond = data.given if data.stream is None else {**data.given, **data.stream.given}
    return {
        name: tuple((torch.bincount(cond[name], minlength=len(classes)).double() / len(cond[name])).tolist())
        for name, classes in data.modality.conditions.items()
    }


def save_spec(run: Run, spec: ModelSpec) -> None:
    """Write a model's specification to its run folder."""
    run.write_record(run.model, to_dict(spec))


def load_spec(run: Run) -> ModelSpec:
    """Read the specification of a run's model from the run folder.

    Raises:
        InputError: If the record is missing or damaged, or was written by a newer version of feller.
    """
    record = run.read_record(run.model)
    if CHOSEN:  # class names may be ambiguous
        choose_code(run.path, _code_of(run))
    with error_context(run.model):
        # Some modalities contain networks, so reading the record allocates parameters.
        spec = limit_parameter_bytes(DEFAULT_PARAMETER_BYTES, lambda: from_dict(ModelSpec, record))
    try:
        space_shapes, modality_shapes = state_shapes(spec.space), state_shapes(spec.modality.space())
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = "not enough memory" if is_too_large(error) else message
        raise InputError(
            f"the states of this model cannot be created: {reason}", remedy="Copy the whole run", file=run.model
        ) from error
    if space_shapes != modality_shapes:
        raise InputError(
            f"the record is damaged: its space has states of {space_shapes}, but its data"
            f" ({spec.modality.display_name}) have states of {modality_shapes}",
            remedy="Copy the whole run, or fit again",
            file=run.model,
        )
    return spec


def _code_of(run: Run) -> str:
    """Return the hash of the user code that a run was fitted with; empty if there is none or it is unreadable."""
    try:
        provenance = run.read_record(run.recipe).get("provenance", {})
    except InputError:  # reported where the file is needed
        return ""
    code = provenance.get("code", "") if isinstance(provenance, dict) else ""
    return code if isinstance(code, str) else ""


def load_aux_network(run: Run, name: str, module: nn.Module, expected: str | None) -> str:
    """Load the weights of an auxiliary network into a module, and return the hash of the weights file.

    Args:
        run: Run that contains the weights file.
        name: Name of the auxiliary network.
        module: Network whose weights are loaded.
        expected: Expected hash of the weights file; None if no model has been trained with the network yet.

    Raises:
        InputError: If the weights file is missing, damaged, or from another run.
    """
    file = run.aux_weights(name)
    if not file.is_file():
        raise InputError("a weights file", "no such file", "Copy the whole run", file=file)
    weights, _ = load_tensors(file)
    digest, mismatch = fingerprint(file), f"does not match {run.model}: the files come from different runs"
    if expected not in (None, digest):
        raise InputError(mismatch, remedy="Copy the whole run", file=file)
    try:
        load_weights(weights, module)
    except RuntimeError as error:
        raise InputError(mismatch, remedy="Copy the whole run", file=file) from error
    return digest


def draw_conditions(spec: ModelSpec, n: int, requested: dict[str, str], rng: Rng) -> Cond:
    """Return the conditions of n samples: those requested; others are sampled with their training frequencies.

    `requested` maps the names of conditions to their classes.

    Raises:
        UsageError: If a condition or its value is unknown.
    """
    frequencies = spec.frequencies
    for name in requested:
        if name not in frequencies:
            allowed = [*frequencies, *(spec.modality.conditionable_leaves if spec.conditionable else ())]
            raise UsageError.unknown_name("given", name, allowed)
    cond = {}
    for name, probs in frequencies.items():
        if name in requested:
            cond[name] = torch.full((n,), spec.modality.class_index(name, requested[name]))
        else:
            u = rng.stream(f"condition {name}").uniform((n,), torch.float64)
            cond[name] = categorical(torch.tensor(probs, dtype=torch.float64), u)
    return cond


def resolve_given(spec: ModelSpec, n: int, given: Mapping[str, Any] | None, rng: Rng) -> tuple[Cond, dict[str, State]]:
    """Convert conditions given by a user to class indices for n samples, and to observed parts (leaves) of the state.

    Args:
        spec: Specification of the model.
        n: Number of samples.
        given: Value of each given condition or leaf, by name: a class name, a class index, a list, array or tensor of n
            of either, or a text for a leaf. If values are class names, or if `given` is None, other conditions are
            sampled with their training frequencies. A leaf may imply conditions: the elements of a crystal give its
            number of atoms. A name may set several leaves: a protein structure sets two.
        rng: Random streams for sampled conditions.

    Raises:
        UsageError: If a condition, a leaf or one of their values is unknown, or if two values conflict.
    """
    _check_named(spec, given)
    class_names = {name: str(value) for name, value in (given or {}).items() if isinstance(value, str | Integral)}
    values: dict[str, Any] = {name: value for name, value in (given or {}).items() if name not in class_names}
    condition_names = [*spec.frequencies]
    for name, value in values.items():
        if isinstance(value, dict):  # masks of leaves, such as `valid`
            continue
        if name in condition_names:
            values[name] = value = _class_numbers(spec, name, value, n)
        if not isinstance(value, Tensor):
            expected = f"a class name or number, or a list, array or tensor of {n} class numbers"
            raise UsageError(argument=name, expected=expected, found=repr(value))
        if len(value) != n:
            raise UsageError(f"{n} entries, one per sample", list(value.shape), argument=name)
        if name not in condition_names and (
            closest := best_match(name, [condition for condition in condition_names if condition not in values])
        ):
            raise UsageError(f"unknown condition {name!r}", remedy=f"Did you mean {closest!r}?", argument="given")
    if given is not None and not class_names:
        return values, {}
    cond, observed = _parse_named(spec, n, class_names, rng)
    return {**cond, **values}, observed


def named_classes(about: ModelSpec, given: Any) -> Any:
    """Return `given` with integer tensors of conditions converted to lists, whose numbers may be read as class names.

    Other values are unchanged.
    """
    if not isinstance(given, Mapping):
        return given

    def to_list(name: str, value: Any) -> Any:
        is_condition = isinstance(value, Tensor) and value.ndim == 1 and name in about.modality.conditions
        is_integer = is_condition and not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
        return value.tolist() if is_integer else value

    return {name: to_list(name, value) for name, value in given.items()}


def _class_numbers(spec: ModelSpec, name: str, value: Any, n: int) -> Tensor:
    """Return the class numbers of n samples, [n]: tensors unchanged, other values by name or number."""
    classes = spec.modality.conditions.get(name, ())
    if not isinstance(value, Tensor):
        entries = value.tolist() if hasattr(value, "tolist") else [*value] if isinstance(value, list | tuple) else value
        if not isinstance(entries, list) or not all(isinstance(entry, str | Integral) for entry in entries):
            example = f'{{"{name}": "{classes[0] if classes else 0}"}}'
            expected = f"a class name or number, such as {example}, or {n} of them"
            raise UsageError(argument=name, expected=expected, found=repr(value))
        value = torch.tensor([spec.modality.class_index(name, str(entry)) for entry in entries])
    if value.is_floating_point() and value.ndim > 1 and len(value) == n:  # vectors used as embeddings
        return value
    num_classes = len(spec.frequencies[name])  # the null value
    is_integer = not value.is_floating_point() and not value.is_complex() and value.dtype != torch.bool
    if value.shape != (n,) or not is_integer or bool(((value < 0) | (value > num_classes)).any()):
        found = f"{value.dtype} {list(value.shape)}" if value.shape != (n,) or not is_integer else value.tolist()
        raise UsageError(argument=name, expected=f"{n} integers from 0 to {num_classes - 1}, shape [{n}]", found=found)
    return value.long()


def _parse_named(spec: ModelSpec, n: int, requested: dict[str, str], rng: Rng) -> tuple[Cond, dict[str, State]]:
    """Parse named conditions and leaves from text."""
    modality, observed = spec.modality, {}
    conditions = {name: text for name, text in requested.items() if name not in modality.conditionable_leaves}
    for leaf in sorted(requested.keys() - conditions.keys()):
        value, implied = condition_leaf(modality, leaf, requested[leaf])
        leaf_values = value if isinstance(value, dict) else {leaf: value}
        if not leaf_values.keys() <= {*spec.conditionable}:
            allowed = ", ".join(spec.conditionable) or "none"
            raise UsageError(
                f"this model cannot be conditioned on {leaf}, only on: {allowed}", remedy="Drop this condition"
            )
        for name, index in implied.items():
            text = modality.conditions[name][index]
            if conditions.setdefault(name, text) != text:
                raise UsageError(
                    f"{leaf} implies {name} {text}, but {conditions[name]} is given",
                    remedy="Drop one of the two conditions",
                )
        observed |= {name: tensor.expand(n, *tensor.shape[1:]) for name, tensor in leaf_values.items()}
    return draw_conditions(spec, n, conditions, rng), observed


def _check_named(spec: ModelSpec, given: Any) -> None:
    """Check that conditions are given by name; UsageError otherwise."""
    if given is not None and not isinstance(given, Mapping):
        name, classes = next(iter(spec.modality.conditions.items()), ("label", ("7",)))
        example = f'{{"{name}": "{classes[0]}"}}'
        expected = f"a dict of names and values, such as {example}"
        raise UsageError(argument="given", expected=expected, found=found_instead(given))

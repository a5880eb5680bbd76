"""What a model is, but for its weights."""

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
from feller.core.errors import InputError, UsageError, best_match, found_instead, is_too_large
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
    """What a model is, but for its weights."""

    modality: Modality
    space: Space
    family: ModelFamily
    """What the network means."""
    architecture: NetworkConfig
    frequencies: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """How often each class of each condition is in the training data."""
    sampling: SamplerConfig = field(default_factory=SamplerConfig)
    cond_dropout: float = 0.0
    """Chance with which conditions were dropped in training; without it the network knows no "not given"."""
    conditionable: tuple[str, ...] = ()
    """Leaves of the state that may be given: the model has learned to draw the others beside them."""
    aux_hashes: dict[str, str] = field(default_factory=dict)
    """Hashes of the files of the networks that data need to be read and written, with which the model has learned."""

    def __post_init__(self) -> None:
        check_cond_dropout(self.cond_dropout)
        for name, classes in self.modality.conditions.items():
            if len(set(classes)) < len(classes):
                raise InputError(f"classes of {name} that differ", "two of one name")

    @property
    def path(self) -> Path:
        """The path that the network drives."""
        return self.family.require_path()

    def build(self, rng: Rng) -> nn.Module:
        """Make the network, with new weights."""
        shape = tree_map(lambda leaf: tuple(leaf.shape[1:]), self.space.sample_base(0, rng.stream("shape")))
        counts = {name: len(shares) for name, shares in self.frequencies.items()}
        return self.architecture.build(shape, {**counts, **self.modality.entry_label_counts}, rng.fold_in("network"))


def state_shapes(space: Space) -> str:
    """Write the shapes of the states of a space, such as `image [1, 8, 8] and label []`."""
    return _written(space.sample_base(0, Rng(0).stream("shape")))


def _written(state: State) -> str:
    if not isinstance(state, dict):
        return str([*state.shape[1:]])
    return " and ".join(f"{name} {_written(leaf)}" for name, leaf in sorted(state.items()))


def class_frequencies(data: Dataset) -> dict[str, tuple[float, ...]]:
    """Count how often each class of each condition occurs.

    Raises:
        InputError: If the data lack a condition of their modality.
    """
    for name in data.modality.conditions:
        if name not in data.given:
            raise InputError(
                f"these data have no {name}, and the model that they are for has", remedy="Add that column"
            )
    cond = data.given if data.stream is None else {**data.given, **data.stream.given}
    return {
        name: tuple((torch.bincount(cond[name], minlength=len(classes)).double() / len(cond[name])).tolist())
        for name, classes in data.modality.conditions.items()
    }


def save_spec(run: Run, spec: ModelSpec) -> None:
    """Write what the model is."""
    run.write_record(run.model, to_dict(spec))


def load_spec(run: Run) -> ModelSpec:
    """Read what the model of a run is.

    Raises:
        InputError: If the record is missing, damaged or newer than this version.
    """
    record = run.read_record(run.model)
    if CHOSEN:  # names may mean several things
        choose_code(run.path, _code_of(run))
    with error_context(run.model):
        spec = limit_parameter_bytes(
            DEFAULT_PARAMETER_BYTES, lambda: from_dict(ModelSpec, record)
        )  # some modalities hold networks
    try:
        space_shapes, modality_shapes = state_shapes(spec.space), state_shapes(spec.modality.space())
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        why = "they take more memory than there is" if is_too_large(error) else message
        raise InputError(
            f"has states that cannot be made: {why}", remedy="Copy the whole run", file=run.model
        ) from error
    if space_shapes != modality_shapes:
        raise InputError(
            f"was damaged: its space has states of {space_shapes}, and its data, {spec.modality.display_name}, make"
            f" states of {modality_shapes}",
            remedy="Copy the whole run, or fit anew",
            file=run.model,
        )
    return spec


def _code_of(run: Run) -> str:
    """Return the hash of the user's file that a run was fitted with; empty where there is none, or none can be read."""
    try:
        found = run.read_record(run.recipe).get("provenance", {})
    except InputError:  # who needs that file says what is wrong with it
        return ""
    code = found.get("code", "") if isinstance(found, dict) else ""
    return code if isinstance(code, str) else ""


def load_aux_network(run: Run, name: str, module: nn.Module, expected: str | None) -> str:
    """Give one of the networks that data need to be read and written its weights, and return the hash of their file.

    Args:
        run: Holds them.
        name: Of the network.
        module: The network.
        expected: The hash that they must have; None as long as nothing was learned with them.

    Raises:
        InputError: If the file is missing, damaged, or that of another network.
    """
    file = run.aux_weights(name)
    if not file.is_file():
        raise InputError("a file", "none", "Copy the whole run", file=file)
    weights, _ = load_tensors(file)
    digest, wrong = fingerprint(file), f"does not belong to {run.model}: they are of two runs"
    if expected not in (None, digest):
        raise InputError(wrong, remedy="Copy the whole run", file=file)
    try:
        load_weights(weights, module)
    except RuntimeError as error:
        raise InputError(wrong, remedy="Copy the whole run", file=file) from error
    return digest


def draw_conditions(spec: ModelSpec, n: int, requested: dict[str, str], rng: Rng) -> Cond:
    """Return the conditions of n samples: those that are wanted, others drawn as often as in the data.

    Raises:
        UsageError: If a condition or its value is unknown.
    """
    frequencies = spec.frequencies
    for name in requested:
        if name not in frequencies:
            may = [*frequencies, *(spec.modality.conditionable_leaves if spec.conditionable else ())]
            raise UsageError.unknown_name("given", name, may)
    cond = {}
    for name, shares in frequencies.items():
        if name in requested:
            cond[name] = torch.full((n,), spec.modality.class_index(name, requested[name]))
        else:
            u = rng.stream(f"condition {name}").uniform((n,), torch.float64)
            cond[name] = categorical(torch.tensor(shares, dtype=torch.float64), u)
    return cond


def resolve_given(spec: ModelSpec, n: int, given: Mapping[str, Any] | None, rng: Rng) -> tuple[Cond, dict[str, State]]:
    """Return conditions of n samples as numbers, and the leaves of their states that are given.

    Args:
        spec: The model.
        n: Number of samples.
        given: Names of classes, positions of classes, tensors [n], lists or arrays of either, or texts of leaves.
            Beside a name, and where it is None, other conditions are drawn as often as in the data. A leaf may say more
            than itself: the elements of a crystal say how many atoms it has. A name may stand for several leaves: the
            structure of a protein is two.
        rng: Source of the conditions that are drawn.

    Raises:
        UsageError: If a condition, a leaf or its value is unknown, or two say different things.
    """
    _check_named(spec, given)
    class_names = {name: str(value) for name, value in (given or {}).items() if isinstance(value, str | Integral)}
    others: dict[str, Any] = {name: value for name, value in (given or {}).items() if name not in class_names}
    condition_names = [*spec.frequencies]
    for name, value in others.items():
        if isinstance(value, dict):  # marks of leaves, such as which are valid
            continue
        if name in condition_names:
            others[name] = value = _class_numbers(spec, name, value, n)
        if not isinstance(value, Tensor):
            expected = f"the name or the number of a class, or a list, an array or a tensor of {n} numbers"
            raise UsageError(argument=name, expected=expected, found=repr(value))
        if len(value) != n:
            raise UsageError(f"one entry for each of {n} samples", list(value.shape), argument=name)
        if name not in condition_names and (
            close := best_match(name, [one for one in condition_names if one not in others])
        ):
            raise UsageError(f"no {name!r} can be given", remedy=f"Did you mean {close!r}?", argument="given")
    if given is not None and not class_names:
        return others, {}
    cond, fixed = _parse_named(spec, n, class_names, rng)
    return {**cond, **others}, fixed


def named_classes(about: ModelSpec, given: Any) -> Any:
    """Return what a person gives, with tensors of whole numbers as lists, in which numbers may be names of classes."""
    if not isinstance(given, Mapping):
        return given

    def listed(name: str, value: Any) -> Any:
        classes = isinstance(value, Tensor) and value.ndim == 1 and name in about.modality.conditions
        whole = classes and not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
        return value.tolist() if whole else value

    return {name: listed(name, value) for name, value in given.items()}


def _class_numbers(about: ModelSpec, name: str, value: Any, n: int) -> Tensor:
    """Return the numbers of the classes of n samples, [n]: of a tensor as they are, else by name or number."""
    classes = about.modality.conditions.get(name, ())
    if not isinstance(value, Tensor):
        listed = value.tolist() if hasattr(value, "tolist") else [*value] if isinstance(value, list | tuple) else value
        if not isinstance(listed, list) or not all(isinstance(one, str | Integral) for one in listed):
            example = f'{{"{name}": "{classes[0] if classes else 0}"}}'
            expected = f"the name or the number of a class, as in {example}, or {n} of them"
            raise UsageError(argument=name, expected=expected, found=repr(value))
        value = torch.tensor([about.modality.class_index(name, str(one)) for one in listed])
    if value.is_floating_point() and value.ndim > 1 and len(value) == n:  # vectors in place of embeddings
        return value
    most = len(about.frequencies[name])  # which stands for "not given"
    whole = not value.is_floating_point() and not value.is_complex() and value.dtype != torch.bool
    if value.shape != (n,) or not whole or bool(((value < 0) | (value > most)).any()):
        found = f"{value.dtype} {list(value.shape)}" if value.shape != (n,) or not whole else value.tolist()
        raise UsageError(argument=name, expected=f"{n} whole numbers from 0 to {most - 1}, [{n}]", found=found)
    return value.long()


def _parse_named(spec: ModelSpec, n: int, requested: dict[str, str], rng: Rng) -> tuple[Cond, dict[str, State]]:
    """Return conditions and leaves by their names and texts."""
    modality, fixed = spec.modality, {}
    conditions = {name: text for name, text in requested.items() if name not in modality.conditionable_leaves}
    for leaf in sorted(requested.keys() - conditions.keys()):
        value, follows = condition_leaf(modality, leaf, requested[leaf])
        leaf_values = value if isinstance(value, dict) else {leaf: value}
        if not leaf_values.keys() <= {*spec.conditionable}:
            allowed = ", ".join(spec.conditionable) or "none"
            raise UsageError(
                f"this model has not learned to take {leaf} as given, only: {allowed}", remedy="Leave it out"
            )
        for name, number in follows.items():
            text = modality.conditions[name][number]
            if conditions.setdefault(name, text) != text:
                raise UsageError(
                    f"{leaf} says that {name} is {text}, not {conditions[name]}", remedy="Leave one of them out"
                )
        fixed |= {name: part.expand(n, *part.shape[1:]) for name, part in leaf_values.items()}
    return draw_conditions(spec, n, conditions, rng), fixed


def _check_named(spec: ModelSpec, given: Any) -> None:
    """Refuse what is given without a name."""
    if given is not None and not isinstance(given, Mapping):
        name, classes = next(iter(spec.modality.conditions.items()), ("label", ("7",)))
        example = f'{{"{name}": "{classes[0]}"}}'
        expected = f"a dict from names to values, such as {example}"
        raise UsageError(argument="given", expected=expected, found=found_instead(given))

"""What a model is, but for its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

import feller.data.modalities
import feller.models.families.answering_models
import feller.models.families.path_process
import feller.models.families.symbol_models
import feller.models.infilling  # noqa: F401 - records name classes of all of these
from feller.core.errors import InputError, UsageError, best_match, found_instead, is_too_large
from feller.core.pytree import Cond, State, tree_map
from feller.core.rng import Rng, categorical
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors, load_weights
from feller.core.serialization import CHOSEN, from_dict, to_dict
from feller.core.user_code import choose_code, fingerprint
from feller.data.loading.raw import about
from feller.data.loading.read_samples import give
from feller.data.modality import Dataset, Modality
from feller.models.families.model_family import ModelFamily
from feller.networks.architecture import PLENTY, Architecture, within
from feller.networks.condition_dropout import check_cond_dropout
from feller.paths import Path
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Space


@dataclass(frozen=True)
class Description:
    """What a model is, but for its weights."""

    modality: Modality
    space: Space
    family: ModelFamily
    """What the network means."""
    architecture: Architecture
    frequencies: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """How often each class of each condition is in the training data."""
    sampling: SamplerConfig = field(default_factory=SamplerConfig)
    cond_dropout: float = 0.0
    """Chance with which conditions were dropped in training; without it the network knows no "not given"."""
    fixable: tuple[str, ...] = ()
    """Leaves of the state that may be given: the model has learned to draw the others beside them."""
    parts: dict[str, str] = field(default_factory=dict)
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

    def build(self, draws: Rng) -> nn.Module:
        """Make the network, with new weights."""
        shape = tree_map(lambda leaf: tuple(leaf.shape[1:]), self.space.sample_base(0, draws.stream("shape")))
        counts = {name: len(shares) for name, shares in self.frequencies.items()}
        return self.architecture.build(shape, {**counts, **self.modality.labels}, draws.fold_in("network"))


def shapes(space: Space) -> str:
    """Write the shapes of the states of a space, such as `image [1, 8, 8] and label []`."""
    return _written(space.sample_base(0, Rng(0).stream("shape")))


def _written(state: State) -> str:
    if not isinstance(state, dict):
        return str([*state.shape[1:]])
    return " and ".join(f"{name} {_written(leaf)}" for name, leaf in sorted(state.items()))


def frequencies(data: Dataset) -> dict[str, tuple[float, ...]]:
    """Count how often each class of each condition occurs.

    Raises:
        InputError: If the data lack a condition of their modality.
    """
    for name in data.modality.conditions:
        if name not in data.given:
            raise InputError(
                f"these data have no {name}, and the model that they are for has", remedy="Add that column"
            )
    known = data.given if data.stream is None else {**data.given, **data.stream.given}
    return {
        name: tuple((torch.bincount(known[name], minlength=len(classes)).double() / len(known[name])).tolist())
        for name, classes in data.modality.conditions.items()
    }


def save_description(run: Run, description: Description) -> None:
    """Write what the model is."""
    run.write_record(run.model, to_dict(description))


def load_description(run: Run) -> Description:
    """Read what the model of a run is.

    Raises:
        InputError: If the record is missing, damaged or newer than this version.
    """
    record = run.read_record(run.model)
    if CHOSEN:  # names may mean several things
        choose_code(run.path, _code_of(run))
    with about(run.model):
        found = within(PLENTY, lambda: from_dict(Description, record))  # some modalities hold networks
    try:
        ours, theirs = shapes(found.space), shapes(found.modality.space())
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        why = "they take more memory than there is" if is_too_large(error) else told
        raise InputError(
            f"has states that cannot be made: {why}", remedy="Copy the whole run", file=run.model
        ) from error
    if ours != theirs:
        raise InputError(
            f"was damaged: its space has states of {ours}, and its data, {found.modality.called}, make states of"
            f" {theirs}",
            remedy="Copy the whole run, or fit anew",
            file=run.model,
        )
    return found


def _code_of(run: Run) -> str:
    """Return the hash of the user's file that a run was fitted with; empty where there is none, or none can be read."""
    try:
        found = run.read_record(run.recipe).get("provenance", {})
    except InputError:  # who needs that file says what is wrong with it
        return ""
    code = found.get("code", "") if isinstance(found, dict) else ""
    return code if isinstance(code, str) else ""


def load_part(run: Run, name: str, module: nn.Module, expected: str | None) -> str:
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
    found, wrong = fingerprint(file), f"does not belong to {run.model}: they are of two runs"
    if expected not in (None, found):
        raise InputError(wrong, remedy="Copy the whole run", file=file)
    try:
        load_weights(weights, module)
    except RuntimeError as error:
        raise InputError(wrong, remedy="Copy the whole run", file=file) from error
    return found


def draw_conditions(about: Description, n: int, wanted: dict[str, str], draws: Rng) -> Cond:
    """Return the conditions of n samples: those that are wanted, others drawn as often as in the data.

    Raises:
        UsageError: If a condition or its value is unknown.
    """
    known = about.frequencies
    for name in wanted:
        if name not in known:
            may = [*known, *(about.modality.leaves if about.fixable else ())]
            raise UsageError.unknown_name("given", name, may)
    given = {}
    for name, shares in known.items():
        if name in wanted:
            given[name] = torch.full((n,), about.modality.condition(name, wanted[name]))
        else:
            u = draws.stream(f"condition {name}").uniform((n,), torch.float64)
            given[name] = categorical(torch.tensor(shares, dtype=torch.float64), u)
    return given


def resolve_given(
    about: Description, n: int, given: Mapping[str, Any] | None, draws: Rng
) -> tuple[Cond, dict[str, State]]:
    """Return conditions of n samples as numbers, and the leaves of their states that are given.

    Args:
        about: The model.
        n: Number of samples.
        given: Names of classes, positions of classes, tensors [n], lists or arrays of either, or texts of leaves.
            Beside a name, and where it is None, other conditions are drawn as often as in the data. A leaf may say more
            than itself: the elements of a crystal say how many atoms it has. A name may stand for several leaves: the
            structure of a protein is two.
        draws: Source of the conditions that are drawn.

    Raises:
        UsageError: If a condition, a leaf or its value is unknown, or two say different things.
    """
    _check_named(about, given)
    named = {name: str(value) for name, value in (given or {}).items() if isinstance(value, str | Integral)}
    others: dict[str, Any] = {name: value for name, value in (given or {}).items() if name not in named}
    known = [*about.frequencies]
    for name, value in others.items():
        if isinstance(value, dict):  # marks of leaves, such as which are valid
            continue
        if name in known:
            others[name] = value = _class_numbers(about, name, value, n)
        if not isinstance(value, Tensor):
            expected = f"the name or the number of a class, or a list, an array or a tensor of {n} numbers"
            raise UsageError(argument=name, expected=expected, found=repr(value))
        if len(value) != n:
            raise UsageError(f"one entry for each of {n} samples", list(value.shape), argument=name)
        if name not in known and (close := best_match(name, [one for one in known if one not in others])):
            raise UsageError(f"no {name!r} can be given", remedy=f"Did you mean {close!r}?", argument="given")
    if given is not None and not named:
        return others, {}
    drawn, fixed = _resolve_names(about, n, named, draws)
    return {**drawn, **others}, fixed


def named_classes(about: Description, given: Any) -> Any:
    """Return what a person gives, with tensors of whole numbers as lists, in which numbers may be names of classes."""
    if not isinstance(given, Mapping):
        return given

    def listed(name: str, value: Any) -> Any:
        classes = isinstance(value, Tensor) and value.ndim == 1 and name in about.modality.conditions
        whole = classes and not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
        return value.tolist() if whole else value

    return {name: listed(name, value) for name, value in given.items()}


def _class_numbers(about: Description, name: str, value: Any, n: int) -> Tensor:
    """Return the numbers of the classes of n samples, [n]: of a tensor as they are, else by name or number."""
    classes = about.modality.conditions.get(name, ())
    if not isinstance(value, Tensor):
        listed = value.tolist() if hasattr(value, "tolist") else [*value] if isinstance(value, list | tuple) else value
        if not isinstance(listed, list) or not all(isinstance(one, str | Integral) for one in listed):
            example = f'{{"{name}": "{classes[0] if classes else 0}"}}'
            expected = f"the name or the number of a class, as in {example}, or {n} of them"
            raise UsageError(argument=name, expected=expected, found=repr(value))
        value = torch.tensor([about.modality.condition(name, str(one)) for one in listed])
    if value.is_floating_point() and value.ndim > 1 and len(value) == n:  # vectors in place of embeddings
        return value
    most = len(about.frequencies[name])  # which stands for "not given"
    whole = not value.is_floating_point() and not value.is_complex() and value.dtype != torch.bool
    if value.shape != (n,) or not whole or bool(((value < 0) | (value > most)).any()):
        found = f"{value.dtype} {list(value.shape)}" if value.shape != (n,) or not whole else value.tolist()
        raise UsageError(argument=name, expected=f"{n} whole numbers from 0 to {most - 1}, [{n}]", found=found)
    return value.long()


def _resolve_names(about: Description, n: int, wanted: dict[str, str], draws: Rng) -> tuple[Cond, dict[str, State]]:
    """Return conditions and leaves by their names and texts."""
    modality, fixed = about.modality, {}
    conditions = {name: text for name, text in wanted.items() if name not in modality.leaves}
    for leaf in sorted(wanted.keys() - conditions.keys()):
        value, follows = give(modality, leaf, wanted[leaf])
        given = value if isinstance(value, dict) else {leaf: value}
        if not given.keys() <= {*about.fixable}:
            known = ", ".join(about.fixable) or "none"
            raise UsageError(
                f"this model has not learned to take {leaf} as given, only: {known}", remedy="Leave it out"
            )
        for name, number in follows.items():
            text = modality.conditions[name][number]
            if conditions.setdefault(name, text) != text:
                raise UsageError(
                    f"{leaf} says that {name} is {text}, not {conditions[name]}", remedy="Leave one of them out"
                )
        fixed |= {name: part.expand(n, *part.shape[1:]) for name, part in given.items()}
    return draw_conditions(about, n, conditions, draws), fixed


def _check_named(about: Description, given: Any) -> None:
    """Refuse what is given without a name."""
    if given is not None and not isinstance(given, Mapping):
        name, classes = next(iter(about.modality.conditions.items()), ("label", ("7",)))
        example = f'{{"{name}": "{classes[0]}"}}'
        expected = f"a dict from names to values, such as {example}"
        raise UsageError(argument="given", expected=expected, found=found_instead(given))

"""Conversion of the conditions that a user gives to the conditions of a network and to observed parts of the state."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from feller.core.errors import UsageError, best_match, found_instead, warn
from feller.core.pytree import Cond, State
from feller.core.rng import Rng, categorical
from feller.data.labels import checked_class_ids
from feller.data.loading.sample_reader import condition_leaf
from feller.models.spec import ModelSpec


def draw_conditions(spec: ModelSpec, n: int, requested: Mapping[str, object], rng: Rng) -> Cond:
    """Return the conditions of n samples: those requested; other classes are sampled with their training frequencies.

    Conditions that were selected at the fit and are not requested get their null value. `requested` maps the names of
    conditions to their values.

    Raises:
        UsageError: If a condition or its value is unknown, or a condition without a null value is missing.
    """
    return {**_drawn_classes(spec, n, requested, rng), **_selected_values(spec, n, requested)}


def _drawn_classes(spec: ModelSpec, n: int, requested: Mapping[str, object], rng: Rng) -> Cond:
    """Return the class conditions of n samples: those requested; others are sampled with their training frequencies."""
    for name in requested:
        if name not in spec.condition_names:
            raise _unknown_condition(spec, name)
    cond = {}
    for name, probs in spec.frequencies.items():
        if name in requested:
            cond[name] = torch.full((n,), spec.modality.class_index(name, str(requested[name])))
        else:
            u = rng.stream(f"condition {name}").uniform((n,), torch.float64)
            cond[name] = categorical(torch.tensor(probs, dtype=torch.float64), u)
    return cond


def _unknown_condition(spec: ModelSpec, name: str) -> UsageError:
    allowed = [*spec.condition_names, *(spec.modality.conditionable_leaves if spec.conditionable else ())]
    return UsageError.unknown_name("given", name, allowed)


def _selected_values(spec: ModelSpec, n: int, given: Mapping[str, Any]) -> Cond:
    """Return the values of the selected conditions of n samples, by name; null if not given.

    Warns of values outside of the training range.

    Raises:
        UsageError: If a value has the wrong type or is unknown, or a condition without a null value is missing.
    """
    cond = {}
    for name, kind in spec.modality.selected_conditions.items():
        if name in given:
            cond[name] = kind.parse(name, _as_array(given[name]), n)
            if (training_range := kind.outside(cond[name])) is not None:
                warn(f"{name} is outside of its training range, {training_range}; the model extrapolates")
            if not spec.cond_dropout and bool(kind.is_null(cond[name]).any()):
                warn(f"{name} is missing in some samples, but the model was trained without condition dropout")
        elif spec.cond_dropout:
            cond[name] = kind.null_values(n)
        else:
            raise UsageError(
                argument="given",
                expected=f"a value of {name}, since the model was trained without condition dropout",
                found="none",
                remedy=f"Add {name}={kind.example}",
            )
    return cond


def _as_array(value: Any) -> Any:
    """Return the values of a pandas or pyarrow column as an array; other values unchanged."""
    return value.to_numpy() if hasattr(value, "to_numpy") else value


def resolve_given(spec: ModelSpec, n: int, given: Mapping[str, Any] | None, rng: Rng) -> tuple[Cond, dict[str, State]]:
    """Convert conditions given by a user to conditions of n samples, and to observed parts (leaves) of the state.

    Args:
        spec: Specification of the model.
        n: Number of samples.
        given: Value of each given condition or leaf, by name: a value of a selected condition, such as a number; a
            class name, a class index, a list, array or tensor of n of these; or a text for a leaf. If values are class
            names, or if no class is given, the class conditions that are not given are sampled with their training
            frequencies. A leaf may imply
            conditions: the elements of a crystal give its number of atoms. A name may set several leaves: a protein
            structure sets two.
        rng: Random streams for sampled conditions.

    Raises:
        UsageError: If a condition, a leaf or one of their values is unknown, or if two values conflict.
    """
    _check_named(spec, given)
    selected = spec.modality.selected_conditions
    others = None if given is None else {name: value for name, value in given.items() if name not in selected}
    has_selected = others is not None and len(others) < len(given or {})
    cond, observed = _resolve_classes(spec, n, None if has_selected and not others else others, rng)
    return {**cond, **_selected_values(spec, n, given or {})}, observed


def _resolve_classes(
    spec: ModelSpec, n: int, given: Mapping[str, Any] | None, rng: Rng
) -> tuple[Cond, dict[str, State]]:
    """Convert given classes and leaves, without the selected conditions; arguments and errors of `resolve_given`."""
    class_names = {name: str(value) for name, value in (given or {}).items() if isinstance(value, str | Integral)}
    values: dict[str, Any] = {name: value for name, value in (given or {}).items() if name not in class_names}
    condition_names = [*spec.frequencies]
    for name, value in values.items():
        if isinstance(value, dict):  # masks of leaves, such as `valid`
            continue
        if name in condition_names:
            values[name] = value = _class_numbers(spec, name, value, n)
        if not isinstance(value, Tensor) and name not in condition_names:
            raise _unknown_condition(spec, name)
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
    """Return the values of the condition `name` for n samples: class numbers for names or numbers, [n].

    A tensor is checked and returned unchanged.
    """
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
    return checked_class_ids(UsageError, name, value, len(spec.frequencies[name]), n)


def _parse_named(spec: ModelSpec, n: int, requested: dict[str, str], rng: Rng) -> tuple[Cond, dict[str, State]]:
    """Parse conditions given as name -> text; return the network's conditions, and the observed leaves of the state."""
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
    return _drawn_classes(spec, n, conditions, rng), observed


def _check_named(spec: ModelSpec, given: Any) -> None:
    """Check that conditions are given by name; UsageError otherwise."""
    if given is not None and not isinstance(given, Mapping):
        name, classes = next(iter(spec.modality.conditions.items()), ("label", ("7",)))
        example = f'{{"{name}": "{classes[0]}"}}'
        expected = f"a dict of names and values, such as {example}"
        raise UsageError(argument="given", expected=expected, found=found_instead(given))

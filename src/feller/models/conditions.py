"""What is asked of samples: their conditions, and the leaves of their states that are given."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import Given, State
from feller.core.rng import Draws, categorical
from feller.core.serialization import closest, nearest
from feller.data.loading.read_samples import give
from feller.models.spec import Description


def draw_conditions(about: Description, n: int, wanted: dict[str, str], draws: Draws) -> Given:
    """Return the conditions of n samples: those that are wanted, others drawn as often as in the data.

    Raises:
        UsageError: If a condition or its value is unknown.
    """
    known = about.frequencies
    for name in wanted:
        if name not in known:
            may = [*known, *(about.modality.leaves if about.fixable else ())]
            there = nearest(name, may) if may else "this model has none"
            raise UsageError(f"nothing that can be given is called {name!r}: {there}")
    given = {}
    for name, shares in known.items():
        if name in wanted:
            given[name] = torch.full((n,), about.modality.condition(name, wanted[name]))
        else:
            u = draws.at(f"condition {name}").uniform((n,), torch.float64)
            given[name] = categorical(torch.tensor(shares, dtype=torch.float64), u)
    return given


def asked(about: Description, n: int, wanted: dict[str, str], draws: Draws) -> tuple[Given, dict[str, State]]:
    """Return the conditions of n samples, and the leaves of their states that are given, by what is wanted.

    A leaf may say more than itself: the elements of a crystal say how many atoms it has. A name may stand for
    several leaves: the structure of a protein is two.

    Raises:
        UsageError: If a condition, a leaf or its value is unknown, or two say different things.
    """
    _check_named(about, wanted)
    modality, fixed = about.modality, {}
    conditions = {name: text for name, text in wanted.items() if name not in modality.leaves}
    for leaf in sorted(wanted.keys() - conditions.keys()):
        value, follows = give(modality, leaf, wanted[leaf])
        given = value if isinstance(value, dict) else {leaf: value}
        if not given.keys() <= {*about.fixable}:
            known = ", ".join(about.fixable) or "none"
            raise UsageError(f"this model has not learned to take {leaf} as given, only: {known}; leave it out")
        for name, number in follows.items():
            text = modality.conditions[name][number]
            if conditions.setdefault(name, text) != text:
                raise UsageError(f"{leaf} says that {name} is {text}, not {conditions[name]}; leave one of them out")
        fixed |= {name: part.expand(n, *part.shape[1:]) for name, part in given.items()}
    return draw_conditions(about, n, conditions, draws), fixed


def meant(about: Description, n: int, given: Mapping[str, Any] | None, draws: Draws) -> tuple[Given, dict[str, State]]:
    """Return conditions as numbers, and leaves that are given, for names of classes and what is left out.

    Raises:
        UsageError: If a condition is unknown, or given as anything else.
    """
    _check_named(about, given)
    named = {
        name: _class_name(about, name, value) for name, value in (given or {}).items() if isinstance(value, str | int)
    }
    others: dict[str, Any] = {name: value for name, value in (given or {}).items() if name not in named}
    known = [*about.frequencies]
    for name, value in others.items():
        if isinstance(value, dict):  # marks of leaves, such as which are valid
            continue
        if not isinstance(value, Tensor):
            example = f'{{"{known[0] if known else name}": "7"}}'
            raise UsageError(
                f"{name} is given by the name of a class, as in {example}, or a tensor [{n}] of numbers, got {value!r}"
            )
        if len(value) != n:
            raise UsageError(f"{name} must have one entry for each of {n} samples, got {list(value.shape)}")
        if name not in known and (close := closest(name, [one for one in known if one not in others])):
            raise UsageError(f"nothing that can be given is called {name!r}: did you mean {close!r}?")
    if given is not None and not named:
        return others, {}
    drawn, fixed = asked(about, n, named, draws)
    return {**drawn, **others}, fixed


def _class_name(about: Description, name: str, value: str | int) -> str:
    """Return the name of a class, which may be given by its number where no class is called so.

    Raises:
        UsageError: If there is no class of this number.
    """
    classes = about.modality.conditions.get(name, ())
    if isinstance(value, str) or str(value) in classes or not classes:
        return str(value)
    if not 0 <= value < len(classes):
        raise UsageError(f"{name} is a class, by its name or a number from 0 to {len(classes) - 1}, got {value}")
    return classes[value]


def _check_named(about: Description, given: Any) -> None:
    """Refuse what is given without a name.

    Raises:
        UsageError: Then.
    """
    if given is not None and not isinstance(given, Mapping):
        name, classes = next(iter(about.modality.conditions.items()), ("label", ("7",)))
        example = f'{{"{name}": "{classes[0]}"}}'
        raise UsageError(f"what is given is a dict from names to values, such as {example}, got {given!r}")

"""A network of others is tried before it is relied upon: each answer must follow from its own state alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import State, leaves, length, tree_map
from feller.core.rng import Draws
from feller.core.user_code import blamed
from feller.models.model import Model

AGAIN = 1e-4
"""Share of the largest number by which answers to the same question may differ."""
ALONE = 1e-2
"""The same where examples come alone, for which others of torch's kernels may add up in another order."""
LEAST = 1e-3
"""Numbers of an answer that moves nothing to speak of, whose rounding does not count."""


def try_out(model: Model) -> None:
    """Ask a network about a few states, about the same ones again, and about one of them alone.

    Raises:
        UsageError: If it fails, answers in another shape or with what is no finite real number, changes what it is
            given, answers otherwise a second time, or lets examples change with their neighbours.
    """
    about, draws, n = model.description, Draws(0).named("trial"), 3
    x = about.path.start(about.space.reference(n, draws.at("source")))
    asked = (x, torch.linspace(0.25, 0.75, n), about.modality.complete(model.conditions(n, {}, draws)))
    answer = tree_map(torch.clone, _answer(model, asked))  # who keeps state may write into it later
    again = _answer(model, asked)
    middle = tuple(tree_map(lambda leaf: leaf[1:2], tree) for tree in asked)  # no first or last that others look at
    alone = _answer(model, middle)
    if _differ(answer, again, lambda leaf: AGAIN):
        raise UsageError(
            "the network answers otherwise when it is asked the same a second time: it draws noise or keeps what it was"
            " asked before, and samples must depend on the seed alone; put it into eval mode, and take both out"
        )
    if _differ(tree_map(lambda leaf: leaf[1:2], answer), alone, lambda leaf: max(ALONE, 8 * _eps(leaf))):
        raise UsageError(
            "the network answers otherwise about an example when others are beside it: samples must not change with"
            " their neighbours; write it row by row, without means or sums over the first axis"
        )


def _answer(model: Model, asked: tuple[State, State, State]) -> State:
    """Ask a network once, about states, times and conditions.

    Raises:
        UsageError: If it fails, answers with another thing than it must, or changes what it is given.
    """
    x, _, given = asked
    shapes = tree_map(lambda leaf: list(leaf.shape), x)
    before = [leaf.clone() for leaf in _named(asked).values()]
    try:
        with torch.no_grad():
            answer = model.network(*asked)
    except Exception as error:
        n = length(x)
        conditions = "".join(f", {name} [{n}]" for name in given)
        raise UsageError(
            f"the network fails at a state {shapes}, times [{n}]{conditions}: "
            + (blamed(error) or f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        ) from error
    for (name, leaf), kept in zip(_named(asked).items(), before, strict=True):
        if not torch.equal(leaf, kept):
            raise UsageError(
                f"the network writes into {name} that it is given, and whoever samples goes on with that: let it answer"
                " with a new tensor, such as 0.5 * x in place of x.mul_(0.5)"
            )
    found = tree_map(lambda leaf: list(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__, answer)
    if found != shapes:
        raise UsageError(f"the network answers with {found} about a state {shapes}; it must answer in the same shape")
    for leaf in leaves(answer):
        if not leaf.is_floating_point():
            raise UsageError(
                f"the network answers with {form(leaf)} ({leaf.dtype}), expected real numbers such as torch.float32;"
                " let it answer in the type of the state"
            )
        if not bool(leaf.isfinite().all()):
            raise UsageError(
                f"the network answers with {leaf[~leaf.isfinite()][0].item()} about a state of normal noise, expected"
                " finite numbers; look at its weights"
            )
    return answer


def _named(asked: tuple[State, State, State]) -> dict[str, Tensor]:
    """Return all tensors that a network is given, by what they are called in a message."""
    x, t, given = asked
    parts = {"the state x": x, "the times t": t, **given}
    return {f"{name} {i}" if i else name: leaf for name, part in parts.items() for i, leaf in enumerate(leaves(part))}


def _differ(answer: State, other: State, share: Callable[[Tensor], float]) -> bool:
    """Tell whether answers are further apart than a share of the largest number of a leaf."""
    pairs = zip(leaves(answer), leaves(other), strict=True)
    return any(bool((one - two).abs().max() > share(one) * one.abs().max().clamp(min=LEAST)) for one, two in pairs)


def _eps(leaf: Tensor) -> float:
    """Return the rounding of the numbers of a tensor."""
    return torch.finfo(leaf.dtype).eps


def form(numbers: Tensor) -> str:
    """Say what numbers a tensor holds; those of one form differ in precision alone."""
    if numbers.is_complex():
        return "complex numbers"
    if numbers.is_floating_point():
        return "real numbers"
    return "yes and no" if numbers.dtype == torch.bool else "whole numbers"

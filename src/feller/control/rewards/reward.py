"""What is wished for: a number for each sample, the larger the better."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from feller.core.errors import InputError
from feller.core.pytree import Cond, State, leaves, num_examples, tree_map, tree_unflatten

RewardFunction = Callable[[State, Cond], Tensor]
"""(states at t = 1, conditions) -> reward, [b]."""


def evaluate_reward(reward: RewardFunction, x: State, cond: Cond) -> Float[Tensor, " b"]:
    """Return the reward of states; InputError if it has another shape than [b], or is no number somewhere."""
    return check_rewards(reward(x, cond), num_examples(x))


def check_reward_shape(values: object, n: int, name: str = "the reward") -> Shaped[Tensor, " b"]:
    """Return rewards of n samples, if there is one for each.

    Raises:
        InputError: If not, with the words by which the reward is called.
    """
    if not isinstance(values, Tensor) or values.shape != (n,):
        got = f"a tensor {list(values.shape)}" if isinstance(values, Tensor) else f"a {type(values).__name__}"
        got = "None" if values is None else got
        raise InputError(f"{name} must return a tensor with one number for each of {n} samples, [{n}]; found {got}")
    return values


def check_rewards(values: object, n: int) -> Float[Tensor, " b"]:
    """Return rewards of n samples, if they are that.

    Raises:
        InputError: If they have another shape than [n], or are no number somewhere.
    """
    values = check_reward_shape(values, n)
    wrong = ~torch.isfinite(values)
    if wrong.any():
        first = int(wrong.nonzero()[0, 0])
        raise InputError(
            f"the reward is {values[first].item()} for {int(wrong.sum())} of {n} samples, the first is number"
            f" {first + 1}",
            remedy="Bound it, or return a small number there",
        )
    return values


def reward_gradient(reward: RewardFunction, x: State, cond: Cond) -> tuple[Float[Tensor, " b"], State]:
    """Return the reward of states, and its gradient in them.

    Raises:
        InputError: If it cannot be differentiated, if the gradient is no number somewhere, or as by `evaluate_reward`.
    """
    with torch.enable_grad():
        x = tree_map(lambda leaf: leaf.detach().requires_grad_(), x)
        values = evaluate_reward(reward, x, cond)
        if not values.requires_grad:
            raise InputError(
                "the reward has no gradient: something in it rounds, counts or leaves torch",
                remedy="Write it in differentiable operations, or choose a method that needs no gradient",
            )
        slopes = torch.autograd.grad(values.sum(), list(leaves(x)), allow_unused=True)
    found = tree_map(lambda leaf, slope: _gradient_or_zero(slope, leaf), x, tree_unflatten(x, slopes))
    n = len(values)
    bad = torch.zeros(n, dtype=torch.bool, device=values.device)
    for leaf in leaves(found):
        bad |= ~torch.isfinite(leaf).reshape(n, -1).all(1)
    if bad.any():
        first = int(bad.nonzero()[0, 0])
        raise InputError(
            f"the reward's gradient is not finite for {int(bad.sum())} of {n} samples, the first is number {first + 1},"
            f" whose reward is {values[first].item():.4g}; a root of 0 has none, for one: add a small number"
        )
    return values.detach(), found


def _gradient_or_zero(slope: Tensor | None, leaf: Tensor) -> Tensor:
    """Return the gradient in a leaf; the reward need not look at all of them."""
    return torch.zeros_like(leaf) if slope is None else slope.detach()

"""Evaluation of rewards and their gradients."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from feller.core.errors import InputError
from feller.core.pytree import Cond, State, leaves, num_examples, tree_map, tree_unflatten

RewardFunction = Callable[[State, Cond], Tensor]
"""Function (states at t = 1, conditions) -> reward, [b]."""


def evaluate_reward(reward: RewardFunction, x: State, cond: Cond) -> Float[Tensor, " b"]:
    """Return the reward of states; InputError if its shape is not [b] or a value is not finite."""
    return check_rewards(reward(x, cond), num_examples(x))


def check_reward_shape(values: object, n: int, name: str = "the reward") -> Shaped[Tensor, " b"]:
    """Return `values`, the rewards of n samples, unchanged if they are a tensor of shape [n].

    Raises:
        InputError: If the shape is not [n]; the message calls the reward `name`.
    """
    if not isinstance(values, Tensor) or values.shape != (n,):
        actual = f"a tensor {list(values.shape)}" if isinstance(values, Tensor) else f"a {type(values).__name__}"
        actual = "None" if values is None else actual
        raise InputError(f"a tensor with one value per sample, shape [{n}], from {name}", actual)
    return values


def check_rewards(values: object, n: int) -> Float[Tensor, " b"]:
    """Return `values`, the rewards of n samples, unchanged if they are a tensor of shape [n] with finite entries.

    Raises:
        InputError: If the shape is not [n] or a value is not finite.
    """
    values = check_reward_shape(values, n)
    invalid = ~torch.isfinite(values)
    if invalid.any():
        i = int(invalid.nonzero()[0, 0])
        raise InputError(
            "finite rewards",
            f"{values[i].item()} for {int(invalid.sum())} of {n} samples, first for sample {i + 1}",
            "Bound the reward, or return a low finite value there",
        )
    return values


def reward_gradient(reward: RewardFunction, x: State, cond: Cond) -> tuple[Float[Tensor, " b"], State]:
    """Return the reward of states and its gradient.

    Raises:
        InputError: If the reward is not differentiable, or its gradient is not finite; also in the cases of
            `evaluate_reward`.
    """
    with torch.enable_grad():
        x = tree_map(lambda leaf: leaf.detach().requires_grad_(), x)
        values = evaluate_reward(reward, x, cond)
        if not values.requires_grad:
            raise InputError(
                "a reward with a gradient",
                "one that rounds, counts or uses functions outside torch",
                "Use differentiable operations, or a method that needs no gradient",
            )
        grads = torch.autograd.grad(values.sum(), list(leaves(x)), allow_unused=True)
    gradient = tree_map(
        lambda leaf, grad: torch.zeros_like(leaf) if grad is None else grad.detach(), x, tree_unflatten(x, grads)
    )
    n = len(values)
    invalid = torch.zeros(n, dtype=torch.bool, device=values.device)
    for leaf in leaves(gradient):
        invalid |= ~torch.isfinite(leaf).reshape(n, -1).all(1)
    if invalid.any():
        i = int(invalid.nonzero()[0, 0])
        raise InputError(
            "a finite gradient of the reward",
            f"infinity or NaN for {int(invalid.sum())} of {n} samples, first for sample {i + 1}, with reward"
            f" {values[i].item():.4g}",
            "Add a small constant under square roots, whose gradient at 0 is infinite",
        )
    return values.detach(), gradient

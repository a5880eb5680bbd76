"""Parsing of rewards from text: user functions and named rewards, with factors, bounds and sums."""

import inspect
import io
import math
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.rewards.reward import check_reward_shape, check_rewards
from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond, State, leaves, num_examples, tree_map
from feller.core.user_code import is_code_reference, load_function, qualified_name, user_frame
from feller.data.conditions.prompts import PromptCondition
from feller.data.images.image_resizing import from_pixels
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Modality

Reward = Callable[[State, Cond], Tensor]
"""Function (values in data units, possibly not rounded; conditions) -> reward, [b]."""
RewardFactory = Callable[[str], Reward]
"""Function from the text after `NAME=` to a reward."""
RewardFallback = Callable[[str], Reward | None]
"""Function from a reward expression, without factor and bound, to the reward; returns None for an unknown
expression."""

BOUND_VIOLATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "<=": lambda reward, bound: (reward - bound).clamp(min=0),
    ">=": lambda reward, bound: (bound - reward).clamp(min=0),
    "==": lambda reward, bound: reward - bound,
}
"""Function (reward, bound) -> amount by which the reward violates the bound, for each type of bound."""
_FACTOR = r"(?:(?P<factor>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*\*\s*)?"
_SIDE = re.compile(r"[<>]|=\s|\s=")
_TERM = re.compile(rf"\s*{_FACTOR}(?P<name>.+?)(?:\s*(?P<side><=|>=|==)\s*(?P<bound>\S+))?\s*")


@dataclass(frozen=True)
class Ink:
    """Reward: mean grey level of an image, from 0 (black) to 1 (white)."""

    levels: int

    def __call__(self, values: Tensor, cond: Cond) -> Float[Tensor, " b"]:
        """Return the mean level of each image."""
        return values.flatten(1).mean(1) / self.levels


@dataclass(frozen=True)
class Compressibility:
    """Reward: negative size of an image as PNG, in kilobytes. It has no gradient."""

    modality: Images

    def __call__(self, values: Tensor, cond: Cond) -> Float[Tensor, " b"]:
        """Return the reward of each image, after its pixels are rounded to integers."""
        return torch.tensor([-self._size(image) for image in values.detach().cpu()], device=values.device)

    def _size(self, image: Tensor) -> float:
        buffer = io.BytesIO()
        from_pixels(self.modality.as_bytes(image)).save(buffer, "PNG")
        return len(buffer.getvalue()) / 1000


@dataclass(frozen=True)
class ClassReward:
    """Reward: log probability that a classifier assigns to a set of classes."""

    logits: Callable[[State, Cond], Tensor]
    """Function (values, conditions) -> logits, [b, classes]."""
    which: tuple[int, ...]

    def __call__(self, values: State, cond: Cond) -> Float[Tensor, " b"]:
        """Return the log probability of the classes."""
        return self.logits(values, cond).log_softmax(1)[:, list(self.which)].logsumexp(1)


@dataclass(frozen=True)
class RewardTerm:
    """Term of a sum of rewards: the weighted reward or, with a bound, minus the weighted squared violation.

    A reward can have a `span`, its typical range. If such a reward is NaN, it is replaced by the end of its span that
    gives the lower term.
    """

    reward: Reward
    factor: float = 1.0
    violation: Callable[[Tensor], Tensor] | None = None
    """Function from the reward to the amount by which it violates its bound; None without a bound."""
    bound: float | None = None

    def __call__(self, values: State, cond: Cond) -> Tensor:
        """Return the weighted reward or minus the weighted squared violation of each sample."""
        rewards = self.reward(values, cond)
        span = getattr(self.reward, "span", None)
        if span is None or not isinstance(rewards, Tensor):
            return self._weighted(rewards)
        worst = self._weighted(rewards.new_tensor(span)).min()
        return torch.where(rewards.isnan(), worst, self._weighted(rewards))

    def _weighted(self, rewards: Tensor) -> Tensor:
        if self.violation is None or not isinstance(rewards, Tensor):
            return self.factor * rewards
        return -self.factor * self.violation(rewards).square()


@dataclass(frozen=True)
class RewardSum:
    """Reward that is the sum of reward terms."""

    terms: tuple[RewardTerm, ...]

    @property
    def bounded_term(self) -> RewardTerm | None:
        """The only term if it has a bound; None for several terms, no bound, or a reward that may be NaN."""
        first, *others = self.terms
        has_bound = first.violation is not None and getattr(first.reward, "span", None) is None
        return first if has_bound and not others else None

    def __call__(self, values: State, cond: Cond) -> Tensor:
        """Return the sum of the terms for each sample."""
        total, *values_per_term = (term(values, cond) for term in self.terms)
        for rewards in values_per_term:
            total = total + rewards
        return total


def code_reward(words: str, modality: Modality | None = None) -> Reward | None:
    """Return the user's reward for `file.py:function` or for the name of a function in memory; else None."""
    return user_reward(load_function(words), modality) if is_code_reference(words) else None


def reward_file(text: str) -> pathlib.Path | None:
    """Return the path of the Python file in a reward expression, or None if the expression names no file."""
    match = _TERM.fullmatch(text)
    name = match["name"] if match else text
    return pathlib.Path(name.rpartition(":")[0]) if ".py:" in name else None


def parse_reward(
    texts: Sequence[str], factories: Mapping[str, RewardFactory], other: RewardFallback = code_reward
) -> RewardSum:
    """Parse reward expressions, and return the sum of the rewards as one reward.

    Each expression is `NAME`, `NAME=TEXT` or `file.py:function`, optionally preceded by a weight, `NUMBER *`. A suffix
    `<= NUMBER` or `>= NUMBER` sets a bound, and `== NUMBER` a target: the reward is then minus the squared violation.

    Args:
        texts: Reward expressions, at least one.
        factories: Name -> factory that takes the text after `=`.
        other: Parser of expressions whose name has no factory; returns None if it does not know the name. By default
            it parses user functions.

    Raises:
        UsageError: If an expression cannot be parsed.
        InputError: If a user file raises an error.
    """
    if not texts:
        names = ", ".join(["file.py:function", "the run of a regressor", *factories])
        raise UsageError(f"one of: {names}", "none", argument="reward")
    return RewardSum(tuple(_parse_term(text, factories, other) for text in texts))


def _parse_term(text: str, factories: Mapping[str, RewardFactory], other: RewardFallback) -> RewardTerm:
    match = _TERM.fullmatch(text)
    if match is None:
        raise UsageError("[NUMBER *] NAME [<= NUMBER]", repr(text), argument="reward")
    factor, name, side, bound = match["factor"], match["name"], match["side"], match["bound"]
    try:
        limit = None if bound is None else float(bound)
    except ValueError:
        limit = math.nan
    if limit is not None and not math.isfinite(limit):
        raise UsageError(f"a finite number after {side}", repr(text), argument="reward")
    weight = 1.0 if factor is None else float(factor)
    if limit is not None and weight < 0:
        raise UsageError(
            "a factor of at least 0, because others reward violations of the bound",
            repr(text),
            "Change the sign of the factor, or reverse the bound",
            argument="reward",
        )
    violation = None if limit is None else lambda reward: BOUND_VIOLATIONS[side](reward, limit)
    return RewardTerm(_parse_atom(name, factories, other), weight, violation, limit)


def _parse_atom(name: str, factories: Mapping[str, RewardFactory], other: RewardFallback) -> Reward:
    prefix, _, argument = name.partition("=")
    if prefix in factories:
        return factories[prefix](argument)
    reward = other(name)
    if reward is None:
        if _SIDE.search(name):
            raise UsageError("NAME >= NUMBER, <= NUMBER or == NUMBER", repr(name), argument="reward")
        if prefix in IMAGE_REWARDS:
            remedy = "Write your own reward: file.py:function"
            raise UsageError("needs image data", found=repr(prefix), remedy=remedy, argument="reward")
        raise UsageError.unknown_name(
            "reward", prefix, factories, alternatives=", or file.py:FUNCTION, or the run of a regressor"
        )
    return reward


def is_user_reward(text: str) -> bool:
    """Return True if a reward expression names a user function."""
    match = _TERM.fullmatch(text)
    return is_code_reference(match["name"] if match else text)


def user_reward(function: Callable[..., Any], modality: Modality | None = None) -> Reward:
    """Wrap a user function as a reward.

    The function takes samples in data units, [b, ...], and optionally their conditions, and returns rewards [b]. If the
    modality is given, conditions that are prompts are lists of texts.

    Raises:
        UsageError: If it takes no arguments, or is a class.
    """
    name = getattr(function, "__name__", "reward")
    if inspect.isclass(function) or not inspect.signature(function).parameters:
        expected = "a function of samples [n, ...], or of samples and conditions"
        raise UsageError(expected, name, argument="reward")
    count = len(inspect.signature(function).parameters)
    kinds = {} if modality is None else modality.selected_conditions
    prompts = {name: kind for name, kind in kinds.items() if isinstance(kind, PromptCondition)}

    def with_texts(cond: Cond) -> dict[str, Any]:
        return {**cond, **{name: kind.decode(cond[name]).tolist() for name, kind in prompts.items() if name in cond}}

    def reward(values: State, cond: Cond) -> Tensor:
        try:
            rewards = function(values, with_texts(cond)) if count > 1 else function(values)
        except Exception as error:  # user code may raise anything
            cause = user_frame(error) or f"{type(error).__name__}: {error}"
            raise InputError(f"the reward {name} raised an error: {cause}") from error
        return check_reward_shape(rewards, num_examples(values), f"the reward {qualified_name(function)}")

    return reward


@dataclass(frozen=True)
class StateReward:
    """Reward of model states: it decodes the states to data values, and returns the given reward of these values."""

    reward: Reward
    modality: Modality

    def __call__(self, x: State, cond: Cond) -> Tensor:
        """Return the reward of the decoded states; NaN for non-finite states."""
        n = len(next(leaves(x)))
        is_invalid = torch.zeros(n, dtype=torch.bool, device=next(leaves(x)).device)
        for leaf in leaves(x):
            is_invalid |= ~torch.isfinite(leaf).reshape(n, -1).all(1)
        if is_invalid.any():
            x = tree_map(lambda leaf: torch.nan_to_num(leaf, nan=0.0, posinf=0.0, neginf=0.0), x)
        rewards = self.reward(self.modality.decode_soft(x), cond)
        return torch.where(is_invalid, torch.nan, rewards) if is_invalid.any() else rewards


def dataset_reward(reward: Reward, data: Dataset) -> Float[Tensor, " n"]:
    """Return the reward of each example of a dataset, computed on its rounded values in data units.

    Raises:
        InputError: If the rewards have the wrong shape or are not finite.
    """
    values = tree_map(lambda leaf: leaf if leaf.is_floating_point() else leaf.float(), data.values)
    with torch.no_grad():
        rewards = reward(values if not isinstance(data.values, dict) else data.values, data.given)
    return check_rewards(rewards, len(data)).double()


IMAGE_REWARDS = ("ink", "compressibility")
"""Names of the built-in rewards of images."""


def image_rewards(modality: Modality) -> dict[str, RewardFactory]:
    """Return the factories of the built-in rewards of images, by name; empty for other data."""
    if (images := modality.view(Images)) is None:
        return {}
    return {"ink": lambda _: Ink(images.levels), "compressibility": lambda _: Compressibility(images)}

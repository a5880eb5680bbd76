"""Wishes in words: a function of your own, named rewards, their sums and bounds."""

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
from feller.data.images.image_resizing import from_pixels
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Modality

Reward = Callable[[State, Cond], Tensor]
"""(values in the units of the data, perhaps not rounded; conditions) -> reward, [b]."""
RewardFactory = Callable[[str], Reward]
"""What a person writes after the name -> the wish."""
RewardFallback = Callable[[str], Reward | None]
"""What a person writes, without factor and bound -> the wish, or None."""

BOUND_VIOLATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "<=": lambda found, bound: (found - bound).clamp(min=0),
    ">=": lambda found, bound: (bound - found).clamp(min=0),
    "==": lambda found, bound: found - bound,
}
"""How far a reward is beyond a bound of each kind."""
_FACTOR = r"(?:(?P<factor>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*\*\s*)?"
_SIDE = re.compile(r"[<>]|=\s|\s=")
_TERM = re.compile(rf"\s*{_FACTOR}(?P<name>.+?)(?:\s*(?P<side><=|>=|==)\s*(?P<bound>\S+))?\s*")


@dataclass(frozen=True)
class Ink:
    """Mean level of a picture, from 0, black, to 1, white."""

    levels: int

    def __call__(self, values: Tensor, cond: Cond) -> Float[Tensor, " b"]:
        """Return it."""
        return values.flatten(1).mean(1) / self.levels


@dataclass(frozen=True)
class Compressibility:
    """Minus the kilobytes of a picture as PNG. It has no gradient."""

    modality: Images

    def __call__(self, values: Tensor, cond: Cond) -> Float[Tensor, " b"]:
        """Return it, of the rounded picture."""
        return torch.tensor([-self._size(one) for one in values.detach().cpu()], device=values.device)

    def _size(self, one: Tensor) -> float:
        file = io.BytesIO()
        from_pixels(self.modality.as_bytes(one)).save(file, "PNG")
        return len(file.getvalue()) / 1000


@dataclass(frozen=True)
class ClassReward:
    """Log probability that a classifier sees one of some classes."""

    logits: Callable[[State, Cond], Tensor]
    """Values and conditions -> logits, [b, classes]."""
    which: tuple[int, ...]

    def __call__(self, values: State, cond: Cond) -> Float[Tensor, " b"]:
        """Return it."""
        return self.logits(values, cond).log_softmax(1)[:, list(self.which)].logsumexp(1)


@dataclass(frozen=True)
class RewardTerm:
    """A wish times a number, or, with a bound, minus the square of what is beyond it.

    Where a wish with a `span` is not-a-number, it counts as the worst that it could be.
    """

    reward: Reward
    factor: float = 1.0
    violation: Callable[[Tensor], Tensor] | None = None
    """Reward -> how far it is beyond its bound."""

    def __call__(self, values: State, cond: Cond) -> Tensor:
        """Return it."""
        found = self.reward(values, cond)
        span = getattr(self.reward, "span", None)
        if span is None or not isinstance(found, Tensor):
            return self._weighted(found)
        worst = self._weighted(found.new_tensor(span)).min()
        return torch.where(found.isnan(), worst, self._weighted(found))

    def _weighted(self, found: Tensor) -> Tensor:
        if self.violation is None or not isinstance(found, Tensor):
            return self.factor * found
        return -self.factor * self.violation(found).square()


@dataclass(frozen=True)
class RewardSum:
    """The sum of some terms."""

    terms: tuple[RewardTerm, ...]

    @property
    def bounded_reward(self) -> Reward | None:
        """What the only term sets a bound to; None of several terms, without a bound, or where it may be unknown."""
        first, *others = self.terms
        has_bound = first.violation is not None and getattr(first.reward, "span", None) is None
        return first.reward if has_bound and not others else None

    def __call__(self, values: State, cond: Cond) -> Tensor:
        """Return it."""
        first, *others = (term(values, cond) for term in self.terms)
        for other in others:
            first = first + other
        return first


def code_reward(words: str) -> Reward | None:
    """Return a reward from the user's `file.py:function` or a function in memory; None for other text."""
    return user_reward(load_function(words)) if is_code_reference(words) else None


def reward_file(text: str) -> pathlib.Path | None:
    """Return the file of a wish, if it names one."""
    found = _TERM.fullmatch(text)
    name = found["name"] if found else text
    return pathlib.Path(name.rpartition(":")[0]) if ".py:" in name else None


def parse_reward(
    texts: Sequence[str], factories: Mapping[str, RewardFactory], other: RewardFallback = code_reward
) -> RewardSum:
    """Return the sum of wishes in words.

    Each is `NAME`, `NAME=WORDS` or `file.py:function`, after `NUMBER *` if it counts more or less, before `<= NUMBER`
    or `>= NUMBER` if it is a bound, or `== NUMBER` if it is to be near: then what is beyond it, or how far it is off,
    counts, squared and negative.

    Args:
        texts: Wishes, one or more.
        factories: Makes those that have a name from the words behind it.
        other: Makes those that have none, from all words; None where it knows none. By default the user's functions.

    Raises:
        UsageError: If one cannot be read.
        InputError: If a file of yours does not run.
    """
    if not texts:
        names = ", ".join(["file.py:function", "the run of a regressor", *factories])
        raise UsageError(expected=f"a reward, say --reward with one of: {names}")
    return RewardSum(tuple(_parse_term(text, factories, other) for text in texts))


def _parse_term(text: str, factories: Mapping[str, RewardFactory], other: RewardFallback) -> RewardTerm:
    found = _TERM.fullmatch(text)
    if found is None:
        raise UsageError(f"cannot read the reward {text!r}", remedy="Write [NUMBER *] NAME [<= NUMBER]")
    factor, name, side, bound = found["factor"], found["name"], found["side"], found["bound"]
    try:
        limit = None if bound is None else float(bound)
    except ValueError:
        raise UsageError(f"the reward {text!r} is bounded by {bound!r}", expected="a number") from None
    if limit is not None and not math.isfinite(limit):
        raise UsageError(f"the reward {text!r} is bounded by {bound!r}", expected="a finite number")
    times = 1.0 if factor is None else float(factor)
    if limit is not None and times < 0:
        raise UsageError(f"the reward {text!r} wants what is beyond its bound: turn the sign around, or the bound")
    beyond = None if limit is None else lambda found: BOUND_VIOLATIONS[side](found, limit)
    return RewardTerm(_parse_atom(name, factories, other), times, beyond)


def _parse_atom(name: str, factories: Mapping[str, RewardFactory], other: RewardFallback) -> Reward:
    word, _, rest = name.partition("=")
    if word in factories:
        return factories[word](rest)
    found = other(name)
    if found is None:
        if _SIDE.search(name):
            raise UsageError(f"cannot read the bound in {name!r}: write NAME >= NUMBER, <= NUMBER or == NUMBER")
        if word in IMAGE_REWARDS:
            raise UsageError(
                f"the reward {word!r} is of pictures, and these data are none", remedy="Write one: file.py:function"
            )
        raise UsageError.unknown_name(
            "reward", word, factories, alternatives=", or file.py:FUNCTION, or the run of a regressor"
        )
    return found


def is_user_reward(text: str) -> bool:
    """Tell whether a wish is a function of the user's."""
    found = _TERM.fullmatch(text)
    return is_code_reference(found["name"] if found else text)


def user_reward(function: Callable[..., Any]) -> Reward:
    """Return a function of the user's as a wish; it may leave the conditions out; UsageError if it takes no samples."""
    name = getattr(function, "__name__", "reward")
    if inspect.isclass(function) or not inspect.signature(function).parameters:
        raise UsageError(f"the reward {name} must be a function of samples [n, ...], or of samples and conditions")
    count = len(inspect.signature(function).parameters)

    def reward(values: State, given: Cond) -> Tensor:
        try:
            found = function(values, given) if count > 1 else function(values)
        except Exception as error:  # whatever it is, it is the user's to mend
            said = user_frame(error) or f"{type(error).__name__}: {error}"
            raise InputError(f"your reward {name} failed: {said}") from error
        return check_reward_shape(found, num_examples(values), f"the reward {qualified_name(function)}")

    return reward


@dataclass(frozen=True)
class StateReward:
    """A wish about values, asked about states."""

    reward: Reward
    modality: Modality

    def __call__(self, x: State, cond: Cond) -> Tensor:
        """Return the reward of what the states mean; not-a-number where a state is none."""
        n = len(next(leaves(x)))
        lost = torch.zeros(n, dtype=torch.bool, device=next(leaves(x)).device)
        for leaf in leaves(x):
            lost |= ~torch.isfinite(leaf).reshape(n, -1).all(1)
        if lost.any():
            x = tree_map(lambda leaf: torch.nan_to_num(leaf, nan=0.0, posinf=0.0, neginf=0.0), x)
        found = self.reward(self.modality.decode_soft(x), cond)
        return torch.where(lost, torch.nan, found) if lost.any() else found


def dataset_reward(reward: Reward, data: Dataset) -> Float[Tensor, " n"]:
    """Return the reward of examples as their files would hold them, rounded.

    Raises:
        InputError: If it has another shape, or is no number somewhere.
    """
    values = tree_map(lambda leaf: leaf if leaf.is_floating_point() else leaf.float(), data.values)
    with torch.no_grad():
        found = reward(values if not isinstance(data.values, dict) else data.values, data.given)
    return check_rewards(found, len(data)).double()


IMAGE_REWARDS = ("ink", "compressibility")
"""Rewards that pictures have by themselves."""


def image_rewards(modality: Modality) -> dict[str, RewardFactory]:
    """Return the rewards that pictures have by themselves."""
    if (images := modality.view(Images)) is None:
        return {}
    return {"ink": lambda words: Ink(images.levels), "compressibility": lambda words: Compressibility(images)}

"""Wishes in words: a function of your own, named rewards, their sums and bounds."""

import inspect
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from feller.code import load_function
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Modality
from feller.errors import InputError, UsageError
from feller.record import nearest
from feller.tree import Given, State, leaves, tree_map

Wish = Callable[[State, Given], Tensor]
"""(values in the units of the data, perhaps not rounded; conditions) -> reward, [b]."""
Named = Callable[[str], Wish]
"""What a person writes after the name -> the wish."""

_FACTOR = r"(?:(?P<factor>-?\d+(?:\.\d+)?(?:e-?\d+)?)\s*\*\s*)?"
_TERM = re.compile(rf"\s*{_FACTOR}(?P<name>.+?)(?:\s*(?P<side><=|>=)\s*(?P<bound>\S+))?\s*")


@dataclass(frozen=True)
class Ink:
    """Mean level of a picture, from 0, black, to 1, white."""

    levels: int

    def __call__(self, values: Tensor, given: Given) -> Float[Tensor, " b"]:
        """Return it."""
        return values.flatten(1).mean(1) / self.levels


@dataclass(frozen=True)
class Compressibility:
    """Minus the kilobytes of a picture as PNG. It has no gradient."""

    modality: Images

    def __call__(self, values: Tensor, given: Given) -> Float[Tensor, " b"]:
        """Return it, of the rounded picture."""
        return torch.tensor([-self._size(one) for one in values.detach().cpu()], device=values.device)

    def _size(self, picture: Tensor) -> float:
        file = io.BytesIO()
        levels = (picture.float() * (255 / self.modality.levels)).clamp(0, 255).round().to(torch.uint8)
        array = levels.permute(1, 2, 0).numpy()
        Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(file, "PNG")
        return len(file.getvalue()) / 1000


@dataclass(frozen=True)
class Class:
    """Log probability that a classifier sees one of some classes."""

    logits: Callable[[Tensor], Tensor]
    """Values -> logits, [b, classes]."""
    which: tuple[int, ...]

    def __call__(self, values: Tensor, given: Given) -> Float[Tensor, " b"]:
        """Return it."""
        return self.logits(values).log_softmax(1)[:, list(self.which)].logsumexp(1)


@dataclass(frozen=True)
class Term:
    """A wish times a number, or, with a bound, minus the square of what is beyond it."""

    wish: Wish
    factor: float = 1.0
    bound: float | None = None
    above: bool = False
    """The bound is a lowest value that is wanted, not a highest."""

    def __call__(self, values: State, given: Given) -> Tensor:
        """Return it."""
        found = self.wish(values, given)
        if self.bound is None or not isinstance(found, Tensor):
            return self.factor * found
        beyond = self.bound - found if self.above else found - self.bound
        return -self.factor * beyond.clamp(min=0).square()


@dataclass(frozen=True)
class Total:
    """The sum of some terms."""

    terms: tuple[Term, ...]

    def __call__(self, values: State, given: Given) -> Tensor:
        """Return it."""
        first, *others = (term(values, given) for term in self.terms)
        for other in others:
            first = first + other
        return first


def wish_of(texts: Sequence[str], named: Mapping[str, Named]) -> Total:
    """Return the sum of wishes in words.

    Each is `NAME`, `NAME=WORDS` or `file.py:function`, after `NUMBER *` if it counts more or less, before `<= NUMBER`
    or `>= NUMBER` if it is a bound: then what is beyond it counts, squared and negative.

    Args:
        texts: Wishes, one or more.
        named: Makes those that have a name from the words behind it.

    Raises:
        UsageError: If one cannot be read.
        InputError: If a file of yours does not run.
    """
    if not texts:
        raise UsageError(f"expected a reward: file.py:function, or {', '.join(named)}")
    return Total(tuple(_term(text, named) for text in texts))


def _term(text: str, named: Mapping[str, Named]) -> Term:
    found = _TERM.fullmatch(text)
    if found is None:
        raise UsageError(f"cannot read the reward {text!r}; write [NUMBER *] NAME [<= NUMBER]")
    factor, name, side, bound = found["factor"], found["name"], found["side"], found["bound"]
    try:
        limit = None if bound is None else float(bound)
    except ValueError:
        raise UsageError(f"the reward {text!r} is bounded by {bound!r}, expected a number") from None
    return Term(_atom(name, named), 1.0 if factor is None else float(factor), limit, side == ">=")


def _atom(name: str, named: Mapping[str, Named]) -> Wish:
    if ".py:" in name:
        return own(load_function(name))
    word, _, rest = name.partition("=")
    if word not in named:
        raise UsageError(f"no reward is called {word!r}: {nearest(word, list(named))}, or file.py:function")
    return named[word](rest)


def own(function: Callable[..., Any]) -> Wish:
    """Return a function of the user's as a wish; it may leave the conditions out."""
    count = len(inspect.signature(function).parameters)
    return function if count > 1 else lambda values, given: function(values)


@dataclass(frozen=True)
class OfStates:
    """A wish about values, asked about states."""

    wish: Wish
    modality: Modality

    def __call__(self, x: State, given: Given) -> Tensor:
        """Return the reward of what the states mean; not-a-number where a state is none."""
        n = len(next(leaves(x)))
        lost = torch.zeros(n, dtype=torch.bool, device=next(leaves(x)).device)
        for leaf in leaves(x):
            lost |= ~torch.isfinite(leaf).reshape(n, -1).all(1)
        if lost.any():
            x = tree_map(lambda leaf: torch.nan_to_num(leaf, nan=0.0, posinf=0.0, neginf=0.0), x)
        found = self.wish(self.modality.soften(x), given)
        return torch.where(lost, torch.nan, found) if lost.any() else found


def reward_of(wish: Wish, data: Dataset) -> Float[Tensor, " n"]:
    """Return the reward of examples as their files would hold them, rounded.

    Raises:
        InputError: If it has another shape, or is no number.
    """
    values = tree_map(lambda leaf: leaf if leaf.is_floating_point() else leaf.float(), data.values)
    with torch.no_grad():
        found = wish(values if not isinstance(data.values, dict) else data.values, data.given)
    if not isinstance(found, Tensor) or found.shape != (len(data),):
        got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"the reward must return a tensor [{len(data)}], one number for each sample; got {got}")
    return found.double()


def image_wishes(modality: Modality) -> dict[str, Named]:
    """Return the rewards that pictures have by themselves."""
    if not isinstance(modality, Images):
        return {}
    return {"ink": lambda words: Ink(modality.levels), "compressibility": lambda words: Compressibility(modality)}

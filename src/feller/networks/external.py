"""Networks that others wrote, in their own conventions of arguments, answers, time and sign."""

import abc
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, tree_map
from feller.core.rng import Rng
from feller.networks.architecture import Architecture, weights_from
from feller.networks.blocks.conditioning import RESERVED
from feller.networks.inner_networks import held_modules, plain_network

ANSWERS = ("sample", "logits")
"""What others call the part of an answer that counts."""
DICTS = ("given", "cond", "conditions")
"""Names of a third argument that is more likely a dict than a label."""


class CallConvention(abc.ABC):
    """What a network is called with."""

    @abc.abstractmethod
    def arguments(self, x: State, t: Tensor, labels: Cond, given: Cond) -> tuple[State, ...]:
        """Return its positional arguments.

        Args:
            x: States.
            t: Its own times, [b].
            labels: Numbers of classes, [b] each, in the order of the conditions.
            given: These, and which entries are real or known.
        """


@dataclass(frozen=True)
class Positional(CallConvention):
    """network(x, t), or network(x, t, label, ...)."""

    def arguments(self, x: State, t: Tensor, labels: Cond, given: Cond) -> tuple[State, ...]:
        """Return state, time and each label."""
        return (x, t, *labels.values())


@dataclass(frozen=True)
class WithConditions(CallConvention):
    """network(x, t, given), where what is given is a dict."""

    def arguments(self, x: State, t: Tensor, labels: Cond, given: Cond) -> tuple[State, ...]:
        """Return state, time and all that is given."""
        return x, t, given


@dataclass(frozen=True)
class StateAlone(CallConvention):
    """network(x), which knows no time, as language models."""

    def arguments(self, x: State, t: Tensor, labels: Cond, given: Cond) -> tuple[State, ...]:
        """Return the state."""
        return (x,)


@dataclass(frozen=True)
class Foreign(Architecture):
    """A network of somebody else's; a part `sample` or `logits` of its answer, or the only one, counts for it."""

    make: Callable[..., Any]
    """Returns the network: a module, or a plain function. A record holds its name alone."""
    times: tuple[float, float] = (0.0, 1.0)
    """Its times at the source and at the data: (1, 0) where it runs backwards, (999, 0) where it counts steps."""
    factor: float = 1.0
    """What its answers are multiplied by: -1 for a velocity that points from the data to the source."""
    nulls: dict[str, int] = field(default_factory=dict)
    """Its own number of "not given" of each condition that it can do without."""
    convention: CallConvention = field(default_factory=Positional)
    """What it is called with."""
    start: int | None = None
    """Token before the first, of a language model: its answer at a place is logits of the token behind that place."""
    vocab_size: int = 0
    """Tokens of that language model."""

    def __post_init__(self) -> None:
        if self.times[0] == self.times[1]:
            raise UsageError("times at the source and at the data must differ", found=f"{self.times[0]:g} twice")

    def build(self, shape: State, conditions: dict[str, int], draws: Rng) -> "ForeignNetwork | ForeignDecoder":
        """Call what makes the network; its new weights are its own affair."""
        with weights_from(draws):
            made = self.make()
        if not callable(made):
            raise UsageError(expected=f"a function that returns a network, it returned {type(made).__name__}")
        if self.start is not None:
            return ForeignDecoder(self, made)
        return ForeignNetwork(self, made, conditions)


class ForeignNetwork(nn.Module):
    """The network of `Foreign`."""

    def __init__(self, settings: Foreign, inner: Callable[..., Any], conditions: dict[str, int]) -> None:
        super().__init__()
        self.settings, self.inner, self.conditions = settings, inner, conditions
        self.nulls: dict[str, int | float] = {name: conditions[name] for name in settings.nulls}
        self.held = nn.ModuleList() if isinstance(inner, nn.Module) else nn.ModuleList(held_modules(inner))
        if next(self.parameters(), None) is None:
            self.place = nn.Parameter(torch.zeros(1))  # a device is where the weights are, so there must be some

    def forward(self, x_t: State, t: Tensor, given: Cond) -> State:
        """Ask it in its own terms."""
        if given.keys() - RESERVED != self.conditions.keys():
            raise KeyError(f"expected the conditions {sorted(self.conditions)}, got {sorted(given)}")
        source, data = self.settings.times
        plain = self.settings.times == (0.0, 1.0)
        labels = {name: self._theirs(name, given[name]) for name in self.conditions}
        time = t if plain else source + (data - source) * t
        answer = self.inner(*self.settings.convention.arguments(x_t, time, labels, {**given, **labels}))
        answer = plain_answer(answer, x_t)
        return answer if self.settings.factor == 1 else tree_map(lambda leaf: self.settings.factor * leaf, answer)

    def _theirs(self, name: str, value: Tensor) -> Tensor:
        """Replace our number of "not given" by its own."""
        own = self.settings.nulls.get(name, self.conditions[name])
        return value if own == self.conditions[name] else torch.where(value == self.conditions[name], own, value)


@dataclass(frozen=True, eq=False)
class Prefix:
    """Tokens that were read so far, [b, n]: the cache of a network that keeps none."""

    tokens: Tensor

    def rows(self, which: Tensor) -> "Prefix":
        """Return those of some of the texts."""
        return Prefix(self.tokens[which])


class ForeignDecoder(nn.Module):
    """A language model of `Foreign`: it reads all tokens again for each new one, so n tokens cost n^2."""

    def __init__(self, settings: Foreign, inner: Callable[..., Any]) -> None:
        super().__init__()
        self.settings, self.inner, self.start = settings, inner, settings.vocab_size
        self.nulls: dict[str, int | float] = {}
        self.held = nn.ModuleList() if isinstance(inner, nn.Module) else nn.ModuleList(held_modules(inner))
        if next(self.parameters(), None) is None:
            self.place = nn.Parameter(torch.zeros(1))

    def forward(self, x_t: Tensor, t: Tensor, given: Cond) -> Tensor:
        """Return the logits of each token given those before it, [b, n, K]."""
        return self._read(torch.cat([torch.full_like(x_t[:, :1], self.start), x_t[:, :-1]], 1))

    def begin(self, b: int, most: int) -> Prefix:
        """Return that nothing was read."""
        return Prefix(torch.zeros(b, 0, dtype=torch.long, device=next(self.parameters()).device))

    def next(self, tokens: Tensor, cache: Prefix, given: Cond) -> tuple[Tensor, Prefix]:
        """Read tokens [b, m] and return the logits of what follows, [b, K], with what was read."""
        read = torch.cat([cache.tokens, tokens], 1)
        return self._read(read)[:, -1], Prefix(read)

    def _read(self, tokens: Tensor) -> Tensor:
        theirs = tokens.masked_fill(tokens == self.start, self.settings.start or 0)
        return plain_answer(self.inner(theirs), theirs)


def plain_answer(answer: Any, x: State) -> State:
    """Return the part of an answer that counts: that called `sample` or `logits`, or the only one."""
    if isinstance(answer, Tensor) or (
        isinstance(x, dict) and isinstance(answer, Mapping) and answer.keys() == x.keys()
    ):
        return answer
    for name in ANSWERS:
        part = answer.get(name) if isinstance(answer, Mapping) else getattr(answer, name, None)
        if isinstance(part, Tensor):
            return part
    parts = [*answer.values()] if isinstance(answer, Mapping) else answer
    return plain_answer(parts[0], x) if isinstance(parts, tuple | list) and len(parts) == 1 else answer


def convention_of(network: Callable[..., Any], asked: tuple[State, Tensor, Cond], labels: Cond) -> CallConvention:
    """Return how a network wants to be called: the first way that its signature takes and that does not fail."""
    plain = plain_network(network)
    call = plain.forward if isinstance(plain, nn.Module) else plain
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # some that are written in C have none
        return Positional()
    names = [*signature.parameters]
    if names[:1] == ["input_ids"]:
        return StateAlone()
    ways = [way for way in (Positional(), WithConditions(), StateAlone()) if _takes(signature, way, asked, labels)]
    if labels and len(names) > 2 and names[2] in DICTS:
        ways.sort(key=lambda way: not isinstance(way, WithConditions))
    for way in ways[:-1]:
        x, t, given, own = (tree_map(torch.clone, part) for part in (*asked, labels))
        try:
            with torch.no_grad():
                network(*way.arguments(x, t, own, given))
        except Exception:  # whatever a stranger's code raises where it is called otherwise than it wants to be
            continue
        return way
    return ways[-1] if ways else Positional()


def _takes(signature: inspect.Signature, way: CallConvention, asked: tuple[State, Tensor, Cond], labels: Cond) -> bool:
    """Tell whether a network can be called in a way."""
    try:
        signature.bind(*way.arguments(asked[0], asked[1], labels, asked[2]))
    except TypeError:
        return False
    return True

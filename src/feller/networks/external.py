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
from feller.networks.blocks.conditioning import RESERVED_KEYS
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.unwrapping import find_modules, unwrap_network

OUTPUT_KEYS = ("sample", "logits")
"""What others call the part of an answer that counts."""
COND_DICT_NAMES = ("given", "cond", "conditions")
"""Names of a third argument that is more likely a dict than a label."""


class CallConvention(abc.ABC):
    """What a network is called with."""

    @abc.abstractmethod
    def arguments(self, x: State, t: Tensor, labels: Cond, cond: Cond) -> tuple[State, ...]:
        """Return its positional arguments.

        Args:
            x: States.
            t: Its own times, [b].
            labels: Numbers of classes, [b] each, in the order of the conditions.
            cond: These, and which entries are real or known.
        """


@dataclass(frozen=True)
class PositionalCall(CallConvention):
    """network(x, t), or network(x, t, label, ...)."""

    def arguments(self, x: State, t: Tensor, labels: Cond, cond: Cond) -> tuple[State, ...]:
        return (x, t, *labels.values())


@dataclass(frozen=True)
class CondDictCall(CallConvention):
    """network(x, t, given), where what is given is a dict."""

    def arguments(self, x: State, t: Tensor, labels: Cond, cond: Cond) -> tuple[State, ...]:
        return x, t, cond


@dataclass(frozen=True)
class StateOnlyCall(CallConvention):
    """network(x), which knows no time, as language models."""

    def arguments(self, x: State, t: Tensor, labels: Cond, cond: Cond) -> tuple[State, ...]:
        return (x,)


@dataclass(frozen=True)
class ExternalNetwork(NetworkConfig):
    """A network of somebody else's; a part `sample` or `logits` of its answer, or the only one, counts for it."""

    make: Callable[..., Any]
    """Returns the network: a module, or a plain function. A record holds its name alone."""
    times: tuple[float, float] = (0.0, 1.0)
    """Its times at the source and at the data: (1, 0) where it runs backwards, (999, 0) where it counts steps."""
    output_scale: float = 1.0
    """What its answers are multiplied by: -1 for a velocity that points from the data to the source."""
    null_values: dict[str, int] = field(default_factory=dict)
    """Its own number of "not given" of each condition that it can do without."""
    convention: CallConvention = field(default_factory=PositionalCall)
    """What it is called with."""
    bos_token_id: int | None = None
    """Token before the first, of a language model: its answer at a place is logits of the token behind that place."""
    vocab_size: int = 0
    """Tokens of that language model."""

    def __post_init__(self) -> None:
        if self.times[0] == self.times[1]:
            raise UsageError("times at the source and at the data must differ", found=f"{self.times[0]:g} twice")

    def build(self, shape: State, conditions: dict[str, int], rng: Rng) -> "ExternalNetworkModule | ExternalDecoder":
        with seeded_init(rng):
            network = self.make()
        if not callable(network):
            raise UsageError(expected=f"a function that returns a network, it returned {type(network).__name__}")
        if self.bos_token_id is not None:
            return ExternalDecoder(self, network)
        return ExternalNetworkModule(self, network, conditions)


class ExternalNetworkModule(nn.Module):
    """The network of `ExternalNetwork`."""

    def __init__(self, config: ExternalNetwork, inner: Callable[..., Any], conditions: dict[str, int]) -> None:
        super().__init__()
        self.config, self.inner, self.conditions = config, inner, conditions
        self.null_values: dict[str, int | float] = {name: conditions[name] for name in config.null_values}
        self.inner_modules = nn.ModuleList() if isinstance(inner, nn.Module) else nn.ModuleList(find_modules(inner))
        if next(self.parameters(), None) is None:
            self.device_anchor = nn.Parameter(
                torch.zeros(1)
            )  # a device is where the weights are, so there must be some

    def forward(self, x_t: State, t: Tensor, cond: Cond) -> State:
        """Ask it in its own terms."""
        if cond.keys() - RESERVED_KEYS != self.conditions.keys():
            raise KeyError(f"expected the conditions {sorted(self.conditions)}, got {sorted(cond)}")
        source, data = self.config.times
        plain = self.config.times == (0.0, 1.0)
        labels = {name: self.to_external_labels(name, cond[name]) for name in self.conditions}
        time = t if plain else source + (data - source) * t
        output = self.inner(*self.config.convention.arguments(x_t, time, labels, {**cond, **labels}))
        output = extract_output(output, x_t)
        return (
            output if self.config.output_scale == 1 else tree_map(lambda leaf: self.config.output_scale * leaf, output)
        )

    def to_external_labels(self, name: str, value: Tensor) -> Tensor:
        """Replace our number of "not given" by its own."""
        own = self.config.null_values.get(name, self.conditions[name])
        return value if own == self.conditions[name] else torch.where(value == self.conditions[name], own, value)


@dataclass(frozen=True, eq=False)
class TokenPrefixCache:
    """Tokens that were read so far, [b, n]: the cache of a network that keeps none."""

    tokens: Tensor

    def select(self, index: Tensor) -> "TokenPrefixCache":
        """Return those of some of the texts."""
        return TokenPrefixCache(self.tokens[index])


class ExternalDecoder(nn.Module):
    """A language model of `ExternalNetwork`: it reads all tokens again for each new one, so n tokens cost n^2."""

    def __init__(self, config: ExternalNetwork, inner: Callable[..., Any]) -> None:
        super().__init__()
        self.config, self.inner, self.bos_token_id = config, inner, config.vocab_size
        self.null_values: dict[str, int | float] = {}
        self.inner_modules = nn.ModuleList() if isinstance(inner, nn.Module) else nn.ModuleList(find_modules(inner))
        if next(self.parameters(), None) is None:
            self.device_anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Return the logits of each token given those before it, [b, n, K]."""
        return self._logits(torch.cat([torch.full_like(x_t[:, :1], self.bos_token_id), x_t[:, :-1]], 1))

    def init_cache(self, batch_size: int, max_length: int) -> TokenPrefixCache:
        """Return that nothing was read."""
        return TokenPrefixCache(torch.zeros(batch_size, 0, dtype=torch.long, device=next(self.parameters()).device))

    def decode_step(self, tokens: Tensor, cache: TokenPrefixCache, cond: Cond) -> tuple[Tensor, TokenPrefixCache]:
        """Read tokens [b, m] and return the logits of what follows, [b, K], with what was read."""
        read = torch.cat([cache.tokens, tokens], 1)
        return self._logits(read)[:, -1], TokenPrefixCache(read)

    def _logits(self, tokens: Tensor) -> Tensor:
        external_tokens = tokens.masked_fill(tokens == self.bos_token_id, self.config.bos_token_id or 0)
        return extract_output(self.inner(external_tokens), external_tokens)


def extract_output(output: Any, x: State) -> State:
    """Return the part of an answer that counts: that called `sample` or `logits`, or the only one."""
    if isinstance(output, Tensor) or (
        isinstance(x, dict) and isinstance(output, Mapping) and output.keys() == x.keys()
    ):
        return output
    for name in OUTPUT_KEYS:
        part = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(part, Tensor):
            return part
    parts = [*output.values()] if isinstance(output, Mapping) else output
    return extract_output(parts[0], x) if isinstance(parts, tuple | list) and len(parts) == 1 else output


def detect_call_convention(
    network: Callable[..., Any], inputs: tuple[State, Tensor, Cond], labels: Cond
) -> CallConvention:
    """Return how a network wants to be called: the first way that its signature takes and that does not fail."""
    plain = unwrap_network(network)
    call = plain.forward if isinstance(plain, nn.Module) else plain
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # some that are written in C have none
        return PositionalCall()
    names = [*signature.parameters]
    if names[:1] == ["input_ids"]:
        return StateOnlyCall()
    conventions = [
        convention
        for convention in (PositionalCall(), CondDictCall(), StateOnlyCall())
        if _accepts(signature, convention, inputs, labels)
    ]
    if labels and len(names) > 2 and names[2] in COND_DICT_NAMES:
        conventions.sort(key=lambda way: not isinstance(way, CondDictCall))
    for convention in conventions[:-1]:
        x, t, cond, own = (tree_map(torch.clone, part) for part in (*inputs, labels))
        try:
            with torch.no_grad():
                network(*convention.arguments(x, t, own, cond))
        except Exception:  # whatever a stranger's code raises where it is called otherwise than it wants to be
            continue
        return convention
    return conventions[-1] if conventions else PositionalCall()


def _accepts(
    signature: inspect.Signature, convention: CallConvention, inputs: tuple[State, Tensor, Cond], labels: Cond
) -> bool:
    """Tell whether a network can be called in a way."""
    try:
        signature.bind(*convention.arguments(inputs[0], inputs[1], labels, inputs[2]))
    except TypeError:
        return False
    return True

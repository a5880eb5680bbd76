"""Adapters for external networks with other conventions for arguments, outputs, times and signs."""

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
from feller.networks.blocks.condition_encoders import ConditionTypes, num_classes
from feller.networks.blocks.conditioning import RESERVED_KEYS
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.unwrapping import find_modules, unwrap_network

OUTPUT_KEYS = ("sample", "logits")
"""Names of the attribute or key that holds the prediction in the outputs of diffusers and transformers networks."""
COND_DICT_NAMES = ("given", "cond", "conditions")
"""Parameter names by which the third argument of a network is recognised as a dict of conditions, not a label."""


class CallConvention(abc.ABC):
    """Base class of conventions for the arguments of an external network."""

    @abc.abstractmethod
    def arguments(self, x: State, t: Tensor, labels: Cond, cond: Cond) -> tuple[State, ...]:
        """Return the positional arguments with which the external network is called.

        Args:
            x: States.
            t: Times in the external network's convention, [b].
            labels: Class indices of each condition, [b], in the order of the conditions.
            cond: Conditions, including the masks `valid` and `known`.
        """


@dataclass(frozen=True)
class PositionalCall(CallConvention):
    """Convention network(x, t) or network(x, t, label, ...), with one label per condition."""

    def arguments(self, x: State, t: Tensor, labels: Cond, cond: Cond) -> tuple[State, ...]:
        return (x, t, *labels.values())


@dataclass(frozen=True)
class CondDictCall(CallConvention):
    """Convention network(x, t, cond), with a dict of conditions."""

    def arguments(self, x: State, t: Tensor, labels: Cond, cond: Cond) -> tuple[State, ...]:
        return x, t, cond


@dataclass(frozen=True)
class StateOnlyCall(CallConvention):
    """Convention network(x), without a time, as for a language model."""

    def arguments(self, x: State, t: Tensor, labels: Cond, cond: Cond) -> tuple[State, ...]:
        return (x,)


@dataclass(frozen=True)
class ExternalNetwork(NetworkConfig):
    """Adapter configuration for a network from another library; output entries `sample` or `logits` are unpacked."""

    make: Callable[..., Any]
    """Function that returns the network, a module or a plain function; a run records only the import path of `make`."""
    times: tuple[float, float] = (0.0, 1.0)
    """The network's times at the source and at the data: (1, 0) for reversed time, (999, 0) for diffusion steps."""
    output_scale: float = 1.0
    """Factor that multiplies the network's output: -1 for a velocity that points from the data to the source."""
    null_values: dict[str, int] = field(default_factory=dict)
    """Null label of each condition that can be dropped, in the external network's convention."""
    convention: CallConvention = field(default_factory=PositionalCall)
    """Convention for the arguments with which the network is called."""
    bos_token_id: int | None = None
    """Id of the token that precedes the first token, for a language model with next-token logits; else None."""
    vocab_size: int = 0
    """Vocabulary size of a language model; 0 for other networks."""

    def __post_init__(self) -> None:
        if self.times[0] == self.times[1]:
            raise UsageError("the times of the source and of the data must differ", found=f"{self.times[0]:g} twice")

    def build(self, shape: State, conditions: ConditionTypes, rng: Rng) -> "ExternalNetworkModule | ExternalDecoder":
        with seeded_init(rng):
            network = self.make()
        if not callable(network):
            raise UsageError(expected="a function that returns a callable network", found=type(network).__name__)
        if self.bos_token_id is not None:
            return ExternalDecoder(self, network)
        return ExternalNetworkModule(self, network, conditions)


class ExternalNetworkModule(nn.Module):
    """Adapter that wraps an external network to feller's conventions, configured by `ExternalNetwork`."""

    def __init__(self, config: ExternalNetwork, inner: Callable[..., Any], conditions: ConditionTypes) -> None:
        super().__init__()
        self.config, self.inner = config, inner
        self.conditions = {name: num_classes(name, kind) for name, kind in conditions.items()}
        self.null_values: dict[str, int | float] = {name: self.conditions[name] for name in config.null_values}
        self.inner_modules = nn.ModuleList() if isinstance(inner, nn.Module) else nn.ModuleList(find_modules(inner))
        if next(self.parameters(), None) is None:
            self.device_anchor = nn.Parameter(torch.zeros(1))  # the device is read from the parameters

    def forward(self, x_t: State, t: Tensor, cond: Cond) -> State:
        """Call the external network in its own convention, and return its prediction in feller's convention."""
        if cond.keys() - RESERVED_KEYS != self.conditions.keys():
            raise KeyError(f"expected the conditions {sorted(self.conditions)}, got {sorted(cond)}")
        source_time, data_time = self.config.times
        has_default_times = self.config.times == (0.0, 1.0)
        labels = {name: self.to_external_labels(name, cond[name]) for name in self.conditions}
        network_time = t if has_default_times else source_time + (data_time - source_time) * t
        output = self.inner(*self.config.convention.arguments(x_t, network_time, labels, {**cond, **labels}))
        output = extract_output(output, x_t)
        return (
            output if self.config.output_scale == 1 else tree_map(lambda leaf: self.config.output_scale * leaf, output)
        )

    def to_external_labels(self, name: str, value: Tensor) -> Tensor:
        """Replace feller's null label of the condition `name` with the null label of the external network."""
        null = self.config.null_values.get(name, self.conditions[name])
        return value if null == self.conditions[name] else torch.where(value == self.conditions[name], null, value)


@dataclass(frozen=True, eq=False)
class TokenPrefixCache:
    """Decoding state of a language model that has no KV cache: all previous tokens, [b, n]."""

    tokens: Tensor

    def select(self, index: Tensor) -> "TokenPrefixCache":
        """Return the cache of the sequences with the indices `index`, in this order."""
        return TokenPrefixCache(self.tokens[index])


class ExternalDecoder(nn.Module):
    """External language model without a KV cache, which processes about n^2 / 2 tokens to generate n tokens."""

    def __init__(self, config: ExternalNetwork, inner: Callable[..., Any]) -> None:
        super().__init__()
        self.config, self.inner, self.bos_token_id = config, inner, config.vocab_size
        self.null_values: dict[str, int | float] = {}
        self.inner_modules = nn.ModuleList() if isinstance(inner, nn.Module) else nn.ModuleList(find_modules(inner))
        if next(self.parameters(), None) is None:
            self.device_anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Return the logits of each token given the tokens before it, [b, n, K]."""
        return self._logits(torch.cat([torch.full_like(x_t[:, :1], self.bos_token_id), x_t[:, :-1]], 1))

    def init_cache(self, batch_size: int, max_length: int) -> TokenPrefixCache:
        """Return an empty cache of previous tokens."""
        return TokenPrefixCache(torch.zeros(batch_size, 0, dtype=torch.long, device=next(self.parameters()).device))

    def decode_step(self, tokens: Tensor, cache: TokenPrefixCache, cond: Cond) -> tuple[Tensor, TokenPrefixCache]:
        """Append tokens [b, m] to the cache; return the logits of the next token, [b, K], and the new cache."""
        prefix = torch.cat([cache.tokens, tokens], 1)
        return self._logits(prefix)[:, -1], TokenPrefixCache(prefix)

    def _logits(self, tokens: Tensor) -> Tensor:
        external_tokens = tokens.masked_fill(tokens == self.bos_token_id, self.config.bos_token_id or 0)
        return extract_output(self.inner(external_tokens), external_tokens)


def extract_output(output: Any, x: State) -> State:
    """Return the prediction in a network's output: its entry `sample` or `logits`, or its only element.

    A tensor is returned as it is, and also a dict with the keys of the state x.
    """
    if isinstance(output, Tensor) or (
        isinstance(x, dict) and isinstance(output, Mapping) and output.keys() == x.keys()
    ):
        return output
    for name in OUTPUT_KEYS:
        prediction = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(prediction, Tensor):
            return prediction
    elements = [*output.values()] if isinstance(output, Mapping) else output
    return extract_output(elements[0], x) if isinstance(elements, tuple | list) and len(elements) == 1 else output


def detect_call_convention(
    network: Callable[..., Any], inputs: tuple[State, Tensor, Cond], labels: Cond
) -> CallConvention:
    """Return the first call convention that fits the network's signature and with which a call raises no error.

    Args:
        network: External network, which is called in a trial.
        inputs: States, times and conditions of the trial.
        labels: Class indices of each condition, [b].
    """
    unwrapped = unwrap_network(network)
    forward = unwrapped.forward if isinstance(unwrapped, nn.Module) else unwrapped
    try:
        signature = inspect.signature(forward)
    except (TypeError, ValueError):  # built-in functions may have no signature
        return PositionalCall()
    parameters = [*signature.parameters]
    if parameters[:1] == ["input_ids"]:
        return StateOnlyCall()
    conventions = [
        convention
        for convention in (PositionalCall(), CondDictCall(), StateOnlyCall())
        if _accepts(signature, convention, inputs, labels)
    ]
    if inputs[2] and len(parameters) > 2 and parameters[2] in COND_DICT_NAMES:
        conventions.sort(key=lambda candidate: not isinstance(candidate, CondDictCall))
    for convention in conventions[:-1]:
        x, t, cond, cloned_labels = (tree_map(torch.clone, argument) for argument in (*inputs, labels))
        try:
            with torch.no_grad():
                network(*convention.arguments(x, t, cloned_labels, cond))
        except Exception:  # user code may raise anything
            continue
        return convention
    return conventions[-1] if conventions else PositionalCall()


def _accepts(
    signature: inspect.Signature, convention: CallConvention, inputs: tuple[State, Tensor, Cond], labels: Cond
) -> bool:
    """Return True if the signature accepts the arguments of a convention."""
    try:
        signature.bind(*convention.arguments(inputs[0], inputs[1], labels, inputs[2]))
    except TypeError:
        return False
    return True

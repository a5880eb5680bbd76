"""Exponential moving average of weights."""

import copy

import torch
from torch import Tensor, nn

from feller.core.errors import InputError, check_kind, check_number
from feller.core.safetensors_io import named_as_now
from feller.networks.unwrapping import unwrap_network

UPDATES_KEY = "average.updates"
"""Key in a state dict under which the number of updates is stored."""


class EMA:
    """Exponential moving average (EMA) of a network's weights, in float32 or better; buffers are copied.

    Update n = 0, 1, ... uses the decay min(decay, (1 + n) / (10 + n)), so the random initial weights soon have no
    effect. In contrast, torch's `AveragedModel` drops the initial weights at the first update, and averages in the
    precision of the weights, so that half precision loses relative changes of a thousandth.
    """

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        check_number("decay", decay, ge=0, lt=1, remedy="0.999 is usual")
        network = unwrap_network(network)
        check_kind("network", network, nn.Module, "feller.EMA(network), with the module and not its parameters")
        self.decay = decay
        self.num_updates = 0
        """Number of updates of the average."""
        self.weights = {name: _upcast(weight).clone() for name, weight in network.named_parameters()}
        self.buffers = {name: buffer.detach().clone() for name, buffer in _buffers(network)}
        self._model: nn.Module = network
        self._pair([*network.parameters()])

    @property
    def network(self) -> nn.Module:
        """Copy of the network that has the averaged weights, for evaluation."""
        averaged = copy.deepcopy(self._model).eval().requires_grad_(False)
        self.copy_to(averaged)
        return averaged

    @torch.no_grad()
    def update(self) -> None:
        """Update the average, in place, with the current weights of the network."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        weights = [*map(_upcast, self._weights)] if self._needs_upcast else self._weights
        torch._foreach_lerp_(self._averages, weights, 1 - decay)
        if self.buffers:
            for name, buffer in _buffers(self._model):
                self.buffers[name].copy_(buffer)
        self.num_updates += 1

    def bind_tensors(self, weights: dict[str, Tensor]) -> None:
        """Use the given tensors as the averaged weights, such as the local shards of a sharded network.

        `weights` maps the name of each weight to a tensor; later updates modify these tensors in place.
        """
        self.weights = {name: weights[name] for name in self.weights}
        self._pair([*self._model.parameters()])

    def _pair(self, weights: list[Tensor]) -> None:
        """Store the network's weights next to the tensors of their averages, in the same order."""
        self._weights, self._averages = weights, [*self.weights.values()]
        pairs = zip(weights, self._averages, strict=True)
        self._needs_upcast = any(weight.dtype != average.dtype for weight, average in pairs)

    @torch.no_grad()
    def copy_to(self, network: nn.Module) -> None:
        """Copy the averaged weights into a network of the same architecture."""
        network = unwrap_network(network)
        for name, weight in network.named_parameters():
            weight.copy_(self.weights[name])
        for name, buffer in _buffers(network):
            buffer.copy_(self.buffers[name])

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged weights and buffers by name, and the number of updates, without copying."""
        return {**self.weights, **self.buffers, UPDATES_KEY: torch.tensor(self.num_updates)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load a state dict; later updates give the same averages, bit for bit, as without interruption.

        Raises:
            InputError: If the state belongs to a different network.
        """
        expected = self.state_dict()
        updates = {name: state[name] for name in (UPDATES_KEY,) if name in state}
        weights = {name: value for name, value in state.items() if name != UPDATES_KEY}
        state = {**named_as_now(weights, self._model, expected.keys() - {UPDATES_KEY}), **updates}
        mismatched = sorted(expected.keys() ^ state.keys()) or [
            name
            for name in expected
            if expected[name].shape != state[name].shape
            or expected[name].is_floating_point() != state[name].is_floating_point()
        ]
        if mismatched:
            raise InputError(
                f"the averaged weights of this network, {len(expected)} tensors",
                f"the weights of another network: {len(mismatched)} tensors differ, such as {mismatched[0]}",
                "Build the network from the configuration that was saved with it",
            )
        for name, value in {**self.weights, **self.buffers}.items():
            value.copy_(state[name])
        self.num_updates = int(state[UPDATES_KEY])


def _buffers(network: nn.Module) -> list[tuple[str, Tensor]]:
    """Return the persistent buffers of a network."""
    saved = network.state_dict()
    return [(name, buffer) for name, buffer in network.named_buffers() if name in saved]


def _upcast(weight: Tensor) -> Tensor:
    """Return a weight in float32, or unchanged if it is float64."""
    return weight.detach().to(torch.promote_types(weight.dtype, torch.float32))

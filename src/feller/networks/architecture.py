"""What every kind of network has in common: settings that a record can hold, and weights from addressed draws."""

import abc
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn

from feller.core.pytree import State
from feller.core.rng import Draws


class Architecture(abc.ABC):
    """A kind of network and its size; each kind is a frozen dataclass of plain values."""

    @abc.abstractmethod
    def build(self, shape: State, conditions: dict[str, int], draws: Draws) -> nn.Module:
        """Make a network with new weights.

        Its forward(x_t, t, given) returns a prediction of the shape of x_t. A new network predicts exactly zero.

        Args:
            shape: Shape of one example's state: (d,), (channels, height, width), or a dict of the shapes of its leaves.
            conditions: Number of classes of each condition; the index after the last class stands for "not given"
                and is found in the network's `nulls`.
            draws: Source of the weights.

        Raises:
            UsageError: If the kind cannot take such a state.
        """


@contextmanager
def weights_from(draws: Draws) -> Generator[None]:
    """Let the modules made inside take their weights from addressed draws, and leave torch's generator as it was."""
    seed = draws.at("weights").shared().initial_seed()
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the accelerators' generators too
        yield


def parameters(network: nn.Module) -> int:
    """Count the trainable numbers of a network."""
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)

"""A frozen network with a change of low rank: few weights to learn, and none forgotten."""

import math

import torch
from torch import Tensor, nn

from feller.core.errors import check_number
from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.networks.network_config import seeded_init

_NETWORK_PREFIX = "network."


class LoRA(nn.Module):
    """The network given, whose matrices each gain the product of two thin ones; it answers as before at first.

    A matrix is every weight of two axes or more, with all but its first axis taken together: of linear layers,
    convolutions and tables of embeddings. All else stays as it is.

    Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685.
    """

    def __init__(self, network: nn.Module, rank: int, rng: Rng) -> None:
        """Freeze a network, and put thin matrices beside its weights.

        Args:
            network: Is kept, not copied; its weights are frozen.
            rank: Of each change; at most the shorter side of its matrix.
            rng: Source of the first thin matrices; the second are zero.
        """
        super().__init__()
        check_number("rank", rank, ge=1, remedy="4 to 16 are usual")
        self.network = network.requires_grad_(False)
        names = {id(weight): name for name, weight in network.named_parameters()}
        self.canonical_names = {
            name: names[id(weight)] for name, weight in network.named_parameters(remove_duplicate=False)
        }
        """Name of each weight -> the name that its change has: tied weights have one."""
        self.null_values: dict[str, int | float] = getattr(network, "null_values", {})
        self.lora_A, self.lora_B = nn.ParameterDict(), nn.ParameterDict()
        with seeded_init(rng):
            for name, weight in network.named_parameters():
                if weight.ndim > 1:
                    rows, columns = len(weight), weight[0].numel()
                    r = min(rank, rows, columns)
                    lora_A = torch.randn(r, columns, dtype=weight.dtype) / math.sqrt(columns)
                    self.lora_A[_key(name)] = lora_A.to(weight.device)
                    self.lora_B[_key(name)] = weight.new_zeros(rows, r)

    @property
    def named_by(self) -> tuple[tuple[nn.Module, nn.Module], ...]:
        """Dicts of weights, and the network whose weights they are named by."""
        return (self.lora_A, self.network), (self.lora_B, self.network)

    def forward(self, x_t: State, t: State, cond: Cond) -> State:
        """Answer as the network does with the changed matrices."""
        weights = {name: self._adapted(weight, name) for name, weight in self.network.named_parameters()}
        return torch.func.functional_call(self.network, weights, (x_t, t, cond))

    def _adapted(self, weight: Tensor, name: str) -> Tensor:
        key = _key(name)
        return _add_low_rank(weight, self.lora_B[key], self.lora_A[key]) if key in self.lora_A else weight

    def merged_state_dict(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the state of the network alone that answers as this one with a state.

        Args:
            state: Of this network, or an average of such.

        Returns:
            Tensors under the names of the network that was given, with the changes added.
        """
        merged = {}
        for name, value in state.items():
            if name.startswith(_NETWORK_PREFIX):
                plain = name.removeprefix(_NETWORK_PREFIX)
                key = _key(self.canonical_names.get(plain, plain))
                if key in self.lora_A:
                    value = _add_low_rank(value, state[f"lora_B.{key}"], state[f"lora_A.{key}"])
                merged[plain] = value
        return merged


def _key(name: str) -> str:
    """Return a name that a dict of weights can hold, which must be without dots."""
    return name.replace(".", "/")


def _add_low_rank(weight: Tensor, lora_B: Tensor, lora_A: Tensor) -> Tensor:
    """Add a product of thin matrices to a weight."""
    return weight + (lora_B @ lora_A).view_as(weight)

"""Low-rank adaptation (LoRA) of a frozen network."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from feller.core.errors import UsageError, check_number
from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.networks.network_config import seeded_init

_NETWORK_PREFIX = "network."


class LoRA(nn.Module):
    """Frozen network with a trainable low-rank update of each weight matrix, which is zero at initialisation.

    Weights with two or more axes are adapted: those of linear layers, convolutions and embeddings. They are reshaped to
    matrices whose rows are the first axis.

        Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685.
    """

    def __init__(self, network: nn.Module, rank: int, rng: Rng, target_modules: Sequence[str] = ()) -> None:
        """Freeze a network and add low-rank factors to its weights.

        Args:
                network: Network, not copied; its weights are frozen.
                rank: Rank of each update, at most the smaller dimension of its matrix.
                rng: Random stream of the factors A; the factors B are zero.
                target_modules: Names of the modules whose weights are adapted, or the ends of their names, as in peft;
                    by default all modules.

        Raises:
            UsageError: If no module with a weight matrix has one of the names.
        """
        super().__init__()
        check_number("rank", rank, ge=1, remedy="4 to 16 are usual")
        self.network = network.requires_grad_(False)
        names = {id(weight): name for name, weight in network.named_parameters()}
        self.canonical_names = {
            name: names[id(weight)] for name, weight in network.named_parameters(remove_duplicate=False)
        }
        """Map from the name of each weight to the name of its low-rank update; tied weights share one update."""
        self.null_values: dict[str, int | float] = getattr(network, "null_values", {})
        self.lora_A, self.lora_B = nn.ParameterDict(), nn.ParameterDict()
        with seeded_init(rng):
            for name, weight in network.named_parameters():
                if weight.ndim > 1 and _is_target(name, target_modules):
                    rows, columns = len(weight), weight[0].numel()
                    r = min(rank, rows, columns)
                    lora_A = torch.randn(r, columns, dtype=weight.dtype) / math.sqrt(columns)
                    self.lora_A[_key(name)] = lora_A.to(weight.device)
                    self.lora_B[_key(name)] = weight.new_zeros(rows, r)

        names_of_weights = [name for name, weight in network.named_parameters() if weight.ndim > 1]
        for target in target_modules:
            if not any(_is_target(name, (target,)) for name in names_of_weights):
                modules = sorted({name.rpartition(".")[0].rpartition(".")[2] for name in names_of_weights})
                raise UsageError.unknown_name("target_modules", target, modules)

    @property
    def named_by(self) -> tuple[tuple[nn.Module, nn.Module], ...]:
        """Pairs (low-rank factors, network): the key of a factor is the name of its weight, with `/` instead of `.`."""
        return (self.lora_A, self.network), (self.lora_B, self.network)

    def forward(self, x_t: State, t: State, cond: Cond) -> State:
        """Return the output of the network with the adapted weights."""
        weights = {name: self._adapted(weight, name) for name, weight in self.network.named_parameters()}
        return torch.func.functional_call(self.network, weights, (x_t, t, cond))

    def _adapted(self, weight: Tensor, name: str) -> Tensor:
        key = _key(name)
        return _add_low_rank(weight, self.lora_B[key], self.lora_A[key]) if key in self.lora_A else weight

    def merged_state_dict(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict of the network without LoRA, with the low-rank updates merged into its weights.

        Args:
            state: State dict of this module, or an EMA of it.
        """
        merged = {}
        for name, value in state.items():
            if name.startswith(_NETWORK_PREFIX):
                plain_name = name.removeprefix(_NETWORK_PREFIX)
                key = _key(self.canonical_names.get(plain_name, plain_name))
                if key in self.lora_A:
                    value = _add_low_rank(value, state[f"lora_B.{key}"], state[f"lora_A.{key}"])
                merged[plain_name] = value
        return merged


def _is_target(name: str, target_modules: Sequence[str]) -> bool:
    """Return True if the module of a weight has one of the names, or ends with one of them."""
    module = name.rpartition(".")[0]
    return not target_modules or any(module == target or module.endswith(f".{target}") for target in target_modules)


def _key(name: str) -> str:
    """Replace dots in a weight's name, which `ParameterDict` does not allow."""
    return name.replace(".", "/")


def _add_low_rank(weight: Tensor, lora_B: Tensor, lora_A: Tensor) -> Tensor:
    return weight + (lora_B @ lora_A).view_as(weight)

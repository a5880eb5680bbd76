"""Networks that take the end of a step, which predict average velocities for flow maps."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from feller.core.errors import UsageError, check_integer
from feller.core.pytree import State
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import STEP_OCTAVES, TIME_OCTAVES, SummedConditioning, zero_init
from feller.networks.network_config import NetworkConfig


@dataclass(frozen=True)
class WithStepEnd(NetworkConfig):
    """Network that also takes the end s of a step from t, as `cond[STEP_END]`; without it, s = t.

    The length s - t is embedded next to the time. The weights of this embedding are zero at initialisation, so that a
    trained network predicts its velocity for every s at first.
    """

    network: NetworkConfig
    """Network of x, t and conditions, whose time is embedded by `SummedConditioning`."""
    last_only: bool = False
    """True if the network is trained for steps that end at s = 1 only, as consistency models are."""
    time_octaves: int = TIME_OCTAVES
    """Number of octaves of the features of time, from 1/4 cycle, that the network uses. Few make its derivative by t
    small, as `MeanFlow` needs; a start from a network that uses more is approximate."""

    def __post_init__(self) -> None:
        check_integer("time_octaves", self.time_octaves, ge=1, le=TIME_OCTAVES)

    @property
    def reads_observed(self) -> bool:  # pyrefly: ignore[bad-override] - the network decides
        return self.network.reads_observed

    def build(self, shape: State, conditions: ConditionTypes, rng: Rng) -> nn.Module:
        network = self.network.build(shape, conditions, rng)
        embeddings = [module for module in network.modules() if isinstance(module, SummedConditioning)]
        if not embeddings:
            raise UsageError(
                argument="architecture",
                expected="a network of feller with an embedding of time, to which the end of a step is added",
                found=type(self.network).__name__,
                remedy="Use --recipe distil, whose networks take no end of a step",
            )
        for module in embeddings:
            module.time_octaves = self.time_octaves
            features = 2 * STEP_OCTAVES * module.num_times
            module.end = zero_init(nn.Linear(features, module.time.out_features, bias=False)).to(
                module.time.weight.device
            )
        vars(network).update(takes_step_end=True, steps_to_last_only=self.last_only)
        return network

    def notes(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        return self.network.notes(shape)


def load_start_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load the weights of an older network; embeddings of the end of a step that it lacks keep their initial values."""
    ends = {
        f"{name}.end.weight"
        for name, module in network.named_modules()
        if isinstance(module, SummedConditioning) and module.end is not None
    }
    kept = {name: value for name, value in network.state_dict().items() if name in ends}
    network.load_state_dict({**kept, **weights})

"""Settings of the search for a bridge."""

from dataclasses import dataclass, field

from feller.control.bridges.conditional_control import ConditionalControl
from feller.control.bridges.drift_matching import DriftMatching, ExplicitMatching
from feller.control.bridges.path_integral import PathIntegral
from feller.core.errors import UsageError
from feller.networks.mlp import MLP
from feller.networks.network_config import NetworkConfig
from feller.training.couplings import Coupling, IndependentCoupling
from feller.training.optimizer import TrainConfig


@dataclass(frozen=True, kw_only=True)
class BridgeSolverConfig:
    """How a bridge is looked for.

    Source: Liu et al. 2024, "Generalized Schrödinger bridge matching", arXiv 2310.02233.
    """

    architecture: NetworkConfig = field(default_factory=lambda: MLP(width=128, depth=3))
    """Of each drift; `Potential` of another for drifts that are gradients."""
    rounds: int | None = 7
    """Drifts that are matched, that ahead first and then back and ahead in turn; an odd number ends ahead."""
    pairs: int = 1024
    """Pairs of each round, between each two neighbouring populations."""
    coupling: Coupling = field(default_factory=IndependentCoupling)
    """Which members are the first pairs: any two, or those that `MinibatchOT` finds near each other, where
    places lie so far apart in the noise that pairs by chance would need many rounds to become those of the bridge."""
    control: ConditionalControl = field(default_factory=ConditionalControl)
    resampling: PathIntegral | None = None
    """Weighs trajectories beside the pinned paths by the cost; None to trust the paths."""
    matching: DriftMatching = field(default_factory=ExplicitMatching)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            batch_size=512, steps=1500, lr=1e-3, ema_decay=0.998, lr_decay_fraction=0.0, warmup=0
        )
    )
    """Of the drift in each round: `steps` are those of one round."""
    nfe: int = 210
    """Steps of a simulation, at least."""

    def __post_init__(self) -> None:
        least = {"rounds": (self.rounds, 1), "pairs": (self.pairs, 2), "nfe": (self.nfe, 1)}
        for name, (value, most) in least.items():
            if value is not None and value < most:
                raise UsageError(f"{most} or more", value, argument=name)
        if self.train.fsdp or self.train.compile:
            raise UsageError("the drifts of a bridge are neither sharded nor compiled", remedy="Leave these out")
        if not self.train.steps:
            raise UsageError("a bridge needs the number of training steps of each round (--train.steps)")

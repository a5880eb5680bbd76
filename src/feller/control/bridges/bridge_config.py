"""Settings of the solver of generalized Schrödinger bridges."""

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
    """Configuration of the solver of generalized Schrödinger bridges.

    The solver works in rounds. Each round optimises random paths between pairs of endpoints, and fits the forward or
    the backward drift to these paths.

    Source: Liu et al. 2024, "Generalized Schrödinger bridge matching", arXiv 2310.02233.
    """

    architecture: NetworkConfig = field(default_factory=lambda: MLP(width=128, depth=3))
    """Network of each drift; wrap it in `Potential` for drifts that are gradient fields."""
    rounds: int | None = 7
    """Number of drift fits, of which the forward and backward ones alternate; if the number is odd, the last fit is
    forward."""
    pairs: int = 1024
    """Number of endpoint pairs per round between each two neighbouring populations."""
    coupling: Coupling = field(default_factory=IndependentCoupling)
    """Coupling of the endpoint pairs in the first round. With little noise, independent pairs need many rounds to reach
    the coupling of the bridge; `MinibatchOT` starts from nearby pairs."""
    control: ConditionalControl = field(default_factory=ConditionalControl)
    resampling: PathIntegral | None = None
    """Path-integral resampling: fit the drift to simulated trajectories that are weighted by their cost; None to fit it
    to samples of the optimised Gaussian paths."""
    matching: DriftMatching = field(default_factory=ExplicitMatching)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            batch_size=512, steps=1500, lr=1e-3, ema_decay=0.998, lr_decay_fraction=0.0, warmup=0
        )
    )
    """Training configuration of the drift in each round; `steps` is the number of training steps per round."""
    nfe: int = 210
    """Minimum number of simulation steps from the first population (time 0) to the last (time 1)."""

    def __post_init__(self) -> None:
        limits = {"rounds": (self.rounds, 1), "pairs": (self.pairs, 2), "nfe": (self.nfe, 1)}
        for name, (value, minimum) in limits.items():
            if value is not None and value < minimum:
                raise UsageError(f"{minimum} or more", value, argument=name)
        if self.train.fsdp or self.train.compile:
            raise UsageError("bridge drifts support neither FSDP nor torch.compile", remedy="Drop these options")
        if not self.train.steps:
            raise UsageError("a bridge needs a number of training steps per round (--train.steps)")

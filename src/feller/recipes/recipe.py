"""Everything that can be chosen about a fit, as one frozen value."""

from dataclasses import dataclass, field

from feller.couplings import Coupling, Independent
from feller.losses import Loss, Squared
from feller.networks.architecture import Architecture
from feller.paths import Affine, Path
from feller.sampling import Sampling
from feller.times import Stratified, TimeLaw
from feller.train.optimiser import Training

SIZES = ("tiny", "small", "base")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train, on which path, for how long, and how to sample."""

    architecture: Architecture
    path: Path = field(default_factory=Affine)
    loss: Loss = field(default_factory=Squared)
    law: TimeLaw = field(default_factory=Stratified)
    """Of the training time."""
    coupling: Coupling = field(default_factory=Independent)
    drop: float = 0.1
    """Chance that an example's conditions are dropped in training, so that guidance is possible."""
    held_out: float = 0.1
    """Share of the data kept back to judge the samples; none is kept of a set that has its own test part."""
    train: Training = field(default_factory=Training)
    sampling: Sampling = field(default_factory=Sampling)

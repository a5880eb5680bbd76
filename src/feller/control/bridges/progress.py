"""All that changes while a bridge is looked for."""

import copy
from dataclasses import dataclass, field

from torch import Tensor

from feller.control.bridges.drift_matching import Base
from feller.control.bridges.settings import Bridging
from feller.networks.bridge_drift import Drift, TwoDrifts
from feller.training.loop import Learner, make_learner


@dataclass
class Progress:
    """All that changes, and all that a bridge that goes on must hold."""

    network: TwoDrifts
    ahead: Learner
    back: Learner
    knots: list[Tensor]
    """Of each leg: where the pairs' next pinned paths begin to be looked for, [pairs, knots, d]; none at first."""
    done: int = 0
    """Rounds."""
    seconds: float = 0.0
    base: Base | None = None
    """The drift that acts by itself, as the last paths make it."""
    best: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """Averaged weights of the kept round of each direction, `ahead` and `back`; empty for those of the last round."""
    kept: dict[str, int] = field(default_factory=dict)
    """Numbers of these rounds."""

    def learner(self, *, backward: bool) -> Learner:
        """Return that of one direction."""
        return self.back if backward else self.ahead

    def drift(self, *, backward: bool) -> Drift:
        """Return the network of one direction."""
        return self.network.back if backward else self.network.ahead


def start(network: TwoDrifts, how: Bridging) -> Progress:
    """Begin with a fresh network."""
    return Progress(network, make_learner(network.ahead, how.train), make_learner(network.back, how.train), [])


def averaged(progress: Progress, *, backward: bool) -> Drift:
    """Return a drift with the averaged weights."""
    learner = progress.learner(backward=backward)
    drift = copy.deepcopy(progress.drift(backward=backward))
    learner.average.copy_to(drift)
    return drift.requires_grad_(False)


def kept(progress: Progress, *, backward: bool) -> Drift:
    """Return a drift with the averaged weights of the round that is kept, by default the last."""
    drift = averaged(progress, backward=backward)
    best = progress.best.get("back" if backward else "ahead")
    if best is not None:
        drift.load_state_dict(best)
    return drift

"""A recipe of a user's own, with a path, a space and a loss of their own: all names are from `feller` itself."""

from dataclasses import dataclass

import torch

import feller


@dataclass(frozen=True)
class KeptSpace(feller.Space):
    """Real vectors that start from uniform noise in [-2, 2]."""

    shape: tuple[int, ...] = ()

    def sample_base(self, n, rng, device="cpu"):
        """Draw from the source distribution."""
        return 4 * rng.uniform((n, *self.shape), device=device) - 2

    def step(self, x, v):
        """Add."""
        return x + v


@dataclass(frozen=True)
class KeptPath(feller.Path):
    """Straight lines, whose velocity is the target."""

    def sample(self, x_0, x_1, t, rng=None):
        """Interpolate."""
        return torch.lerp(x_0, x_1, t[:, None])

    def target(self, x_t, x_0, x_1, t):
        """Return the velocity of the line."""
        return x_1 - x_0

    def characteristics(self, prediction, x_t, t):
        """Follow the predicted velocity."""
        return feller.Characteristics(velocity=prediction)


@dataclass(frozen=True)
class KeptLoss(feller.Loss):
    """Absolute error to a power."""

    power: float = 1.5

    def entries(self, prediction, target, x_t, t):
        """Return the error of each number."""
        return (prediction - target).abs() ** self.power


def kept(data, size):
    """Return the recipe."""
    shape = tuple(data.values.shape[1:])
    return feller.Recipe(
        architecture=feller.MLP(width=8, depth=1),
        objective=feller.FlowMatching(KeptPath(), KeptSpace(shape), KeptLoss()),
        train=feller.TrainConfig(batch_size=16, steps=4, warmup=1),
        sampling=feller.SamplerConfig("midpoint", 4),
    )

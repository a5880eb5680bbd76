"""Scores that are weighted sums of what an example shows."""

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError, check_number
from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.networks.network_config import NetworkConfig


class FeatureMap(abc.ABC):
    """What a weighted sum sees of a state, known without any row. Implement three members to add one."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """How many numbers that is."""

    @property
    @abc.abstractmethod
    def max_norm(self) -> float:
        """How long a row of them is, at most."""

    @abc.abstractmethod
    def transform(self, x_t: State) -> Float[Tensor, "b d"]:
        """Return them for some states, in float64."""


@dataclass(frozen=True)
class PixelFeatures(FeatureMap):
    """The numbers of a picture from 0, black, to 1, white; of a longer row they are made smaller, all alike."""

    shape: tuple[int, ...]
    """Channels, height and width."""
    clip_norm: float
    """Length that a row may have."""

    def __post_init__(self) -> None:
        check_number("clip_norm", self.clip_norm, gt=0)

    @property
    def size(self) -> int:
        return torch.Size(self.shape).numel()

    @property
    def max_norm(self) -> float:
        return self.clip_norm

    def transform(self, x_t: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Read states from -1 to 1."""
        bright = (x_t.flatten(1).double() + 1) / 2
        return bright * (self.clip_norm / bright.norm(dim=1, keepdim=True).clamp(min=self.clip_norm))


@dataclass(frozen=True)
class OneHotFeatures(FeatureMap):
    """For each column of a row of symbols, but one, a number for each level: 1 where it is that, and 0 elsewhere."""

    counts: tuple[int, ...]
    """Levels of each column."""
    excluded_column: int
    """Column that is not seen, since it is told."""

    def __post_init__(self) -> None:
        if not 0 <= self.excluded_column < len(self.counts) or len(self.counts) < 2:
            raise UsageError(
                "a column of several to leave out",
                f"{self.excluded_column} of {len(self.counts)}",
                "A table needs another column to tell it by",
            )

    @property
    def size(self) -> int:
        return sum(self.counts) - self.counts[self.excluded_column]

    @property
    def max_norm(self) -> float:
        """Return the root of the number of columns: each row has one 1 in each."""
        return float(len(self.counts) - 1) ** 0.5

    def transform(self, x_t: Int64[Tensor, "b k"]) -> Float[Tensor, "b d"]:
        if x_t.shape[1] != len(self.counts) or (x_t >= torch.tensor(self.counts, device=x_t.device)).any():
            raise UsageError(f"rows of {len(self.counts)} columns with {self.counts} levels", "others")
        used_columns = ((j, count) for j, count in enumerate(self.counts) if j != self.excluded_column)
        return torch.cat([F.one_hot(x_t[:, j], count) for j, count in used_columns], 1).double()


@dataclass(frozen=True)
class LinearClassifier(NetworkConfig):
    """One score of the features and a constant; the answers are the logits of two classes, 0 and the score."""

    features: FeatureMap

    def build(self, shape: State, conditions: dict[str, int], rng: Rng) -> "LinearClassifierNetwork":
        if conditions:
            raise UsageError("a linear network sees no conditions", found=", ".join(conditions))
        return LinearClassifierNetwork(self.features)


class LinearClassifierNetwork(nn.Module):
    """The network of `LinearClassifier`."""

    def __init__(self, features: FeatureMap) -> None:
        super().__init__()
        self.features = features
        self.theta = nn.Parameter(torch.zeros(1 + features.size, dtype=torch.float64))
        """Weights, that of the constant first."""
        self.null_values: dict[str, int] = {}

    def forward(self, x_t: State, t: Tensor, cond: Cond) -> Float[Tensor, "b 2"]:
        """Answer, whatever the time."""
        score = self.theta[0] + self.features.transform(x_t) @ self.theta[1:]
        return torch.stack([torch.zeros_like(score), score], 1)

"""Linear binary classifier, and fixed maps from states to its features."""

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError, check_number
from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.network_config import NetworkConfig


class FeatureMap(abc.ABC):
    """Base class of fixed maps from states to feature vectors, which do not depend on the training data.

    Subclasses implement `size`, `max_norm` and `transform`.
    """

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Number of features."""

    @property
    @abc.abstractmethod
    def max_norm(self) -> float:
        """Upper bound on the L2 norm of a feature vector."""

    @abc.abstractmethod
    def transform(self, x_t: State) -> Float[Tensor, "b d"]:
        """Return the feature vectors of states, in float64."""


@dataclass(frozen=True)
class PixelFeatures(FeatureMap):
    """Pixels of an image as features from 0 (black) to 1 (white), clipped to an L2 norm of `clip_norm` per image."""

    shape: tuple[int, ...]
    """Channels, height and width of an image."""
    clip_norm: float
    """Maximum L2 norm of an image's features; the features of an image with a larger norm are rescaled."""

    def __post_init__(self) -> None:
        check_number("clip_norm", self.clip_norm, gt=0)

    @property
    def size(self) -> int:
        return torch.Size(self.shape).numel()

    @property
    def max_norm(self) -> float:
        return self.clip_norm

    def transform(self, x_t: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Return the clipped pixel features of images, whose values are from -1 to 1."""
        pixels = (x_t.flatten(1).double() + 1) / 2
        return pixels * (self.clip_norm / pixels.norm(dim=1, keepdim=True).clamp(min=self.clip_norm))


@dataclass(frozen=True)
class OneHotFeatures(FeatureMap):
    """One-hot encoding of categorical columns, without the target column."""

    counts: tuple[int, ...]
    """Number of categories of each column."""
    excluded_column: int
    """Index of the target column."""

    def __post_init__(self) -> None:
        if not 0 <= self.excluded_column < len(self.counts) or len(self.counts) < 2:
            raise UsageError(
                "at least two columns, and the index of the target column among them",
                f"{len(self.counts)} columns, and the index {self.excluded_column}",
                "Add a column from which to predict the target, or correct the index",
            )

    @property
    def size(self) -> int:
        return sum(self.counts) - self.counts[self.excluded_column]

    @property
    def max_norm(self) -> float:
        """L2 norm of a feature vector: the square root of the number of columns used, each of which has a single 1."""
        return float(len(self.counts) - 1) ** 0.5

    def transform(self, x_t: Int64[Tensor, "b k"]) -> Float[Tensor, "b d"]:
        if x_t.shape[1] != len(self.counts) or (x_t >= torch.tensor(self.counts, device=x_t.device)).any():
            raise UsageError(
                f"rows of {len(self.counts)} columns, with codes below {self.counts}",
                f"rows of {x_t.shape[1]} columns, with codes up to {int(x_t.max()) if x_t.numel() else 0}",
            )
        used_columns = ((j, count) for j, count in enumerate(self.counts) if j != self.excluded_column)
        return torch.cat([F.one_hot(x_t[:, j], count) for j, count in used_columns], 1).double()


@dataclass(frozen=True)
class LinearClassifier(NetworkConfig):
    """Linear binary classifier with an intercept, whose outputs are the logits of two classes, [0, score]."""

    features: FeatureMap

    def build(self, shape: State, conditions: ConditionTypes, rng: Rng) -> "LinearClassifierNetwork":
        if conditions:
            raise UsageError("a linear classifier has no conditions", found=", ".join(conditions))
        return LinearClassifierNetwork(self.features)


class LinearClassifierNetwork(nn.Module):
    """Linear binary classifier as a torch module, configured by `LinearClassifier`."""

    def __init__(self, features: FeatureMap) -> None:
        super().__init__()
        self.features = features
        self.theta = nn.Parameter(torch.zeros(1 + features.size, dtype=torch.float64))
        """Weights of the classifier; the intercept comes first."""
        self.null_values: dict[str, int] = {}

    def forward(self, x_t: State, t: Tensor, cond: Cond) -> Float[Tensor, "b 2"]:
        """Return the logits [0, score]; the time is ignored."""
        score = self.theta[0] + self.features.transform(x_t) @ self.theta[1:]
        return torch.stack([torch.zeros_like(score), score], 1)

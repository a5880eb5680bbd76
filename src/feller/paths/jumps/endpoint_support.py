"""Sets of candidates for the endpoint x_1 of a jump path, and how a network predicts its posterior over them."""

import abc
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.paths.jumps.conditional_path import ConditionalPath
from feller.spaces import Euclidean, Manifold
from feller.spaces.torus import TWO_PI, wrap


class EndpointSupport(abc.ABC):
    """Candidates for the endpoint z of a path, over which the network predicts a posterior."""

    @abc.abstractmethod
    def target(self, x_1: Tensor) -> Tensor:
        """Return the training target for data x_1, as the loss expects it, for example the index of a candidate."""

    @abc.abstractmethod
    def complete_prediction(self, path: ConditionalPath, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Convert the network's output to the prediction that the loss compares with the target.

        The times `t` have one value per entry of the state.
        """

    @abc.abstractmethod
    def candidates(self, prediction: Tensor, event: int) -> tuple[Float[Tensor, "... K"], Tensor]:
        """Return the probabilities of the K candidates, and the candidates.

        `prediction` is the result of `complete_prediction`, and `event` is `ConditionalPath.event_ndim`: 0 if an entry
        of the state is a number, 2 if it is a rotation matrix.
        """

    @abc.abstractmethod
    def mean(self, p: Float[Tensor, "... K"], z: Tensor) -> Tensor:
        """Return the mean of the candidates z with probabilities p."""

    def select(self, z: Tensor, index: Int[Tensor, " m"], u: Float64[Tensor, " m"]) -> Tensor:
        """Return the candidate `index` of each row; for a bin, the uniform number u selects a point in the bin.

        `z` holds the candidates: K that all rows share, or K per row, [m, K, ...].
        """
        return z[index] if z.ndim == 1 else z[torch.arange(len(index), device=index.device), index]


class EndpointGrid(EndpointSupport):
    """Equally spaced candidates: the network predicts logits [..., K], and the likelihood log p_t(x_t | z) is added.

    Because of this likelihood, a network output of zero is already correct where the state determines the endpoint.
    """

    @property
    @abc.abstractmethod
    def centres(self) -> Float64[Tensor, " K"]:
        """All candidate endpoints."""

    @abc.abstractmethod
    def target(self, x_1: Tensor) -> Int[Tensor, "..."]:
        """Return the index of the nearest candidate."""

    def complete_prediction(
        self, path: ConditionalPath, prediction: Float[Tensor, "... K"], x_t: Tensor, t: Tensor
    ) -> Float[Tensor, "... K"]:
        centres = self.centres.to(device=x_t.device, dtype=x_t.dtype)
        if prediction.shape[-1] != len(centres):
            raise UsageError(
                f"logits of {len(centres)} candidates", prediction.shape[-1], "Match the network's output size"
            )
        likelihood = path.log_density(x_t[..., None], centres, t[..., None])
        return prediction + (likelihood - likelihood.amax(-1, keepdim=True)).clamp(min=-1e30).to(prediction.dtype)

    def candidates(self, prediction: Float[Tensor, "... K"], event: int) -> tuple[Float[Tensor, "... K"], Tensor]:
        return prediction.softmax(-1), self.centres.to(prediction.device)

    def mean(self, p: Float[Tensor, "... K"], z: Tensor) -> Tensor:
        return p.double() @ z.double()


def _check_grid(grid: "IntervalBins | CircularBins") -> None:
    if grid.num_bins < 2 or not 0 <= grid.spread <= 1:
        raise UsageError("at least 2 candidates and a spread in [0, 1]", grid)


@dataclass(frozen=True)
class IntervalBins(EndpointGrid):
    """Bins of equal width in an interval; data outside the interval are assigned to the nearest bin."""

    low: float = -1.0
    high: float = 1.0
    num_bins: int = 64
    # Spreading puts about half a bin of mass outside the data's support; `MeanEndpoint` reduces it.
    spread: float = 1.0
    """Fraction of the bin width over which a sampled endpoint is spread; 0 samples bin centres only."""

    def __post_init__(self) -> None:
        _check_grid(self)
        if not self.low < self.high:
            raise UsageError("an interval with low < high", f"{self.low:g} and {self.high:g}")

    @property
    def width(self) -> float:
        """Width of a bin."""
        return (self.high - self.low) / self.num_bins

    @property
    def centres(self) -> Float64[Tensor, " K"]:
        return self.low + self.width * (torch.arange(self.num_bins, dtype=torch.float64) + 0.5)

    def target(self, x_1: Tensor) -> Int[Tensor, "..."]:
        return ((x_1 - self.low) / self.width).floor().clamp(0, self.num_bins - 1).long()

    def select(self, z: Tensor, index: Int[Tensor, " m"], u: Float64[Tensor, " m"]) -> Tensor:
        return z[index] + self.spread * self.width * (u - 0.5)


@dataclass(frozen=True)
class LatticeLevels(EndpointGrid):
    """Discrete levels, equally spaced and including both ends of the range, such as pixel values."""

    low: float = -1.0
    high: float = 1.0
    num_levels: int = 17

    def __post_init__(self) -> None:
        check_number("num_levels", self.num_levels, ge=2)
        check_number("low", self.low, lt=self.high)

    @property
    def centres(self) -> Float64[Tensor, " K"]:
        return torch.linspace(self.low, self.high, self.num_levels, dtype=torch.float64)

    def target(self, x_1: Tensor) -> Int[Tensor, "..."]:
        level = (x_1 - self.low) / (self.high - self.low) * (self.num_levels - 1)
        return level.round().clamp(0, self.num_levels - 1).long()


@dataclass(frozen=True)
class CircularBins(EndpointGrid):
    """Bins of equal width around the circle, starting at angle 0."""

    num_bins: int = 72
    spread: float = 1.0
    """Fraction of the bin width over which a sampled endpoint is spread; 0 samples bin centres only."""

    def __post_init__(self) -> None:
        _check_grid(self)

    @property
    def centres(self) -> Float64[Tensor, " K"]:
        return TWO_PI / self.num_bins * (torch.arange(self.num_bins, dtype=torch.float64) + 0.5)

    def target(self, x_1: Tensor) -> Int[Tensor, "..."]:
        return (wrap(x_1) / TWO_PI * self.num_bins).floor().clamp(max=self.num_bins - 1).long()

    def select(self, z: Tensor, index: Int[Tensor, " m"], u: Float64[Tensor, " m"]) -> Tensor:
        return wrap(z[index] + self.spread * TWO_PI / self.num_bins * (u - 0.5))

    def mean(self, p: Float[Tensor, "... K"], z: Tensor) -> Tensor:
        p, z = p.double(), z.double()
        return wrap(torch.atan2(p @ z.sin(), p @ z.cos()))


@dataclass(frozen=True)
class PointEstimate(EndpointSupport):
    """Single candidate predicted by regression, for endpoints too high-dimensional for a grid.

    Sampling follows the process towards the mean endpoint instead of the mean of the processes towards all endpoints.
    This is exact if the endpoint is certain; otherwise samples have too little variance.
    Source: Holderrieth et al. 2024, arXiv 2410.20587, for rotations.
    """

    space: Manifold = field(default_factory=Euclidean)
    """Manifold onto which predictions are projected."""

    def target(self, x_1: Tensor) -> Tensor:
        return x_1

    def complete_prediction(self, path: ConditionalPath, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return prediction

    def candidates(self, prediction: Tensor, event: int) -> tuple[Float[Tensor, "... K"], Tensor]:
        z = self.space.project(prediction)
        return torch.ones(
            *prediction.shape[: prediction.ndim - event], 1, dtype=prediction.dtype, device=prediction.device
        ), z.unsqueeze(-1 - event)

    def mean(self, p: Float[Tensor, "... K"], z: Tensor) -> Tensor:
        return z.squeeze(p.ndim - 1)


class FinalStep(abc.ABC):
    """Rule for the value at t = 1: an endpoint sampled from the predicted distribution, or the mean of it."""

    @abc.abstractmethod
    def endpoint(
        self, support: EndpointSupport, p: Float[Tensor, "m K"], z: Tensor, index: Tensor, u: Tensor
    ) -> Tensor:
        """Return the value at t = 1 of each row.

        Args:
            support: Set of candidates.
            p: Probability of each candidate, as predicted by the network.
            z: Candidates: K that all rows share, or K per row, [m, K, ...].
            index: Candidate of each row that was sampled with probabilities p.
            u: Uniform numbers, which select a point in a sampled bin.
        """


@dataclass(frozen=True)
class SampleEndpoint(FinalStep):
    """Final step to an endpoint sampled from the predicted probabilities, which keeps the spread of the data."""

    def endpoint(
        self, support: EndpointSupport, p: Float[Tensor, "m K"], z: Tensor, index: Tensor, u: Tensor
    ) -> Tensor:
        return support.select(z, index, u)


@dataclass(frozen=True)
class MeanEndpoint(FinalStep):
    """Final step to the mean of the predicted endpoint distribution.

    The mean avoids values outside the support of the data, which a point sampled from a bin may have.
    """

    def endpoint(
        self, support: EndpointSupport, p: Float[Tensor, "m K"], z: Tensor, index: Tensor, u: Tensor
    ) -> Tensor:
        return support.mean(p, z)

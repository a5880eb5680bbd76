"""How long the phones of a text last, for those that nobody has said yet."""

import abc

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn

from feller.core.rng import Draws
from feller.data.speech.durations import MOST


class Durations(abc.ABC):
    """Fills in durations: of a sound that is known in parts, or of a new one."""

    @property
    @abc.abstractmethod
    def module(self) -> nn.Module:
        """The network that it needs, whose weights a run keeps."""

    @abc.abstractmethod
    def fill(
        self,
        duration: Int64[Tensor, "b m"],
        kept: Bool[Tensor, "b m"],
        phone: Int64[Tensor, "b m"],
        *,
        draws: Draws,
        valid: Bool[Tensor, "b m"] | None = None,
    ) -> Int64[Tensor, "b m"]:
        """Return durations in frames; those that are kept stay as they are.

        Args:
            duration: In frames, where they are kept; elsewhere they mean nothing.
            kept: True is kept.
            phone: Position of each in the inventory.
            draws: Source of randomness, where there is any.
            valid: What is no padding; by default all.
        """


def log_durations(whole: Int[Tensor, "b m"]) -> Float[Tensor, "b m 1"]:
    """Return log(1 + l)."""
    return whole.to(torch.get_default_dtype()).log1p()[:, :, None]


def whole_durations(x: Float[Tensor, "b m 1"]) -> Int[Tensor, "b m"]:
    """Return the whole duration that is nearest, none below 0, and none that no memory holds."""
    return (x[:, :, 0].double().expm1() + 0.5).floor().clamp(0, MOST).long()


def spread_durations(whole: Int[Tensor, "b m"], draws: Draws) -> Float[Tensor, "b m 1"]:
    """Return log(1 + l + u) for u evenly from -1/2 to 1/2: the whole duration that is nearest is l."""
    u = draws.at("spread").uniform(whole.shape, torch.float64, whole.device) - 0.5
    return (whole + u).log1p().to(torch.get_default_dtype())[:, :, None]

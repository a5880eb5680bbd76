"""How long the phones of a text last, for those that nobody has said yet."""

import abc

from jaxtyping import Bool, Int64
from torch import Tensor, nn

from feller.draws import Draws


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

"""Base class of configurations of U-Nets, with the checks of their levels."""

from dataclasses import dataclass

from feller.core.errors import UsageError
from feller.networks.network_config import NetworkConfig


@dataclass(frozen=True)
class LevelsConfig(NetworkConfig):
    """Base class of U-Net configurations; subclasses document the fields and set their defaults."""

    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[bool, ...]
    heads: int

    def __post_init__(self) -> None:
        if not self.multipliers or not self.attention:
            raise UsageError("at least one entry in multipliers and in attention", self)
        if min(self.channels, self.blocks, self.heads, *self.multipliers) < 1:
            raise UsageError("channels, blocks, heads and multipliers of at least 1", self)
        for level, multiplier in enumerate(self.multipliers):
            if self.has_attention(level) and self.channels * multiplier % self.heads:
                raise UsageError(
                    f"a number of heads that divides the channels of level {level}",
                    f"{self.heads} heads for {self.channels * multiplier} channels",
                    "Change heads, channels or multipliers",
                )

    def has_attention(self, level: int) -> bool:
        """Return True if a level has attention; level 0 is the finest."""
        return self.attention[min(level, len(self.attention) - 1)]
